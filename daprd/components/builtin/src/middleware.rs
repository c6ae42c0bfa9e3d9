//! HTTP middleware without a server behind it.

use async_trait::async_trait;
use bytes::Bytes;
use component::{Body, Component, Error, HttpMiddleware, Metadata, Result, body, middleware::Next};
use http::{Request, Response, StatusCode, Uri, uri::PathAndQuery};
use http_body_util::BodyExt;
use regex::Regex;

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
        /// A JSON object from a path to the path that is really called.
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

/// Gives paths other names: `routes` is a JSON object from a path to the path that is really called.
pub struct RouterAlias {
    routes: Vec<(String, String)>,
}

impl RouterAlias {
    /// Reads `routes`, or the metadata fields that begin with a slash.
    ///
    /// # Errors
    /// Where `routes` is no object of strings.
    pub fn open(metadata: &Metadata) -> Result<Self> {
        let mut routes: Vec<(String, String)> = metadata
            .iter()
            .filter(|(key, _)| key.starts_with('/'))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        if let Some(text) = Aliases::read(metadata)?.routes {
            let map: std::collections::BTreeMap<String, String> = serde_json::from_str(&text)
                .map_err(|error| Error::invalid_metadata("routes", error))?;
            routes.extend(map);
        }
        Ok(Self { routes })
    }

    /// The path that stands behind an alias, with its parameters filled in.
    fn target(&self, path: &str) -> Option<String> {
        self.routes
            .iter()
            .find_map(|(alias, target)| rewrite(alias, target, path))
    }
}

/// `{name}` in an alias takes one segment; the target uses it as `{name}` or `{{.name}}`.
fn rewrite(alias: &str, target: &str, path: &str) -> Option<String> {
    let (alias, path): (Vec<&str>, Vec<&str>) =
        (alias.split('/').collect(), path.split('/').collect());
    if alias.len() != path.len() {
        return None;
    }
    let mut rewritten = target.to_owned();
    for (pattern, segment) in alias.into_iter().zip(path) {
        let name = pattern
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'));
        match name {
            Some(name) => {
                rewritten = rewritten
                    .replace(&format!("{{{{.{name}}}}}"), segment)
                    .replace(&format!("{{{name}}}"), segment);
            }
            None if pattern.eq_ignore_ascii_case(segment) => {}
            None => return None,
        }
    }
    Some(rewritten)
}

impl Component for RouterAlias {}

#[async_trait]
impl HttpMiddleware for RouterAlias {
    async fn call(&self, mut request: Request<Body>, next: Next<'_>) -> Response<Body> {
        if let Some(target) = self.target(request.uri().path()) {
            let target = match request.uri().query() {
                Some(query) if target.contains('?') => format!("{target}&{query}"),
                Some(query) => format!("{target}?{query}"),
                None => target,
            };
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
}

impl Component for RouterChecker {}

#[async_trait]
impl HttpMiddleware for RouterChecker {
    async fn call(&self, request: Request<Body>, next: Next<'_>) -> Response<Body> {
        if self.rule.is_match(request.uri().path()) {
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

    #[test]
    fn aliases_carry_their_parameters() {
        let alias = RouterAlias {
            routes: vec![("/a/{id}/b".into(), "/v1.0/state/{{.id}}/x".into())],
        };
        assert_eq!(alias.target("/a/7/b").unwrap(), "/v1.0/state/7/x");
        assert_eq!(alias.target("/a/7/c"), None);
        assert_eq!(alias.target("/a/7"), None);
    }

    #[test]
    fn a_wrong_rule_names_its_field() {
        let error = RouterChecker::open(&Metadata::from_iter([("rule", "(")]))
            .err()
            .unwrap();
        assert!(error.to_string().contains("rule"), "{error}");
    }
}
