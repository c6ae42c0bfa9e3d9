//! Counts and latencies of workflows (contract 10.8).

use std::time::Duration;

use telemetry::{Counter, Histogram, Meter};

mod attestations;
mod local;

use attestations::Attestations;
pub use local::Local;

/// Operations of clients.
pub const CREATE: &str = "create_workflow";
pub const ADD_EVENT: &str = "add_event";
pub const PURGE: &str = "purge_workflow";

/// By what somebody comes who works on an instance.
pub const METHOD: &str = "method";
pub const REMINDER: &str = "reminder";
pub const STREAM: &str = "stream";

/// How something ended.
pub const SUCCESS: &str = "success";
pub const FAILED: &str = "failed";
pub const TERMINATED: &str = "terminated";
/// It is tried again.
pub const RECOVERABLE: &str = "recoverable";

pub struct Metrics {
    namespace: String,
    operations: Counter,
    operation_latency: Histogram,
    executions: Counter,
    execution_latency: Histogram,
    scheduling_latency: Histogram,
    lock_wait: Histogram,
    activity_operations: Counter,
    activity_operation_latency: Histogram,
    activity_executions: Counter,
    activity_execution_latency: Histogram,
    allowed: Counter,
    denied: Counter,
    payload: Histogram,
    activity_payload: Histogram,
    pub attestations: Attestations,
    /// What happens without reminders.
    pub local: Local,
}

impl Metrics {
    /// `buckets`: upper bounds of what workflows and activities take, in milliseconds; empty means those of other metrics.
    pub fn new(meter: &Meter, namespace: &str, buckets: &[f64]) -> Self {
        let buckets = match buckets {
            [] => meter.latency_buckets(),
            buckets => buckets,
        };
        let took = |name, help, labels: &[&str]| meter.histogram(name, help, labels, buckets);
        let of = |name| ["namespace", name, "status"];
        let (operation, workflow, activity) =
            (of("operation"), of("workflow_name"), of("activity_name"));
        let access = ["src_app_id", "operation", "type"];
        let count = |name, help, labels: &[&str]| meter.counter(name, help, labels);
        let latency = |name, help, labels: &[&str]| meter.latency(name, help, labels);
        Self {
            namespace: namespace.to_owned(),
            attestations: Attestations::new(meter, namespace),
            operations: count(
                "runtime/workflow/operation/count",
                "Operations of clients on workflows",
                &operation,
            ),
            operation_latency: latency(
                "runtime/workflow/operation/latency",
                "How long operations of clients took, in milliseconds",
                &operation,
            ),
            executions: count(
                "runtime/workflow/execution/count",
                "Workflows that ended, and turns that are tried again",
                &workflow,
            ),
            execution_latency: took(
                "runtime/workflow/execution/latency",
                "How long workflows took from their first turn to their end, in milliseconds",
                &workflow,
            ),
            scheduling_latency: latency(
                "runtime/workflow/scheduling/latency",
                "How late first turns began, in milliseconds",
                &["namespace", "workflow_name"],
            ),
            lock_wait: latency(
                "runtime/workflow/lock_wait",
                "How long whoever works on a workflow waited for others who did, in milliseconds",
                &["namespace", "operation"],
            ),
            activity_operations: count(
                "runtime/workflow/activity/operation/count",
                "Activities that were handed to workers",
                &activity,
            ),
            activity_operation_latency: latency(
                "runtime/workflow/activity/operation/latency",
                "How long handing activities to workers took, in milliseconds",
                &activity,
            ),
            activity_executions: count(
                "runtime/workflow/activity/execution/count",
                "Activities that were run",
                &activity,
            ),
            activity_execution_latency: took(
                "runtime/workflow/activity/execution/latency",
                "How long activities took, in milliseconds",
                &activity,
            ),
            allowed: count(
                "runtime/workflow/acl_action_allowed_total",
                "Operations of other apps that a policy allowed",
                &access,
            ),
            denied: count(
                "runtime/workflow/acl_action_denied_total",
                "Operations of other apps that no policy allowed",
                &access,
            ),
            payload: meter.histogram(
                "runtime/workflow/payload/size_ratio",
                "What workers are sent for a turn, as a part of the largest message",
                &["namespace", "workflow_name"],
                &RATIOS,
            ),
            activity_payload: meter.histogram(
                "runtime/workflow/activity/payload/size_ratio",
                "What workers are sent for an activity, as a part of the largest message",
                &["namespace", "workflow_name", "activity_name"],
                &RATIOS,
            ),
            local: Local::new(meter, namespace),
        }
    }

    pub fn operated(&self, operation: &str, status: &str, took: Duration) {
        let labels = [self.namespace.as_str(), operation, status];
        self.operations.add(&labels, 1);
        self.operation_latency.observe_duration(&labels, took);
    }

    /// A workflow has ended, or a turn of it is tried again.
    pub fn executed(&self, workflow: &str, status: &str, took: Option<Duration>) {
        let labels = [self.namespace.as_str(), workflow, status];
        self.executions.add(&labels, 1);
        if let Some(took) = took {
            self.execution_latency.observe_duration(&labels, took);
        }
    }

    /// A first turn has begun so long after it should have.
    pub fn scheduled(&self, workflow: &str, late: Duration) {
        let labels = [self.namespace.as_str(), workflow];
        self.scheduling_latency.observe_duration(&labels, late);
    }

    /// Whoever came by so wanted to work on an instance, and waited for so long.
    pub fn waited(&self, by: &str, waited: Duration) {
        let labels = [self.namespace.as_str(), by];
        self.lock_wait.observe_duration(&labels, waited);
    }

    pub fn activity_begun(&self, activity: &str, status: &str, took: Duration) {
        let labels = [self.namespace.as_str(), activity, status];
        self.activity_operations.add(&labels, 1);
        self.activity_operation_latency
            .observe_duration(&labels, took);
    }

    pub fn activity_ran(&self, activity: &str, status: &str, took: Duration) {
        let labels = [self.namespace.as_str(), activity, status];
        self.activity_executions.add(&labels, 1);
        self.activity_execution_latency
            .observe_duration(&labels, took);
    }

    /// A policy has allowed something to another app, or not.
    pub fn admitted(&self, caller: &str, operation: &str, what: &str, allowed: bool) {
        let count = match allowed {
            true => &self.allowed,
            false => &self.denied,
        };
        count.add(&[caller, operation, what], 1);
    }

    /// A turn is so large.
    pub fn turn_size(&self, workflow: &str, size: usize, most: usize) {
        if most > 0 {
            self.payload
                .observe(&[&self.namespace, workflow], ratio(size, most));
        }
    }

    /// An activity is so large.
    pub fn activity_size(&self, workflow: &str, activity: &str, size: usize, most: usize) {
        if most > 0 {
            let labels = [self.namespace.as_str(), workflow, activity];
            self.activity_payload.observe(&labels, ratio(size, most));
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sizes of messages are far below 2^52"
)]
fn ratio(size: usize, most: usize) -> f64 {
    size as f64 / most as f64
}

const RATIOS: [f64; 9] = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0];
