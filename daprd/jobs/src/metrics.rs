//! Counts and latency of the jobs that the app is called with (contract 10.8).

use std::time::Duration;

use telemetry::{Counter, Histogram, Meter};

const OPERATION: &str = "job_trigger_op";

pub struct Metrics {
    taken: Counter,
    failed: Counter,
    latencies: Histogram,
    namespace: String,
}

impl Metrics {
    pub fn new(meter: &Meter, namespace: &str) -> Self {
        let labels = ["namespace", "operation"];
        Self {
            taken: meter.counter(
                "component/job/success_count",
                "Jobs that the app was called with and took",
                &labels,
            ),
            failed: meter.counter(
                "component/job/failure_count",
                "Jobs that the app was called with and did not take",
                &labels,
            ),
            latencies: meter.latency(
                "component/job/latencies",
                "How long the app took for a job, in milliseconds",
                &["namespace", "operation", "success"],
            ),
            namespace: namespace.to_owned(),
        }
    }

    pub fn triggered(&self, success: bool, took: Duration) {
        let (count, success) = match success {
            true => (&self.taken, "true"),
            false => (&self.failed, "false"),
        };
        count.add(&[&self.namespace, OPERATION], 1);
        let labels = [self.namespace.as_str(), OPERATION, success];
        self.latencies.observe_duration(&labels, took);
    }
}
