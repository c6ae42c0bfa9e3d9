//! What happens without reminders, on the fast path, and what janitors find.

use std::time::Duration;

use telemetry::{Counter, Histogram, Meter};

use super::{FAILED, SUCCESS};

pub struct Local {
    namespace: String,
    wakes: Counter,
    wake_latency: Histogram,
    drives: Counter,
    drive_latency: Histogram,
    folds: Counter,
    fold_wait: Histogram,
}

impl Local {
    pub fn new(meter: &Meter, namespace: &str) -> Self {
        let labels = ["namespace", "status"];
        let count = |name, help| meter.counter(name, help, &labels);
        let latency = |name, help, labels: &[&str]| meter.latency(name, help, labels);
        Self {
            namespace: namespace.to_owned(),
            wakes: count(
                "runtime/workflow/local_wake/count",
                "Workflows that were woken without a reminder of their own",
            ),
            wake_latency: latency(
                "runtime/workflow/local_wake/drive_latency",
                "How long it took until they had been seen to, in milliseconds",
                &labels,
            ),
            drives: count(
                "runtime/workflow/local_activity/count",
                "Activities that were run without a reminder of their own",
            ),
            drive_latency: latency(
                "runtime/workflow/local_activity/drive_latency",
                "How long they took, in milliseconds",
                &labels,
            ),
            folds: count(
                "runtime/workflow/completions_fold/count",
                "Completions that turns took without an inbox",
            ),
            fold_wait: latency(
                "runtime/workflow/completions_fold/wait_latency",
                "How long they waited for a turn, in milliseconds",
                &["namespace"],
            ),
        }
    }

    /// A workflow was woken without a reminder, or could not be.
    pub fn woken(&self, done: bool, took: Duration) {
        let labels = [self.namespace.as_str(), if done { SUCCESS } else { FAILED }];
        self.wakes.add(&labels, 1);
        self.wake_latency.observe_duration(&labels, took);
    }

    /// A janitor has found what nobody had seen to.
    pub fn recovered(&self) {
        self.wakes.add(&[&self.namespace, RECOVERED], 1);
    }

    /// An activity was run without a reminder, or could not be.
    pub fn driven(&self, done: bool, took: Duration) {
        let labels = [self.namespace.as_str(), if done { SUCCESS } else { FAILED }];
        self.drives.add(&labels, 1);
        self.drive_latency.observe_duration(&labels, took);
    }

    /// A janitor has asked for so many activities once more.
    pub fn asked_again(&self, activities: usize) {
        if activities > 0 {
            let activities = u64::try_from(activities).unwrap_or(u64::MAX);
            self.drives.add(&[&self.namespace, ASKED_AGAIN], activities);
        }
    }

    /// A completion was stored by a turn, or is to be sent again.
    pub fn folded(&self, stored: bool, took: Duration) {
        let status = if stored { FOLDED } else { NOT_FOLDED };
        self.folds.add(&[&self.namespace, status], 1);
        if stored {
            self.fold_wait.observe_duration(&[&self.namespace], took);
        }
    }
}

/// What the janitor found, and what became of completions that went straight to a turn.
const RECOVERED: &str = "janitor_recovered";
const ASKED_AGAIN: &str = "janitor_redispatched";
const FOLDED: &str = "folded";
const NOT_FOLDED: &str = "fold_nacked";
