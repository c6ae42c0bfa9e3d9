//! Counters of the injector (contract 4.8).

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// What is counted.
#[derive(Clone)]
pub struct Metrics {
    requests: IntCounter,
    succeeded: IntCounterVec,
    failed: IntCounterVec,
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
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let name = |name: &str| format!("dapr_injector_sidecar_injection_{name}_total");
        let metrics = Self {
            requests: IntCounter::new(
                name("requests"),
                "The total number of sidecar injection requests.",
            )?,
            succeeded: IntCounterVec::new(
                Opts::new(
                    name("succeeded"),
                    "The total number of successful sidecar injections.",
                ),
                &["app_id"],
            )?,
            failed: IntCounterVec::new(
                Opts::new(
                    name("failed"),
                    "The total number of failed sidecar injections.",
                ),
                &["app_id", "reason"],
            )?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.succeeded.clone()))?;
        registry.register(Box::new(metrics.failed.clone()))?;
        Ok(metrics)
    }

    pub fn request(&self) {
        self.requests.inc();
    }

    pub fn succeeded(&self, app_id: &str) {
        self.succeeded.with_label_values(&[label(app_id)]).inc();
    }

    pub fn failed(&self, app_id: &str, failure: Failure) {
        self.failed
            .with_label_values(&[label(app_id), failure.label()])
            .inc();
    }
}

/// App IDs come from outside and may be longer than any that works.
fn label(app_id: &str) -> &str {
    let end = app_id
        .char_indices()
        .nth(MAX_LABEL)
        .map_or(app_id.len(), |(at, _)| at);
    &app_id[..end]
}

/// Characters of an app ID that a label keeps.
const MAX_LABEL: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::{Encoder as _, TextEncoder};

    #[test]
    fn names_and_labels() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        metrics.request();
        metrics.succeeded("shop");
        metrics.failed(&"é".repeat(100), Failure::Patch);
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&registry.gather(), &mut text)
            .unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("\ndapr_injector_sidecar_injection_requests_total 1\n"));
        assert!(
            text.contains("dapr_injector_sidecar_injection_succeeded_total{app_id=\"shop\"} 1")
        );
        let long = "é".repeat(63);
        assert!(text.contains(&format!(
            "failed_total{{app_id=\"{long}\",reason=\"patch\"}} 1"
        )));
    }
}
