//! Serves HTTP requests of one listener, in the order of contract 2.1: trace, metrics, CORS, token, pipeline, log, routes;
//! what no route matches is service invocation. Q-h2c-upgrade: HTTP/2 is spoken with prior knowledge only.

use std::{borrow::Cow, sync::Arc, time::Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use component::{
    Body, HttpMiddleware, body,
    middleware::{Caller, Endpoint, Next},
};
use http::{Method, Request, Response, StatusCode, header};
use telemetry::trace::{self, Baggage, Kind, Status, TraceContext};

use super::{Call, Matched, Routes, actors, invoke, parse_query, status, unescape};
use crate::{
    Api, ApiError, CallContext, Transport,
    error::Recorded,
    layers::{Access, ApiLog, ApiToken, Cors, cors::is_preflight, log::Line},
    operations,
    reason::general,
};

/// What an HTTP server is made of.
pub struct Options {
    pub api: Arc<Api>,
    pub access: Access,
    pub token: ApiToken,
    pub log: ApiLog,
    /// `spec.httpPipeline`, in order.
    pub pipeline: Arc<ArcSwap<Vec<Arc<dyn HttpMiddleware>>>>,
    /// Origins that CORS lets in; none switches CORS off.
    pub origins: Vec<String>,
    /// Largest request body in bytes; 0 has no limit.
    pub max_body: usize,
    pub tracer: telemetry::trace::Tracer,
    /// The public port serves health and metadata, without token, CORS and pipeline.
    pub public: bool,
}

/// An HTTP server. Clones share it.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    cors: Cors,
    options: Options,
    routes: Routes,
}

/// What the layers outside learn of a call from its route.
#[derive(Clone, Default)]
struct Served {
    name: Cow<'static, str>,
    /// Name of the span, where the path would give each actor its own.
    span: Option<String>,
    health_check: bool,
}

impl Server {
    pub fn new(options: Options) -> Self {
        let served = operations::all().filter(|operation| !options.public || operation.public);
        let routes = Routes::new(served, &|operation, route| {
            options.access.allows(
                Transport::Http,
                operation.group,
                route.version(),
                route.path,
            )
        });
        Self(Arc::new(Inner {
            cors: Cors::new(&options.origins),
            options,
            routes,
        }))
    }

    /// Answers one request.
    pub async fn handle<B>(self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<component::BoxError>,
    {
        let began = Instant::now();
        let inner = &self.0;
        let mut request = request.map(body::streamed);
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let user_agent = request.headers().get(header::USER_AGENT).cloned();
        let parent = TraceContext::from_headers(request.headers());
        let tracer = &inner.options.tracer;
        let mut span = tracer.start(uri.path().to_owned(), Kind::Server, parent.as_ref());
        match span.context() {
            Some(context) => {
                request.extensions_mut().insert(context.clone());
            }
            // Compat: Q-zero-traceparent: apps get the header in any case.
            None if tracer.is_enabled() => trace::inject_none(request.headers_mut()),
            None => {}
        }
        let mut response = match Baggage::from_headers(request.headers()) {
            Ok(baggage) => {
                let mut response = inner.admit(request).await;
                if let Some(baggage) = baggage {
                    baggage.echo(response.headers_mut());
                }
                response
            }
            Err(problem) => {
                ApiError::new(&general::MALFORMED_REQUEST, problem.to_string()).into_response()
            }
        };
        if let (Some(context), true) = (span.context(), tracer.is_enabled()) {
            context.inject(response.headers_mut());
        }
        span.set_status(Status::from_http(response.status()));
        if let Some(Recorded { code, category }) = response.extensions().get() {
            inner.options.api.options.errors.record(code, category);
        }
        let served = response.extensions_mut().remove().unwrap_or_default();
        let Served {
            name,
            span: span_name,
            health_check,
        } = served;
        if let Some(name) = span_name {
            span.set_name(name);
        }
        inner.options.log.http(&Line {
            method: format_args!("{method} {}", uri.path()),
            name: &name,
            user_agent: user_agent.as_ref(),
            code: response.status().as_u16(),
            duration: began.elapsed(),
            health_check,
        });
        response
    }
}

impl Inner {
    /// CORS and the token, then the pipeline.
    async fn admit(&self, mut request: Request<Body>) -> Response<Body> {
        if self.options.public {
            return Box::pin(self.call(request)).await;
        }
        let origin = text(&request, header::ORIGIN);
        let cors = &self.cors;
        // Browsers ask beforehand, and they ask without the token.
        if cors.is_on() && is_preflight(&request) {
            return cors.preflight(&request, &origin);
        }
        let proven = self.options.token.admit(request.headers_mut());
        let mut response = if proven || self.is_health_check(&request) {
            let links = self.options.pipeline.load_full();
            if !links.is_empty()
                && let Some(address) = transport::Peer::ip_of(&request)
            {
                request.extensions_mut().insert(Caller(address));
            }
            let end = Dispatch {
                server: self,
                proven,
            };
            Next::new(&links, &end).run(request).await
        } else {
            unauthorized()
        };
        if cors.is_on() {
            cors.label(response.headers_mut(), &origin);
        }
        response
    }

    /// The operation that a request goes to; none where it is service invocation.
    fn operation<'p>(&'p self, method: &Method, path: &'p Path<'_>) -> Option<Matched<'p>> {
        if invoke::named(path.raw).is_some() {
            return None;
        }
        self.routes.find(method.as_str(), &path.clean)
    }

    /// Whether a request goes to a health check: those need no token, because probes have none.
    fn is_health_check(&self, request: &Request<Body>) -> bool {
        let path = Path::new(request.uri().path());
        self.operation(request.method(), &path)
            .is_some_and(|matched| matched.operation.health_check)
    }

    /// Finds the operation and answers by it; what has no route is service invocation.
    async fn call(&self, request: Request<Body>) -> Response<Body> {
        let uri = request.uri().clone();
        let path = Path::new(uri.path());
        if let Some(matched) = self.operation(request.method(), &path) {
            let served = Served {
                name: matched.operation.name.into(),
                span: actors::span(&matched),
                health_check: matched.operation.health_check,
            };
            let result = self.operate(matched, request).await;
            return finished(result, served);
        }
        if self.options.public {
            return status(StatusCode::NOT_FOUND);
        }
        let allowed = self.invocation_allowed(path.raw);
        let Some(target) = invoke::target(&request).filter(|_| allowed) else {
            return finished(Err(invoke::no_target()), Served::default());
        };
        let served = Served {
            name: format!("InvokeService/{}", target.app_id).into(),
            span: None,
            health_check: false,
        };
        let result = match invoke::limited(request, self.options.max_body) {
            // Boxed, because it is many times what any operation needs.
            Ok(request) => Box::pin(invoke::call(&self.options.api, target, request)).await,
            Err(error) => Err(error),
        };
        finished(result, served)
    }

    fn invocation_allowed(&self, path: &str) -> bool {
        let access = &self.options.access;
        access.allows(Transport::Http, "invoke", "v1", path)
    }

    async fn operate(
        &self,
        matched: Matched<'_>,
        request: Request<Body>,
    ) -> Result<Response<Body>, ApiError> {
        let (parts, body) = request.into_parts();
        let mut params = Vec::with_capacity(matched.params.len());
        for (name, escaped) in matched.params {
            let value = unescape(escaped).ok_or_else(|| {
                ApiError::new(
                    &general::BAD_REQUEST,
                    format!(
                        "invalid request: the path segment {escaped:?} is not escaped properly"
                    ),
                )
            })?;
            params.push((name.to_owned(), value));
        }
        let call = Call {
            context: CallContext::new(Transport::Http, parts.headers, &parts.extensions),
            params,
            query: parse_query(parts.uri.query()),
            body,
            max_body: self.options.max_body,
        };
        (matched.codec)(&self.options.api, call).await
    }
}

/// The end of the pipeline.
struct Dispatch<'s> {
    server: &'s Inner,
    /// Whether the request came with the token.
    proven: bool,
}

#[async_trait]
impl Endpoint for Dispatch<'_> {
    async fn call(&self, request: Request<Body>) -> Response<Body> {
        // A middleware may have made another request of the one that was let in.
        if self.proven || self.server.is_health_check(&request) {
            self.server.call(request).await
        } else {
            unauthorized()
        }
    }
}

fn finished(result: Result<Response<Body>, ApiError>, served: Served) -> Response<Body> {
    let mut response = result.unwrap_or_else(ApiError::into_response);
    response.extensions_mut().insert(served);
    response
}

/// A path as it came, and as it is routed.
struct Path<'p> {
    raw: &'p str,
    clean: Cow<'p, str>,
}

impl<'p> Path<'p> {
    fn new(raw: &'p str) -> Self {
        Self {
            raw,
            clean: clean(raw),
        }
    }
}

/// Slashes in a row count once, and one at the end does not count.
fn clean(path: &str) -> Cow<'_, str> {
    if !path.contains("//") && (path == "/" || !path.ends_with('/')) {
        return path.into();
    }
    let mut cleaned = String::with_capacity(path.len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        cleaned.push('/');
        cleaned.push_str(segment);
    }
    if cleaned.is_empty() {
        cleaned.push('/');
    }
    cleaned.into()
}

fn unauthorized() -> Response<Body> {
    let mut response = Response::new(body::full("invalid api token"));
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    response
}

fn text(request: &Request<Body>, name: header::HeaderName) -> String {
    let value = request.headers().get(name);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        assert_eq!(clean("/v1.0/state"), "/v1.0/state");
        assert_eq!(clean("//v1.0///state/"), "/v1.0/state");
        assert_eq!(clean("/"), "/");
    }
}
