//! The operator's counters (contract 5.2).

use telemetry::{Counter, Meter};

/// The handle. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    created: Counter,
    updated: Counter,
    // Shown because dashboards ask for it; Services go with their workloads, by garbage collection.
    _deleted: Counter,
}

impl Metrics {
    pub fn new(meter: &Meter) -> Self {
        let counter = |verb: &str| {
            let name = format!("operator/service_{verb}_total");
            meter.counter(
                &name,
                &format!("The total number of dapr services {verb}."),
                &["app_id"],
            )
        };
        Self {
            created: counter("created"),
            updated: counter("updated"),
            _deleted: counter("deleted"),
        }
    }

    pub fn service_created(&self, app_id: &str) {
        self.created.add(&[app_id], 1);
    }

    pub fn service_updated(&self, app_id: &str) {
        self.updated.add(&[app_id], 1);
    }
}
