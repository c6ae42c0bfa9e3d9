//! HTTP middleware without a server behind it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use component::{Body, Component, Error, HttpMiddleware, Metadata, Result, body, middleware::Next};
use http::{Request, Response, StatusCode, Uri, uri::PathAndQuery};
use http_body_util::BodyExt;
use regex::{Captures, Regex};
use url::form_urlencoded;

/// Turns request bodies into upper case, as they stream by: a demonstration.
pub struct Uppercase;

impl Component for Uppercase {}

#[async_trait]
impl HttpMiddleware for Uppercase {
    async fn call(&self, request: Request<Body>, next: Next<'_>) -> Response<Body> {
        let request = request.map(|body| {
            let upper = body
                .map_frame(|frame| frame.map_data(|bytes| Bytes::from(bytes.to_ascii_uppercase())));
            body::streamed(upper)
        });
        next.run(request).await
    }
}

component::metadata! {
    /// What `routeralias` is configured with, beside fields that begin with a slash: a path, and the path behind it.
    pub struct Aliases {
        /// From a path to the path that is really called: an object in YAML or JSON.
        routes: Option<String> => "routes";
    }
}

component::metadata! {
    /// What `routerchecker` is configured with.
    pub struct Rule {
        /// A regular expression that paths have to match.
        rule: String => "rule";
    }
}

/// Gives paths other names: a request for an alias goes on as one for the path behind it, with what stands in the places of
/// `{name}` or `{name:expression}` as parameters of its query.
pub struct RouterAlias {
    routes: Vec<Route>,
}

struct Route {
    alias: Regex,
    target: String,
}

impl RouterAlias {
    /// Reads `routes`, and the metadata fields that begin with a slash.
    ///
    /// # Errors
    /// Where `routes` is no object of texts in YAML or JSON, or an alias is none.
    pub fn open(metadata: &Metadata) -> Result<Self> {
        let mut routes: BTreeMap<String, String> = metadata
            .iter()
            .filter(|(key, _)| key.starts_with('/'))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        if let Some(text) = Aliases::read(metadata)?.routes {
            let listed: BTreeMap<String, String> = serde_saphyr::from_str(&text)
                .map_err(|error| Error::invalid_metadata("routes", error))?;
            routes.extend(listed);
        }
        let routes = routes.into_iter().map(|(alias, target)| {
            let compiled = compile(&alias).map_err(|problem| {
                Error::invalid_metadata("routes", format!("{alias:?}: {problem}"))
            })?;
            Ok(Route {
                alias: compiled,
                target,
            })
        });
        Ok(Self {
            routes: routes.collect::<Result<_>>()?,
        })
    }

    /// The path and query that a request goes on with, if it is for an alias.
    fn target(&self, path: &str, query: Option<&str>) -> Option<String> {
        let decoded = values::path::decode(path);
        let found = |route: &Route| {
            route
                .alias
                .captures(&decoded)
                .map(|it| (route.target.clone(), it.len(), parameters(route, &it)))
        };
        let (target, places, parameters) = self.routes.iter().find_map(found)?;
        let query = match places {
            1 => query.unwrap_or_default().to_owned(),
            _ => {
                let own = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
                let mut all: Vec<(String, String)> = own.into_owned().chain(parameters).collect();
                // As upstream writes a query: by name.
                all.sort_by(|one, other| one.0.cmp(&other.0));
                form_urlencoded::Serializer::new(String::new())
                    .extend_pairs(all)
                    .finish()
            }
        };
        let mark = if target.contains('?') { '&' } else { '?' };
        Some(match query.is_empty() {
            true => target,
            false => format!("{target}{mark}{query}"),
        })
    }
}

fn parameters(route: &Route, found: &Captures<'_>) -> Vec<(String, String)> {
    let names = route.alias.capture_names().flatten();
    let named =
        names.filter_map(|name| Some((name.to_owned(), found.name(name)?.as_str().to_owned())));
    named.collect()
}

/// An alias as a regular expression for the whole path; a place without an expression takes one segment.
fn compile(alias: &str) -> std::result::Result<Regex, String> {
    let mut expression = String::from("^");
    let mut rest = alias;
    while let Some((literal, place)) = rest.split_once('{') {
        let end = closing(place).ok_or("a brace is not closed")?;
        let (name, pattern) = place[..end]
            .split_once(':')
            .unwrap_or((&place[..end], "[^/]+"));
        expression.push_str(&format!("{}(?P<{name}>{pattern})", regex::escape(literal)));
        rest = &place[end + 1..];
    }
    expression.push_str(&regex::escape(rest));
    expression.push('$');
    Regex::new(&expression).map_err(|error| error.to_string())
}

/// Where the brace ends that is open: expressions have braces of their own.
fn closing(place: &str) -> Option<usize> {
    let mut open = 1;
    place.char_indices().find_map(|(at, letter)| {
        match letter {
            '{' => open += 1,
            '}' => open -= 1,
            _ => {}
        }
        (open == 0).then_some(at)
    })
}

impl Component for RouterAlias {}

#[async_trait]
impl HttpMiddleware for RouterAlias {
    async fn call(&self, mut request: Request<Body>, next: Next<'_>) -> Response<Body> {
        if let Some(target) = self.target(request.uri().path(), request.uri().query()) {
            let mut parts = request.uri().clone().into_parts();
            if let Ok(path) = PathAndQuery::try_from(target) {
                parts.path_and_query = Some(path);
                if let Ok(uri) = Uri::from_parts(parts) {
                    *request.uri_mut() = uri;
                }
            }
        }
        next.run(request).await
    }
}

/// Lets only paths through that match `rule`, a regular expression.
pub struct RouterChecker {
    rule: Regex,
}

impl RouterChecker {
    /// Reads `rule`.
    ///
    /// # Errors
    /// Where it is absent or no regular expression.
    pub fn open(metadata: &Metadata) -> Result<Self> {
        let Rule { rule } = Rule::read(metadata)?;
        let rule = Regex::new(&rule).map_err(|error| Error::invalid_metadata("rule", error))?;
        Ok(Self { rule })
    }

    /// Whether every reading of the path matches, with its query: Q-middleware-readings.
    fn admits(&self, uri: &Uri) -> bool {
        let query = uri
            .query()
            .map(|query| format!("?{query}"))
            .unwrap_or_default();
        let readings = values::path::requested(uri.path());
        let mut readings = readings.iter();
        readings.all(|path| self.rule.is_match(&format!("{path}{query}")))
    }
}

impl Component for RouterChecker {}

#[async_trait]
impl HttpMiddleware for RouterChecker {
    async fn call(&self, request: Request<Body>, next: Next<'_>) -> Response<Body> {
        if self.admits(request.uri()) {
            return next.run(request).await;
        }
        let mut response = Response::new(body::full("invalid router"));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alias(routes: &str) -> RouterAlias {
        RouterAlias::open(&Metadata::from_iter([("routes", routes)])).unwrap()
    }

    #[test]
    fn aliases_carry_their_parameters() {
        let alias = alias(r#"{"/a/{id}/b": "/v1.0/state/x", "/n/{n:[0-9]{2}}": "/n"}"#);
        let target = |path, query| alias.target(path, query);
        assert_eq!(target("/a/7/b", None).unwrap(), "/v1.0/state/x?id=7");
        assert_eq!(
            target("/a/a%20b/b", Some("z=1&b=2")).unwrap(),
            "/v1.0/state/x?b=2&id=a+b&z=1"
        );
        assert_eq!(target("/n/42", None).unwrap(), "/n?n=42");
        for other in ["/a/7/c", "/a/7", "/A/7/b", "/n/4", "/n/421"] {
            assert_eq!(target(other, None), None, "{other}");
        }
    }

    #[test]
    fn aliases_are_yaml_or_fields_of_their_own() {
        let yaml = alias("/a: /b?c=1\n/d: /e");
        assert_eq!(yaml.target("/a", Some("x=y")).unwrap(), "/b?c=1&x=y");
        assert_eq!(yaml.target("/d", None).unwrap(), "/e");
        let field = RouterAlias::open(&Metadata::from_iter([("/Mall", "/v1.0/x")])).unwrap();
        assert_eq!(field.target("/Mall", None).unwrap(), "/v1.0/x");
        for bad in ["- a", "/a/{b: /c", "/a/{b:(}: /c"] {
            assert!(
                RouterAlias::open(&Metadata::from_iter([("routes", bad)])).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_rule_sees_every_reading_and_the_query() {
        let checker = RouterChecker::open(&Metadata::from_iter([(
            "rule",
            "^/public[a-z/]*([?]x=1)?$",
        )]));
        let checker = checker.unwrap();
        let admits = |uri: &'static str| checker.admits(&Uri::from_static(uri));
        assert!(admits("/public/a") && admits("/public?x=1"));
        for refused in [
            "/public?x=2",
            "/public/../secret",
            "/public/%2e%2e/secret",
            "/public/%61",
        ] {
            assert!(!admits(refused), "{refused}");
        }
    }

    #[test]
    fn a_wrong_rule_names_its_field() {
        let error = RouterChecker::open(&Metadata::from_iter([("rule", "(")]))
            .err()
            .unwrap();
        assert!(error.to_string().contains("rule"), "{error}");
    }
}
