//! How far the sidecar has come, for its health API.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use api::operations::health::Readiness as Asked;
use daemon::Health;

/// The targets of the chassis, and whether calls out are served.
#[derive(Clone)]
pub struct Readiness {
    health: Health,
    outbound: Arc<AtomicBool>,
}

impl Readiness {
    pub fn new(health: Health) -> Self {
        Self {
            health,
            outbound: Arc::default(),
        }
    }

    /// Calls out are served from now on.
    pub fn set_outbound(&self) {
        self.outbound.store(true, Ordering::Release);
    }
}

impl Asked for Readiness {
    fn unready(&self) -> Vec<String> {
        self.health.unready()
    }

    fn outbound_ready(&self) -> bool {
        self.outbound.load(Ordering::Acquire)
    }
}
