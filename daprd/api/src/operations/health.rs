//! Health operations.

use super::{Api, Operation, Route};
use crate::{ApiError, http::health as codec, reason::health as reason};

pub static ROWS: &[Operation] = &[
    Operation {
        name: "Healthz",
        group: "healthz",
        rpcs: &[],
        routes: &[Route {
            methods: &["GET"],
            path: "/v1.0/healthz",
            codec: |api, call| Box::pin(codec::healthz(api, call)),
        }],
        health_check: true,
        public: true,
    },
    Operation {
        name: "HealthzOutbound",
        group: "healthz",
        rpcs: &[],
        routes: &[Route {
            methods: &["GET"],
            path: "/v1.0/healthz/outbound",
            codec: |api, call| Box::pin(codec::outbound(api, call)),
        }],
        health_check: true,
        public: true,
    },
];

/// How far the sidecar has come.
pub trait Readiness: Send + Sync {
    /// The parts that are not ready yet.
    fn unready(&self) -> Vec<String>;
    /// Whether calls from the app to the outside can be served.
    fn outbound_ready(&self) -> bool;
}

impl Api {
    /// Whether every part is ready; `app_id`, where given, must be this sidecar's.
    pub fn healthz(&self, app_id: Option<&str>) -> Result<(), ApiError> {
        let unready = self.options.health.unready();
        if !unready.is_empty() {
            return Err(ApiError::new(
                &reason::NOT_READY,
                format!("dapr is not ready: {unready:?}"),
            ));
        }
        match app_id {
            Some(asked) if asked != self.options.app_id => Err(ApiError::new(
                &reason::APP_ID_DIFFERS,
                "dapr app-id does not match",
            )),
            _ => Ok(()),
        }
    }

    /// Whether the app may call out already.
    pub fn healthz_outbound(&self) -> Result<(), ApiError> {
        if self.options.health.outbound_ready() {
            return Ok(());
        }
        Err(ApiError::new(
            &reason::OUTBOUND_NOT_READY,
            "dapr outbound is not ready",
        ))
    }
}
