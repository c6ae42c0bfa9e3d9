//! Service invocation operations.

use component::Body;
use http::{HeaderMap, Request, Response};
use invoke::{Error, Reply};
use proto::runtime::v1::InvokeServiceRequest;

use super::{Api, Operation, Rpc};
use crate::{
    ApiError, CallContext,
    reason::{general, invoke as reason},
};

/// HTTP invocation has no row of routes: whatever no route matches is one (contract 2.1).
pub static ROWS: &[Operation] = &[Operation::new(
    "InvokeService",
    "invoke",
    &[Rpc {
        name: "InvokeService",
        version: "v1",
        codec: |api, request| Box::pin(crate::grpc::invoke::serve(api, request)),
    }],
    &[],
)];

impl Api {
    /// Calls another app over gRPC, by message. `metadata` is that of the caller's call. The app's own error is a reply.
    pub async fn invoke_service(
        &self,
        call: &CallContext,
        request: InvokeServiceRequest,
        mut metadata: HeaderMap,
    ) -> Result<Reply, ApiError> {
        let id = request.id;
        let message = request.message.unwrap_or_default();
        if let Some(trace) = &call.trace {
            trace.inject_grpc(&mut metadata);
        }
        let invoker = &self.options.invoker;
        let reply = invoker.message(&id, message, metadata).await;
        reply.map_err(|error| invoke_error(&id, &error))
    }

    /// Calls another app over HTTP; both bodies are streamed.
    pub async fn invoke_http(
        &self,
        target: &str,
        method: &str,
        request: Request<Body>,
    ) -> Result<Response<Body>, ApiError> {
        self.options
            .invoker
            .http(target, method, request)
            .await
            .map_err(|error| invoke_error(target, &error))
    }
}

fn invoke_error(id: &str, error: &Error) -> ApiError {
    let row = match error {
        Error::Denied { .. } => &reason::DENIED,
        Error::TooLarge => &general::BODY_TOO_LARGE,
        _ => &reason::FAILED,
    };
    ApiError::new(row, format!("failed to invoke, id: {id}, err: {error}"))
}
