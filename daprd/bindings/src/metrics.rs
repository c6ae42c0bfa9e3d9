//! Count and latency of the events of input bindings (contract 10.8).

use std::time::Duration;

use telemetry::{Counter, Histogram, Meter};

const LABELS: [&str; 3] = ["component", "namespace", "success"];

pub struct Metrics {
    count: Counter,
    latencies: Histogram,
    namespace: String,
}

impl Metrics {
    pub fn new(meter: &Meter, namespace: &str) -> Self {
        Self {
            count: meter.counter(
                "component/input_binding/count",
                "Events of an input binding",
                &LABELS,
            ),
            latencies: meter.latency(
                "component/input_binding/latencies",
                "How long the app took for the events of an input binding, in milliseconds",
                &LABELS,
            ),
            namespace: namespace.to_owned(),
        }
    }

    pub fn delivered(&self, name: &str, success: bool, took: Duration) {
        let success = if success { "true" } else { "false" };
        let labels = [name, &self.namespace, success];
        self.count.add(&labels, 1);
        self.latencies.observe_duration(&labels, took);
    }
}
