//! Service invocation operations.

use component::Body;
use http::{Request, Response};
use invoke::Error;
use proto::{common::v1::InvokeResponse, runtime::v1::InvokeServiceRequest};

use super::{Api, Operation, rpc};
use crate::{ApiError, CallContext, reason::invoke as reason};

/// HTTP invocation has no row of routes: whatever no route matches is one (contract 2.1).
pub static ROWS: &[Operation] = &[Operation::new(
    "InvokeService",
    "invoke",
    &[rpc!("InvokeService", "v1", invoke_service)],
    &[],
)];

impl Api {
    /// Calls another app over gRPC, by message.
    pub async fn invoke_service(
        &self,
        call: &CallContext,
        request: InvokeServiceRequest,
    ) -> Result<InvokeResponse, ApiError> {
        let id = request.id;
        let message = request.message.unwrap_or_default();
        let mut headers = http::HeaderMap::new();
        if let Some(trace) = &call.trace {
            trace.inject_grpc(&mut headers);
        }
        let reply = self.options.invoker.message(&id, message, headers).await;
        let (response, _headers) = reply.map_err(|error| invoke_error(&id, error))?;
        Ok(response)
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
            .map_err(|error| invoke_error(target, error))
    }
}

fn invoke_error(id: &str, error: Error) -> ApiError {
    let row = match &error {
        Error::Denied { .. } => &reason::DENIED,
        _ => &reason::FAILED,
    };
    let failed = ApiError::new(row, format!("failed to invoke, id: {id}, err: {error}"));
    match error {
        Error::Status(_) | Error::App(_) | Error::Denied { .. } => {
            failed.passing(error.into_status())
        }
        _ => failed,
    }
}
