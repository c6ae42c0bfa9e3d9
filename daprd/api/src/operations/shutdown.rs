//! The shutdown operation.

use std::sync::Arc;

use proto::runtime::v1::ShutdownRequest;

use super::{Api, Operation, Route, rpc};
use crate::{ApiError, CallContext, http::by_path};

pub static ROWS: &[Operation] = &[Operation::new(
    "Shutdown",
    "shutdown",
    &[rpc!("Shutdown", "v1", shutdown)],
    &[Route {
        methods: &["POST"],
        path: "/v1.0/shutdown",
        codec: |api, call| {
            Box::pin(by_path(
                call,
                |_, _| {},
                move |context, request| async move { api.shutdown(&context, request).await },
            ))
        },
    }],
)];

/// What a shutdown request sets off: `true` asks for an exit at once with code 1.
pub type Trigger = Arc<dyn Fn(bool) + Send + Sync>;

/// Header that asks for an exit at once.
const FORCE: &str = "dapr-force-shutdown";

impl Api {
    /// Begins to shut down, after the reply.
    pub async fn shutdown(
        &self,
        call: &CallContext,
        _request: ShutdownRequest,
    ) -> Result<(), ApiError> {
        let force = call.header(FORCE).is_some_and(values::is_truthy);
        (self.options.shutdown)(force);
        Ok(())
    }
}
