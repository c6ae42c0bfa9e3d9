//! `middleware.http.opa`: has a policy in Rego decide on requests, within the sidecar. The policy is the package `http`, and
//! what it says of `allow` counts.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use component::{
    Body, Component, Error, HttpMiddleware, Metadata, Result, body, body::ReadError,
    middleware::Next,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, request::Parts};
use regorus::{Engine, Value, utils::limits::ExecutionTimerConfig};
use serde::{Deserialize, Serialize};
use url::form_urlencoded;
use values::header::canonical;

use crate::answer;

component::metadata! {
    /// What the middleware is opened with.
    pub struct Settings {
        /// The policy: a module in Rego whose package is `http`.
        rego: String => "rego";
        /// The status of what is refused, where the policy names none.
        status: u16 => "defaultStatus", default(403);
        /// The headers that the policy sees, separated by commas.
        headers: Vec<String> => "includedHeaders", default(Vec::new());
        /// The policy sees the body, up to 4 MiB.
        read_body: Option<String> => "readBody";
    }
}

/// What is asked of the policy.
const RULE: &str = "data.http.allow";

/// Largest body that a policy sees.
const MAX_BODY: usize = 4 << 20;

/// How long a policy may think about a request.
const LIMIT: Duration = Duration::from_secs(1);

/// Tells that the policy itself is at fault.
const FAULT: HeaderName = HeaderName::from_static("x-dapr-opa-error");

/// Decides by a policy.
pub struct Opa {
    /// Compiled; each request has a copy, of which most is shared.
    engine: Engine,
    status: StatusCode,
    headers: Vec<HeaderName>,
    read_body: bool,
}

/// What the policy is asked about.
#[derive(Serialize)]
struct Input<'r> {
    request: Asked<'r>,
}

#[derive(Serialize)]
struct Asked<'r> {
    method: &'r str,
    path: &'r str,
    path_parts: Vec<&'r str>,
    raw_query: &'r str,
    query: BTreeMap<String, Vec<String>>,
    headers: BTreeMap<String, String>,
    /// Always empty: it is there because policies may ask for it.
    scheme: &'r str,
    body: &'r str,
}

/// What the policy says, if it says more than yes or no.
#[derive(Deserialize)]
struct Verdict {
    #[serde(default)]
    allow: bool,
    #[serde(default)]
    additional_headers: BTreeMap<String, String>,
    #[serde(default)]
    status_code: Option<u16>,
}

impl Opa {
    /// Compiles the policy.
    ///
    /// # Errors
    /// Where it cannot be compiled.
    pub fn open(metadata: &Metadata) -> Result<Self> {
        let settings = Settings::read(metadata)?;
        let status = StatusCode::from_u16(settings.status).ok();
        let status = status.filter(|status| status.as_u16() < 600);
        let status = status.ok_or_else(|| {
            let problem = format!("{} is not in 100 to 599", settings.status);
            Error::invalid_metadata("defaultStatus", problem)
        })?;
        let names = settings.headers.iter().map(HeaderName::try_from);
        let headers: Result<_, _> = names.collect();
        let headers = headers.map_err(|error| Error::invalid_metadata("includedHeaders", error))?;
        let mut engine = Engine::new();
        // Modules that are written for the first version of the language say no more than that.
        engine.set_rego_v0(true);
        engine.set_execution_timer_config(ExecutionTimerConfig {
            limit: LIMIT,
            check_interval: NonZeroU32::MIN.saturating_add(999),
        });
        let broken = |error| Error::invalid_metadata("rego", format!("{error:#}"));
        let added = engine.add_policy("inline.rego".to_owned(), settings.rego);
        added.map_err(broken)?;
        // Some faults show only when all of it is put together.
        engine.set_input(Value::new_object());
        engine.eval_query(RULE.to_owned(), false).map_err(broken)?;
        Ok(Self {
            engine,
            status,
            headers,
            read_body: settings.read_body.as_deref().is_some_and(values::is_truthy),
        })
    }

    /// Asks about each reading of the path, so that none is a way around: the first that is not allowed decides, else the
    /// path decoded once.
    fn judge(&self, request: &Parts, body: &Bytes) -> Result<Verdict, String> {
        let body = String::from_utf8_lossy(body);
        let decoded = values::path::decode(request.uri.path());
        let mut verdict = self.judge_one(request, &decoded, &body)?;
        for reading in values::path::requested(request.uri.path()) {
            if verdict.allow && reading != decoded {
                let other = self.judge_one(request, &reading, &body)?;
                if !other.allow {
                    verdict = other;
                }
            }
        }
        Ok(verdict)
    }

    fn judge_one(&self, request: &Parts, path: &str, body: &str) -> Result<Verdict, String> {
        let raw_query = request.uri.query().unwrap_or_default();
        let mut query = BTreeMap::<String, Vec<String>>::new();
        for (name, value) in form_urlencoded::parse(raw_query.as_bytes()) {
            query
                .entry(name.into_owned())
                .or_default()
                .push(value.into_owned());
        }
        let input = Input {
            request: Asked {
                method: request.method.as_str(),
                path,
                path_parts: path.trim_matches('/').split('/').collect(),
                raw_query,
                query,
                headers: self.shown(&request.headers),
                scheme: "",
                body,
            },
        };
        let input = serde_json::to_string(&input).map_err(|error| error.to_string())?;
        let mut engine = self.engine.clone();
        let input = Value::from_json_str(&input).map_err(|error| error.to_string())?;
        engine.set_input(input);
        let result = engine.eval_rule(RULE.to_owned());
        match result.map_err(|error| format!("{error:#}"))? {
            Value::Bool(allow) => Ok(Verdict {
                allow,
                additional_headers: BTreeMap::new(),
                status_code: None,
            }),
            Value::Undefined => Err(format!("the policy says nothing of {RULE}")),
            other => {
                let text = other.to_json_str().map_err(|error| error.to_string())?;
                serde_json::from_str(&text)
                    .map_err(|error| format!("{RULE} is neither a boolean nor a verdict: {error}"))
            }
        }
    }

    /// The headers that the policy may see, as Go spells them.
    fn shown(&self, headers: &HeaderMap) -> BTreeMap<String, String> {
        let shown = self
            .headers
            .iter()
            .filter(|name| headers.contains_key(*name));
        shown
            .map(|name| {
                let values = headers.get_all(name).iter();
                let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()));
                let values: Vec<_> = values.collect();
                (canonical(name.as_str()), values.join(", "))
            })
            .collect()
    }

    fn refuse(&self, verdict: &Verdict) -> Response<Body> {
        let status = verdict.status_code.map(StatusCode::from_u16);
        let status = status.unwrap_or(Ok(self.status));
        // Nobody knows what a status without a name is for.
        let status = status.ok().filter(|it| it.canonical_reason().is_some());
        let mut response = answer::status(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
        add(response.headers_mut(), &verdict.additional_headers);
        response
    }

    fn at_fault(&self, problem: &str) -> Response<Body> {
        tracing::warn!("a policy in Rego decides nothing, so the request is refused: {problem}");
        let mut response = answer::status(self.status);
        let headers = response.headers_mut();
        headers.insert(FAULT, HeaderValue::from_static("true"));
        response
    }
}

/// What cannot be a header is left out.
fn add(headers: &mut HeaderMap, more: &BTreeMap<String, String>) {
    for (name, value) in more {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
}

impl Component for Opa {}

#[async_trait]
impl HttpMiddleware for Opa {
    async fn call(&self, request: Request<Body>, next: Next<'_>) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        let (read, body) = if self.read_body {
            match body::read(body, MAX_BODY).await {
                Ok(read) => (read.clone(), body::full(read)),
                Err(ReadError::TooLarge { .. }) => {
                    return answer::status(StatusCode::PAYLOAD_TOO_LARGE);
                }
                Err(ReadError::Broken(_)) => return answer::status(StatusCode::BAD_REQUEST),
            }
        } else {
            (Bytes::new(), body)
        };
        match self.judge(&parts, &read) {
            Ok(verdict) if verdict.allow => {
                add(&mut parts.headers, &verdict.additional_headers);
                next.run(Request::from_parts(parts, body)).await
            }
            Ok(verdict) => self.refuse(&verdict),
            Err(problem) => self.at_fault(&problem),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opa(rego: &str, more: &[(&str, &str)]) -> Result<Opa> {
        let fields = more.iter().copied().chain([("rego", rego)]);
        Opa::open(&Metadata::from_iter(fields))
    }

    fn judge(
        opa: &Opa,
        request: http::request::Builder,
        body: &'static str,
    ) -> Result<Verdict, String> {
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        opa.judge(&parts, &Bytes::from_static(body.as_bytes()))
    }

    const FIRST: &str = r#"
        package http
        default allow = true
        allow = false { input.request.path_parts[0] == "secret" }
        allow = {"status_code": 301, "additional_headers": {"location": "/there"}} {
            not input.request.headers["X-Token"]
            input.request.path == "/moved"
        }
        allow = {"allow": true, "additional_headers": {"x-user": input.request.query.user[0]}} {
            input.request.query.user
        }
    "#;

    #[test]
    fn a_policy_of_the_first_version_decides() {
        let opa = opa(FIRST, &[("includedHeaders", "x-token, x-other")]).unwrap();
        assert!(judge(&opa, Request::get("/public"), "").unwrap().allow);
        for secret in ["/secret/x", "/%73ecret", "/x/../secret", "/%2573ecret"] {
            assert!(
                !judge(&opa, Request::get(secret), "").unwrap().allow,
                "{secret}"
            );
        }
        let moved = judge(&opa, Request::get("/moved"), "").unwrap();
        assert_eq!((moved.allow, moved.status_code), (false, Some(301)));
        assert_eq!(opa.refuse(&moved).headers()["location"], "/there");
        let known = Request::get("/moved").header("x-token", "t");
        assert!(judge(&opa, known, "").unwrap().allow);
        let named = judge(&opa, Request::get("/a?user=me"), "").unwrap();
        assert_eq!(named.additional_headers["x-user"], "me");
    }

    #[test]
    fn a_policy_of_the_second_version_decides() {
        let rego = "package http\nimport rego.v1\ndefault allow := false\n\
                    allow if input.request.body == \"open\"\n";
        let opa = opa(rego, &[("readBody", "true")]).unwrap();
        assert!(judge(&opa, Request::post("/"), "open").unwrap().allow);
        assert!(!judge(&opa, Request::post("/"), "shut").unwrap().allow);
    }

    #[test]
    fn a_policy_that_says_nothing_refuses() {
        let opa = opa(
            "package http\nallow { input.request.method == \"GET\" }",
            &[],
        )
        .unwrap();
        assert!(judge(&opa, Request::get("/"), "").unwrap().allow);
        let problem = judge(&opa, Request::post("/"), "").err().unwrap();
        let response = opa.at_fault(&problem);
        assert_eq!(response.status(), 403);
        assert_eq!(response.headers()[FAULT], "true");
    }

    #[test]
    fn what_cannot_be_compiled_is_named() {
        for rego in [
            "package http\nallow {",
            "allow = true",
            "package http\nallow { x > 1 }",
        ] {
            let error = opa(rego, &[]).err().unwrap();
            assert!(error.to_string().contains("rego"), "{rego}: {error}");
        }
        assert!(opa(FIRST, &[("defaultStatus", "600")]).is_err());
        assert!(opa(FIRST, &[("includedHeaders", "a b")]).is_err());
    }

    #[test]
    fn a_policy_that_does_not_end_is_broken_off() {
        let rego = "package http\nallow { count([x | some i, j, k; numbers.range(1, 2000)[i]; \
                    numbers.range(1, 2000)[j]; numbers.range(1, 2000)[k]; x := i + j + k]) > 0; \
                    input.request.method }";
        let opa = opa(rego, &[]);
        let began = std::time::Instant::now();
        assert!(
            opa.and_then(|opa| judge(&opa, Request::get("/"), "").map_err(Error::invalid_request))
                .is_err()
        );
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
