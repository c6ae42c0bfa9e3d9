//! Serves gRPC requests of one listener.

use std::{collections::HashMap, sync::Arc, time::Instant};

use component::{Body, body};
use invoke::Invoker;
use telemetry::trace::{self, Baggage, Kind, TraceContext};
use tonic::{Code, Status};

use super::{
    Began, Codec, Response,
    service::{Traced, status_of},
};
use crate::{
    Api, Transport,
    layers::{Access, ApiLog, ApiToken, log::Line},
    operations::{self, workflow::task_hub},
};

/// Path prefix of the `Dapr` service.
const DAPR_SERVICE: &str = "/dapr.proto.runtime.v1.Dapr/";

/// The RPC whose answer is an app's.
const INVOKE_SERVICE: &str = "/dapr.proto.runtime.v1.Dapr/InvokeService";

/// How the library begins its words on a message that is larger than it may be.
const OVER_THE_LIMIT: &str = "Error, decoded message length too large";

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
pub struct Server(Arc<Inner>);

struct Inner {
    options: Options,
    /// By path; what access rules deny is not there.
    rpcs: HashMap<&'static str, Codec>,
}

impl Server {
    pub fn new(options: Options) -> Self {
        let access = &options.access;
        let rpcs = operations::all()
            .flat_map(|operation| operation.rpcs.iter().map(move |rpc| (operation.group, rpc)))
            .filter(|(group, rpc)| access.allows(Transport::Grpc, group, rpc.version, ""))
            .map(|(_, rpc)| rpc)
            // Access rules are about the API of Dapr alone.
            .chain(task_hub::RPCS)
            .map(|rpc| (rpc.path, rpc.codec))
            .collect();
        Self(Arc::new(Inner { options, rpcs }))
    }

    /// Answers one request; failures are gRPC statuses.
    pub async fn handle<B>(self, request: http::Request<B>) -> Response
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<component::BoxError>,
    {
        let began = Instant::now();
        let mut request = request.map(body::streamed);
        let options = &self.0.options;
        let uri = request.uri().clone();
        let path = uri.path();
        let user_agent = request.headers().get(http::header::USER_AGENT).cloned();
        let admitted = options.token.admit(request.headers_mut());
        let parent = TraceContext::from_grpc(request.headers());
        let tracer = &options.tracer;
        let span = tracer.start(path.to_owned(), Kind::Server, parent.as_ref());
        match span.context() {
            Some(context) => {
                let extensions = request.extensions_mut();
                extensions.insert(context.clone());
                if tracer.is_enabled() {
                    extensions.insert(Traced {
                        context: context.clone(),
                        of_app: path == INVOKE_SERVICE,
                    });
                }
            }
            // Compat: Q-zero-traceparent: apps get the header in any case.
            None if tracer.is_enabled() => trace::inject_none(request.headers_mut()),
            None => {}
        }
        let response = match Baggage::from_headers(request.headers()) {
            _ if !admitted => Status::unauthenticated("missing or invalid api token").into_http(),
            Err(problem) => Status::invalid_argument(problem.to_string()).into_http(),
            Ok(baggage) => {
                let mut response = self.route(path, request).await;
                if let Some(baggage) = baggage {
                    baggage.echo(response.headers_mut());
                }
                response
            }
        };
        let code = status_of(&response).map_or(Code::Ok, |status| status.code());
        options.log.grpc(&Line {
            method: format_args!("{path}"),
            name: path.rsplit('/').next().unwrap_or_default(),
            user_agent: user_agent.as_ref(),
            code: code as u16,
            duration: began.elapsed(),
            health_check: false,
        });
        response
    }

    async fn route(&self, path: &str, mut request: http::Request<Body>) -> Response {
        let options = &self.0.options;
        if let Some(codec) = self.0.rpcs.get(path) {
            let began = Began::default();
            request.extensions_mut().insert(began.clone());
            let response = codec(Arc::clone(&options.api), request).await;
            return if began.is_set() {
                response
            } else {
                refused_for_size(response)
            };
        }
        if let Some(rpc) = path.strip_prefix(DAPR_SERVICE) {
            return Status::unimplemented(format!("unknown method {rpc}")).into_http();
        }
        // A method of SDKs that this sidecar does not know is none of another app.
        if let Some(rpc) = path.strip_prefix(task_hub::SERVICE) {
            return Status::unimplemented(format!("unknown method {rpc}")).into_http();
        }
        // Q-reflection: whatever `dapr-app-id` says; an app's own reflection is not reached through its sidecar.
        if path.starts_with("/grpc.reflection.") {
            return Box::pin(::invoke::reflection(request)).await;
        }
        Box::pin(options.invoker.proxy(request)).await
    }
}

/// A message over the limit is RESOURCE_EXHAUSTED, as everywhere in gRPC; the library says OUT_OF_RANGE. What an operation
/// says, which may be an app's status, stays.
fn refused_for_size(response: Response) -> Response {
    if let Some(status) = status_of(&response)
        && status.code() == Code::OutOfRange
        && status.message().starts_with(OVER_THE_LIMIT)
    {
        return Status::resource_exhausted(status.message()).into_http();
    }
    response
}
