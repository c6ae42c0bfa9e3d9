//! Serves gRPC requests of one listener.

use std::{sync::Arc, time::Instant};

use component::{Body, body};
use invoke::Invoker;
use telemetry::trace::{Kind, TraceContext};
use tonic::{Code, Status};

use super::{DAPR_SERVICE, Response};
use crate::{
    Api, Transport,
    layers::{Access, ApiLog, ApiToken, log::Line},
    operations,
};

/// What the gRPC server is made of.
pub struct Options {
    pub api: Arc<Api>,
    pub invoker: Invoker,
    pub access: Access,
    pub token: ApiToken,
    pub log: ApiLog,
    pub tracer: telemetry::trace::Tracer,
}

/// The gRPC API. Clones share it.
#[derive(Clone)]
pub struct Server(Arc<Options>);

impl Server {
    pub fn new(options: Options) -> Self {
        Self(Arc::new(options))
    }

    /// Answers one request; failures are gRPC statuses.
    pub async fn handle<B>(self, request: http::Request<B>) -> Response
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<component::BoxError>,
    {
        let began = Instant::now();
        let mut request = request.map(body::streamed);
        let path = request.uri().path().to_owned();
        let user_agent = header(&request, http::header::USER_AGENT);
        let admitted = self.0.token.admit(request.headers_mut());
        let parent = TraceContext::from_grpc(request.headers());
        let span = self
            .0
            .tracer
            .start(path.clone(), Kind::Server, parent.as_ref());
        if let Some(context) = span.context() {
            request.extensions_mut().insert(context.clone());
        }
        let response = if admitted {
            self.route(&path, request).await
        } else {
            Status::unauthenticated("missing or invalid api token").into_http()
        };
        let code = status_of(&response);
        self.0.log.grpc(&Line {
            method: &path,
            name: path.rsplit('/').next().unwrap_or_default(),
            user_agent: &user_agent,
            code: code as u16,
            duration: began.elapsed(),
            health_check: false,
        });
        response
    }

    async fn route(&self, path: &str, request: http::Request<Body>) -> Response {
        if let Some(rpc) = path.strip_prefix(DAPR_SERVICE) {
            return self.dapr(rpc, request).await;
        }
        // Q-reflection: whatever `dapr-app-id` says; an app's own reflection is not reached through its sidecar.
        if path.starts_with("/grpc.reflection.") {
            return ::invoke::reflection(request).await;
        }
        self.0.invoker.proxy(request).await
    }

    async fn dapr(&self, rpc: &str, request: http::Request<Body>) -> Response {
        let allowed = operations::by_rpc(rpc).filter(|(operation, rpc)| {
            self.0
                .access
                .allows(Transport::Grpc, operation.group, rpc.version, "")
        });
        match allowed {
            Some((_, rpc)) => (rpc.codec)(Arc::clone(&self.0.api), request).await,
            None => Status::unimplemented(format!("unknown method {rpc}")).into_http(),
        }
    }
}

/// The status as far as it is known with the head: streams end with theirs in the trailers.
fn status_of(response: &Response) -> Code {
    Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code())
}

fn header(request: &http::Request<Body>, name: http::HeaderName) -> String {
    let value = request.headers().get(name);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}
