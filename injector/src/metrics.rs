//! Counters of the injector (contract 4.8). App IDs come from outside; the meter limits how many series they make.

use telemetry::{Counter, Meter};

/// What is counted.
#[derive(Clone)]
pub struct Metrics {
    requests: Counter,
    succeeded: Counter,
    failed: Counter,
    peer_refused: Counter,
}

/// Why an injection did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The request is not one that the injector may or can serve.
    PodPatch,
    /// The patch could not be made.
    Patch,
    /// The response could not be made.
    Response,
}

impl Failure {
    fn label(self) -> &'static str {
        match self {
            Self::PodPatch => "pod_patch",
            Self::Patch => "patch",
            Self::Response => "response",
        }
    }
}

impl Metrics {
    pub fn new(meter: &Meter) -> Self {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            meter.counter(
                &format!("injector/sidecar_injection/{name}_total"),
                help,
                labels,
            )
        };
        let metrics = Self {
            requests: counter(
                "requests",
                "The total number of sidecar injection requests.",
                &[],
            ),
            succeeded: counter(
                "succeeded",
                "The total number of successful sidecar injections.",
                &["app_id"],
            ),
            failed: counter(
                "failed",
                "The total number of failed sidecar injections.",
                &["app_id", "reason"],
            ),
            peer_refused: meter.counter(
                "injector/peer/refused_total",
                "Connections refused because one address had its part of them already.",
                &["what"],
            ),
        };
        // Shown from the start, so that a rate can be taken of the first one.
        metrics.requests.add(&[], 0);
        metrics
    }

    pub fn peer_refused(&self, what: &str) {
        self.peer_refused.add(&[what], 1);
    }

    pub fn request(&self) {
        self.requests.add(&[], 1);
    }

    pub fn succeeded(&self, app_id: &str) {
        self.succeeded.add(&[shown(app_id)], 1);
    }

    pub fn failed(&self, app_id: &str, failure: Failure) {
        self.failed.add(&[shown(app_id), failure.label()], 1);
    }
}

/// An app ID as labels, the log and answers show it: what is longer than any that works is cut.
pub fn shown(app_id: &str) -> &str {
    let end = app_id
        .char_indices()
        .nth(MAX_SHOWN)
        .map_or(app_id.len(), |(at, _)| at);
    &app_id[..end]
}

/// Characters of an app ID that are shown.
const MAX_SHOWN: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::{Encoder as _, Registry, TextEncoder};

    fn printed(registry: &Registry) -> String {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&registry.gather(), &mut text)
            .unwrap();
        String::from_utf8(text).unwrap()
    }

    fn bench() -> (Registry, Metrics) {
        let registry = Registry::new();
        let meter = Meter::new(&registry, telemetry::MetricOptions::default()).unwrap();
        (registry, Metrics::new(&meter))
    }

    #[test]
    fn names_and_labels() {
        let (registry, metrics) = bench();
        assert!(
            printed(&registry).contains("\ndapr_injector_sidecar_injection_requests_total 0\n")
        );
        metrics.request();
        metrics.succeeded("shop");
        metrics.failed(&"é".repeat(100), Failure::Patch);
        let text = printed(&registry);
        assert!(text.contains("\ndapr_injector_sidecar_injection_requests_total 1\n"));
        assert!(
            text.contains("dapr_injector_sidecar_injection_succeeded_total{app_id=\"shop\"} 1")
        );
        let long = "é".repeat(63);
        assert!(text.contains(&format!(
            "failed_total{{app_id=\"{long}\",reason=\"patch\"}} 1"
        )));
    }

    #[test]
    fn random_app_ids_make_no_more_series_than_a_metric_may_have() {
        let (registry, metrics) = bench();
        for number in 0..10_000 {
            metrics.failed(&format!("app-{number}"), Failure::PodPatch);
            metrics.succeeded(&format!("app-{number}"));
        }
        let text = printed(&registry);
        assert!(text.lines().count() < 2 * 4200, "{}", text.lines().count());
        assert!(text.contains("app_id=\"overflow\""));
    }
}
