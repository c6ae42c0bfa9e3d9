//! What publishing and deliveries share: the loaded components, what the engine was made of, the metrics.

use std::sync::Arc;

use app_channel::AppChannel;
use blocks::{registry, state};
use component::Spawn;
use telemetry::trace::Tracer;
use values::{Clock, SystemClock};

use crate::{brokers::Brokers, metrics::Metrics, outbox::UnderWay};

/// What the engine is made of.
pub struct Options {
    pub registry: registry::Options,
    pub app_id: String,
    pub tracer: Tracer,
    pub app: AppChannel,
    /// The stores that may have an outbox.
    pub state: state::Stores,
    /// What runs its tasks.
    pub spawn: Arc<dyn Spawn>,
}

/// What most programs leave as it is.
#[derive(Clone)]
pub struct Settings {
    /// Whether the app is asked what it subscribes to (`disable-init-endpoints` turns it off).
    pub programmatic: bool,
    pub clock: Arc<dyn Clock>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            programmatic: true,
            clock: Arc::new(SystemClock),
        }
    }
}

pub struct Core {
    pub options: Options,
    pub clock: Arc<dyn Clock>,
    pub brokers: Brokers,
    pub metrics: Metrics,
    /// Transactions with an outbox that this sidecar carries out.
    pub under_way: UnderWay,
}

/// Where deliveries are logged.
pub const LOG: &str = "dapr.runtime.processor.subscription";
