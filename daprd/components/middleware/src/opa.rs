//! `middleware.http.opa`: has a policy in Rego decide on requests, within the sidecar. The policy is the package `http`, and
//! what it says of `allow` counts.

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use component::{
    Body, Component, Error, HttpMiddleware, Metadata, Result, body,
    body::ReadError,
    middleware::{Next, answer},
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, request::Parts};
use regorus::{Engine, Value, utils::limits::ExecutionTimerConfig};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::Semaphore,
    task::spawn_blocking,
    time::{Instant, timeout},
};
use url::form_urlencoded;
use values::header::canonical;

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

/// Longest wait for a body.
const BODY_WAIT: Duration = Duration::from_secs(60);

/// How long a policy may think about a request, in all.
const LIMIT: Duration = Duration::from_secs(1);

/// Most requests that a policy thinks about at a time, each on a thread of its own.
const MOST_AT_ONCE: usize = 16;

/// Most requests that wait for that, and how long they do.
const MOST_WAITING: usize = 1024;
const WAIT: Duration = Duration::from_secs(5);

/// Tells that the policy itself is at fault.
const FAULT: HeaderName = HeaderName::from_static("x-dapr-opa-error");

/// Decides by a policy.
pub struct Opa {
    policy: Arc<Policy>,
    status: StatusCode,
    read_body: bool,
    places: Arc<Semaphore>,
    queue: Semaphore,
}

/// A policy. It thinks for as long as it wants, up to [`LIMIT`], and so not where requests are served.
struct Policy {
    /// Compiled; each request has a copy, of which most is shared.
    engine: Engine,
    headers: Vec<HeaderName>,
}

/// Why a policy was not asked.
enum Unasked {
    /// Too many requests are there.
    Busy,
    /// Something broke.
    Broken(String),
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
        engine.set_execution_timer_config(timer(LIMIT));
        let broken = |error| Error::invalid_metadata("rego", format!("{error:#}"));
        let added = engine.add_policy("inline.rego".to_owned(), settings.rego);
        added.map_err(broken)?;
        // Some faults show only when all of it is put together.
        engine.set_input(Value::new_object());
        engine.eval_query(RULE.to_owned(), false).map_err(broken)?;
        Ok(Self {
            policy: Arc::new(Policy { engine, headers }),
            status,
            read_body: settings.read_body.as_deref().is_some_and(values::is_truthy),
            places: Arc::new(Semaphore::new(MOST_AT_ONCE)),
            queue: Semaphore::new(MOST_WAITING),
        })
    }

    /// Has the policy asked on another thread. The place there goes along: a policy that thinks takes it, also where nobody waits
    /// for the answer any more.
    async fn ask(
        &self,
        request: Parts,
        body: Bytes,
    ) -> Result<(Parts, Result<Verdict, String>), Unasked> {
        let waiting = self.queue.try_acquire().map_err(|_| Unasked::Busy)?;
        let place = timeout(WAIT, Arc::clone(&self.places).acquire_owned()).await;
        let place = place.ok().and_then(Result::ok).ok_or(Unasked::Busy)?;
        drop(waiting);
        let policy = Arc::clone(&self.policy);
        let asked = spawn_blocking(move || {
            let verdict = policy.judge(&request, &body);
            drop(place);
            (request, verdict)
        });
        asked
            .await
            .map_err(|error| Unasked::Broken(error.to_string()))
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

impl Policy {
    /// Asks about each reading of the path, so that none is a way around: the first that is not allowed decides, else the
    /// path decoded once.
    fn judge(&self, request: &Parts, body: &Bytes) -> Result<Verdict, String> {
        let until = Instant::now() + LIMIT;
        let body = String::from_utf8_lossy(body);
        let decoded = values::path::decode(request.uri.path());
        let mut verdict = self.judge_one(request, &decoded, &body, until)?;
        for reading in values::path::requested(request.uri.path()) {
            if verdict.allow && reading != decoded {
                let other = self.judge_one(request, &reading, &body, until)?;
                if !other.allow {
                    verdict = other;
                }
            }
        }
        Ok(verdict)
    }

    fn judge_one(
        &self,
        request: &Parts,
        path: &str,
        body: &str,
        until: Instant,
    ) -> Result<Verdict, String> {
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
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("the policy has thought for {LIMIT:?}"));
        }
        let mut engine = self.engine.clone();
        engine.set_execution_timer_config(timer(left));
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
}

fn timer(limit: Duration) -> ExecutionTimerConfig {
    ExecutionTimerConfig {
        limit,
        check_interval: NonZeroU32::MIN.saturating_add(999),
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
        let (parts, body) = request.into_parts();
        let (read, body) = if self.read_body {
            match timeout(BODY_WAIT, body::read(body, MAX_BODY)).await {
                Ok(Ok(read)) => (read.clone(), body::full(read)),
                Ok(Err(ReadError::TooLarge { .. })) => {
                    return answer::status(StatusCode::PAYLOAD_TOO_LARGE);
                }
                Ok(Err(ReadError::Broken(_))) => return answer::status(StatusCode::BAD_REQUEST),
                Err(_) => return answer::status(StatusCode::REQUEST_TIMEOUT),
            }
        } else {
            (Bytes::new(), body)
        };
        match self.ask(parts, read).await {
            Ok((mut parts, Ok(verdict))) if verdict.allow => {
                add(&mut parts.headers, &verdict.additional_headers);
                next.run(Request::from_parts(parts, body)).await
            }
            Ok((_, Ok(verdict))) => self.refuse(&verdict),
            Ok((_, Err(problem))) | Err(Unasked::Broken(problem)) => self.at_fault(&problem),
            Err(Unasked::Busy) => {
                tracing::warn!("a policy in Rego is asked about more requests than it decides on");
                answer::text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "too many requests wait for the policy to decide on them",
                )
            }
        }
    }
}

#[cfg(test)]
mod tests;
