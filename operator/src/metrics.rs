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

/// Callers of the webhook that had their part already. Cheap to clone.
#[derive(Clone)]
pub struct PeerMetrics(Counter);

impl PeerMetrics {
    pub fn new(meter: &Meter) -> Self {
        Self(meter.counter(
            "operator/peer/refused_total",
            "Connections and conversions refused because one address had its part of them already.",
            &["what"],
        ))
    }

    pub fn refused(&self, what: &str) {
        self.0.add(&[what], 1);
    }
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
