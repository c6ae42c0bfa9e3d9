//! What is told of the components that could not be opened: a metric, and why, for whoever asks.

use std::collections::{BTreeMap, BTreeSet};

use crds::{Component, Kind};
use parking_lot::Mutex;
use telemetry::{Gauge, Meter};
use tokio::sync::watch;

use super::plan::Plan;

/// Which components could not be opened, and why.
pub struct Failures {
    gauge: Gauge,
    /// The series of the metric that there are.
    shown: Mutex<BTreeSet<[String; 2]>>,
    reasons: Mutex<BTreeMap<String, String>>,
    /// Counts what may be changes.
    changes: watch::Sender<u64>,
}

impl Failures {
    pub fn new(meter: &Meter) -> Self {
        Self {
            gauge: meter.gauge(
                "runtime/component/failed",
                "Components that are wanted and could not be opened.",
                &["component", "componentName"],
            ),
            shown: Mutex::default(),
            reasons: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// Remembers why a component could not be opened.
    pub fn note(&self, name: &str, error: &anyhow::Error) {
        let reason = format!("{error:#}");
        self.reasons.lock().insert(name.to_owned(), reason);
    }

    /// Brings what is told in line with the plan.
    pub fn show(&self, plan: &Mutex<Plan>) {
        let mut shown = self.shown.lock();
        let failed = failed(plan).into_iter();
        let now: BTreeSet<[String; 2]> = failed
            .map(|it| [it.spec.component_type.clone(), it.name().to_owned()])
            .collect();
        for series in shown.difference(&now) {
            self.gauge.remove(&series.each_ref().map(String::as_str));
        }
        for series in &now {
            self.gauge.set(&series.each_ref().map(String::as_str), 1.0);
        }
        let is_failed = |name: &String| now.iter().any(|[_, failed]| failed == name);
        self.reasons.lock().retain(|name, _| is_failed(name));
        *shown = now;
        self.changes.send_modify(|count| *count += 1);
    }

    /// What could not be opened, with the reason.
    pub fn states(&self, plan: &Mutex<Plan>) -> BTreeMap<String, Option<String>> {
        let failed = failed(plan).into_iter();
        let reasons = self.reasons.lock();
        let states = failed.map(|component| {
            let name = component.name().to_owned();
            let reason = reasons.get(&name).cloned();
            let unknown = || "it could not be opened".to_owned();
            (name, Some(reason.unwrap_or_else(unknown)))
        });
        states.collect()
    }

    /// Tells that something may have changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

fn failed(plan: &Mutex<Plan>) -> Vec<Component> {
    let plan = plan.lock();
    plan.failures().map(|it| it.component).collect()
}
