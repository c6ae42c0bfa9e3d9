//! The shutdown operation.

use std::sync::Arc;

use proto::runtime::v1::ShutdownRequest;

use super::{Api, Operation, Route, rpc};
use crate::{ApiError, CallContext, http::shutdown as codec};

pub static ROWS: &[Operation] = &[Operation::new(
    "Shutdown",
    "shutdown",
    &[rpc!("Shutdown", "v1", shutdown_rpc)],
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

    /// The same over gRPC, which cannot force it.
    pub async fn shutdown_rpc(
        &self,
        _call: &CallContext,
        _request: ShutdownRequest,
    ) -> Result<(), ApiError> {
        self.shutdown(false);
        Ok(())
    }
}
