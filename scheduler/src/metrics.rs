//! What the scheduler counts (contract 8.6).

use std::time::Duration;

use proto::scheduler::v1::{JobMetadata, job_target_metadata::Type};
use telemetry::{Counter, Gauge, Histogram, Meter};

/// The metrics of the scheduler. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    sidecars: Gauge,
    created: Counter,
    created_failed: Counter,
    triggered: Counter,
    failed: Counter,
    undelivered: Counter,
    deleted: Counter,
    bulk_deleted: Counter,
    latency: Histogram,
    inflight: Gauge,
    pending: Gauge,
    throttled: Counter,
    sidecar_errors: Counter,
    overdue: Gauge,
}

/// What a job is, as metrics say it.
pub(crate) fn kind(metadata: Option<&JobMetadata>) -> &'static str {
    let target = metadata.and_then(|metadata| metadata.target.as_ref());
    match target.and_then(|target| target.r#type.as_ref()) {
        Some(Type::Job(_)) => "job",
        Some(Type::Actor(_)) => "actor",
        None => "unknown",
    }
}

impl Metrics {
    /// Registers the metrics.
    #[must_use]
    pub fn new(meter: &Meter) -> Self {
        let counter = |name: &str, help: &str, label: &str| {
            meter.counter(&format!("scheduler/{name}"), help, &[label])
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            meter.gauge(&format!("scheduler/{name}"), help, labels)
        };
        Metrics {
            sidecars: gauge(
                "sidecars_connected",
                "The number of streams of sidecars that take jobs.",
                &[],
            ),
            created: counter(
                "jobs_created_total",
                "The total number of jobs scheduled.",
                "type",
            ),
            created_failed: counter(
                "jobs_created_failed_total",
                "The total number of jobs that could not be scheduled.",
                "type",
            ),
            triggered: counter(
                "jobs_triggered_total",
                "The total number of deliveries that worked.",
                "type",
            ),
            failed: counter(
                "jobs_failed_total",
                "The total number of deliveries that failed.",
                "type",
            ),
            undelivered: counter(
                "jobs_undelivered_total",
                "The total number of times nobody was there for a job.",
                "type",
            ),
            deleted: counter(
                "jobs_deleted_total",
                "The total number of jobs deleted one by one.",
                "type",
            ),
            bulk_deleted: meter.counter(
                "scheduler/jobs_bulk_deleted_total",
                "The total number of calls that deleted jobs of a target.",
                &[],
            ),
            latency: meter.histogram(
                "scheduler/trigger_latency",
                "The time in milliseconds from sending a job to its result.",
                &["type"],
                &[0.0, 100.0, 500.0, 1000.0, 5000.0, 10000.0],
            ),
            inflight: gauge(
                "concurrency_inflight",
                "Reminders under way, by limit.",
                &["concurrency_key"],
            ),
            pending: gauge(
                "concurrency_pending",
                "Reminders that wait for room, by limit.",
                &["concurrency_key"],
            ),
            throttled: counter(
                "concurrency_throttled_total",
                "The total number of reminders that found no room.",
                "concurrency_key",
            ),
            sidecar_errors: counter(
                "sidecar_errors_total",
                "The total number of errors with sidecars.",
                "reason",
            ),
            // Q-scheduler-overdue
            overdue: gauge(
                "oldest_due_seconds",
                "The age of the oldest job that is due, could be taken by a sidecar, and is not handed out.",
                &[],
            ),
        }
    }

    /// Metrics that nobody reads.
    #[cfg(test)]
    pub fn detached() -> Self {
        let registry = prometheus::Registry::new();
        let meter = Meter::new(&registry, telemetry::MetricOptions::default());
        Self::new(&meter.expect("an empty registry takes all"))
    }

    pub(crate) fn sidecars(&self, count: usize) {
        self.sidecars.set(&[], count as f64);
    }

    pub(crate) fn created(&self, metadata: Option<&JobMetadata>, worked: bool) {
        let counter = if worked {
            &self.created
        } else {
            &self.created_failed
        };
        counter.add(&[kind(metadata)], 1);
    }

    pub(crate) fn deleted(&self, metadata: Option<&JobMetadata>) {
        self.deleted.add(&[kind(metadata)], 1);
    }

    pub(crate) fn bulk_deleted(&self) {
        self.bulk_deleted.add(&[], 1);
    }

    pub(crate) fn delivered(&self, kind: &str, worked: bool, took: Duration) {
        let counter = if worked {
            &self.triggered
        } else {
            &self.failed
        };
        counter.add(&[kind], 1);
        self.latency.observe(&[kind], took.as_secs_f64() * 1000.0);
    }

    pub(crate) fn undelivered(&self, kind: &str) {
        self.undelivered.add(&[kind], 1);
    }

    pub(crate) fn inflight(&self, key: &str, count: u32) {
        self.inflight.set(&[key], f64::from(count));
    }

    pub(crate) fn pending(&self, key: &str, count: usize) {
        self.pending.set(&[key], count as f64);
    }

    pub(crate) fn throttled(&self, key: &str) {
        self.throttled.add(&[key], 1);
    }

    pub(crate) fn sidecar_error(&self, reason: &str) {
        self.sidecar_errors.add(&[reason], 1);
    }

    pub(crate) fn overdue(&self, age: Duration) {
        self.overdue.set(&[], age.as_secs_f64());
    }
}
