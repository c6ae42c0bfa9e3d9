//! `dapr_runtime_mtls_*` (contract 10.8).

use prometheus::core::Collector;
use prometheus::{IntCounterVec, Opts, Registry};

/// Counters of certificate requests; they appear in the registry with their first count.
#[derive(Debug)]
pub(crate) struct Metrics {
    app_id: String,
    init: IntCounterVec,
    init_failed: IntCounterVec,
    rotated: IntCounterVec,
    rotation_failed: IntCounterVec,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry, app_id: &str) -> Self {
        let metrics = Self::unregistered(app_id);
        for counter in [
            &metrics.init,
            &metrics.init_failed,
            &metrics.rotated,
            &metrics.rotation_failed,
        ] {
            register(registry, counter);
        }
        metrics
    }

    pub(crate) fn none() -> Self {
        Self::unregistered("")
    }

    fn unregistered(app_id: &str) -> Self {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels).expect("the names are valid")
        };
        Self {
            app_id: app_id.to_owned(),
            init: counter(
                "dapr_runtime_mtls_init_total",
                "First workload certificates obtained.",
                &["app_id"],
            ),
            init_failed: counter(
                "dapr_runtime_mtls_init_fail_total",
                "Failed requests for the first workload certificate.",
                &["app_id", "reason"],
            ),
            rotated: counter(
                "dapr_runtime_mtls_workload_cert_rotated_total",
                "Workload certificates renewed.",
                &["app_id"],
            ),
            rotation_failed: counter(
                "dapr_runtime_mtls_workload_cert_rotated_fail_total",
                "Failed requests for a workload certificate.",
                &["app_id", "reason"],
            ),
        }
    }

    pub(crate) fn succeeded(&self, first: bool) {
        let counter = if first { &self.init } else { &self.rotated };
        counter.with_label_values(&[&self.app_id]).inc();
    }

    pub(crate) fn failed(&self, first: bool, reason: &str) {
        if first {
            self.init_failed
                .with_label_values(&[self.app_id.as_str(), reason])
                .inc();
        }
        self.rotation_failed
            .with_label_values(&[self.app_id.as_str(), reason])
            .inc();
    }
}

/// A program that restarts in process registers again: the new counter takes the old one's place.
fn register(registry: &Registry, counter: &IntCounterVec) {
    let boxed = || -> Box<dyn Collector> { Box::new(counter.clone()) };
    if registry.register(boxed()).is_err() {
        let replaced = registry
            .unregister(boxed())
            .and_then(|()| registry.register(boxed()));
        if let Err(error) = replaced {
            tracing::warn!(%error, "security metrics are not exported");
        }
    }
}
