//! Service invocation operations.

use component::Body;
use http::{Request, Response};
use invoke::Error;
use proto::{common::v1::InvokeResponse, runtime::v1::InvokeServiceRequest};
use tonic::metadata::MetadataMap;

use super::{Api, Operation, rpc};
use crate::{
    ApiError, CallContext, Reply,
    reason::{general, invoke as reason},
};

/// HTTP invocation has no row of routes: whatever no route matches is one (contract 2.1).
pub static ROWS: &[Operation] = &[Operation::new(
    "InvokeService",
    "invoke",
    &[rpc!("InvokeService", "v1", invoke_service)],
    &[],
)];

impl Api {
    /// Calls another app over gRPC, by message. Metadata of the caller go to the app, and those of its answer back, of an error
    /// too.
    pub async fn invoke_service(
        &self,
        call: &CallContext,
        request: InvokeServiceRequest,
    ) -> Result<Reply<InvokeResponse>, ApiError> {
        let id = request.id;
        let message = request.message.unwrap_or_default();
        let mut metadata = call.headers.clone();
        if let Some(trace) = &call.trace {
            trace.inject_grpc(&mut metadata);
        }
        let invoker = &self.options.invoker;
        let reply = invoker.message(&id, message, metadata).await;
        let reply = reply.map_err(|error| invoke_error(&id, &error))?;
        match reply.result {
            Ok(message) => Ok(Reply {
                message,
                metadata: reply.metadata,
            }),
            Err(mut status) => {
                *status.metadata_mut() = MetadataMap::from_headers(reply.metadata);
                Err(ApiError::of_status(status))
            }
        }
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
