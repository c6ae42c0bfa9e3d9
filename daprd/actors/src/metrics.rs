//! Metrics of actors (contract 10.8).

use telemetry::{Counter, Gauge, Meter};

use crate::Error;

const KIND: [&str; 1] = ["actor_type"];
const FIRED: [&str; 2] = ["actor_type", "success"];
const OPERATION: [&str; 2] = ["actor_type", "operation"];

pub struct Metrics {
    pending: Gauge,
    timers: Gauge,
    timers_fired: Counter,
    reminders_fired: Counter,
    rebalanced: Counter,
    deactivated: Counter,
    deactivation_failed: Counter,
    reports: Counter,
    orders: Counter,
}

impl Metrics {
    pub fn new(meter: &Meter) -> Self {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            meter.counter(&format!("runtime/actor/{name}"), help, labels)
        };
        let gauge =
            |name: &str, help: &str| meter.gauge(&format!("runtime/actor/{name}"), help, &KIND);
        Self {
            pending: gauge(
                "pending_actor_calls",
                "The number of pending actor calls waiting to acquire the per-actor lock.",
            ),
            timers: gauge("timers", "The number of actor timer requests."),
            timers_fired: counter(
                "timers_fired_total",
                "The number of actor timers fired requests.",
                &FIRED,
            ),
            reminders_fired: counter(
                "reminders_fired_total",
                "The number of actor reminders fired requests.",
                &FIRED,
            ),
            rebalanced: counter(
                "rebalanced_total",
                "The number of the actors that moved or were deactivated by placement.",
                &KIND,
            ),
            deactivated: counter(
                "deactivated_total",
                "The number of the successful actor deactivation.",
                &KIND,
            ),
            deactivation_failed: counter(
                "deactivated_failed_total",
                "The number of the failed actor deactivation.",
                &["actor_type", "reason"],
            ),
            reports: counter(
                "status_report_total",
                "The number of the successful status reports to placement service.",
                &OPERATION,
            ),
            orders: counter(
                "table_operation_recv_total",
                "The number of the received actor placement table operations.",
                &OPERATION,
            ),
        }
    }

    /// A call waits for its turn until what is answered is dropped.
    pub fn pending(&self, kind: &str) -> Pending<'_> {
        self.pending.add(&[kind], 1.0);
        Pending {
            gauge: &self.pending,
            kind: kind.to_owned(),
        }
    }

    pub fn timers(&self, kind: &str, change: f64) {
        self.timers.add(&[kind], change);
    }

    pub fn timer_fired(&self, kind: &str, success: bool) {
        self.timers_fired.add(&[kind, text(success)], 1);
    }

    pub fn reminder_fired(&self, kind: &str, success: bool) {
        self.reminders_fired.add(&[kind, text(success)], 1);
    }

    pub fn rebalanced(&self, kind: &str) {
        self.rebalanced.add(&[kind], 1);
    }

    pub fn deactivated(&self, kind: &str) {
        self.deactivated.add(&[kind], 1);
    }

    pub fn deactivation_failed(&self, kind: &str, error: &Error) {
        let reason = match error {
            Error::Failed { status, .. } => format!("status_code_{status}"),
            _ => "invoke".to_owned(),
        };
        self.deactivation_failed.add(&[kind, &reason], 1);
    }

    pub fn reported(&self) {
        self.reports.add(&["", "send"], 1);
    }

    pub fn ordered(&self, operation: &str) {
        self.orders.add(&["", operation], 1);
    }
}

fn text(success: bool) -> &'static str {
    if success { "true" } else { "false" }
}

/// One call that waits.
pub struct Pending<'a> {
    gauge: &'a Gauge,
    kind: String,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.gauge.add(&[&self.kind], -1.0);
    }
}
