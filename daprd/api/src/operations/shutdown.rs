//! The shutdown operation.

use std::sync::Arc;

use http::HeaderMap;
use proto::runtime::v1::ShutdownRequest;

use super::{Api, Operation, Route, Rpc};
use crate::{grpc, http::shutdown as codec};

pub static ROWS: &[Operation] = &[Operation::new(
    "Shutdown",
    "shutdown",
    &[Rpc {
        name: "Shutdown",
        version: "v1",
        codec: |api, request| {
            let force = is_forced(request.headers());
            Box::pin(grpc::unary(
                api,
                request,
                move |api, _, _: ShutdownRequest| async move {
                    api.shutdown(force);
                    Ok(())
                },
            ))
        },
    }],
    &[Route {
        methods: &["POST"],
        path: "/v1.0/shutdown",
        codec: |api, call| Box::pin(codec::shutdown(api, call)),
    }],
)];

/// What a shutdown request sets off: `true` asks for an exit at once with code 1.
pub type Trigger = Arc<dyn Fn(bool) + Send + Sync>;

impl Api {
    /// Begins to shut down, after the reply.
    pub fn shutdown(&self, force: bool) {
        (self.options.shutdown)(force);
    }
}

/// Whether the headers of a request ask for an exit at once.
pub(crate) fn is_forced(headers: &HeaderMap) -> bool {
    headers
        .get("dapr-force-shutdown")
        .and_then(|value| value.to_str().ok())
        .is_some_and(values::is_truthy)
}
