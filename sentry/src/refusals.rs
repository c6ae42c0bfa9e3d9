//! Callers that were refused: all of them are counted, but each is logged once, as it will try again and again.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::{Mutex, PoisonError};

use crate::metrics::Metrics;

/// Notes refusals.
pub struct Refusals {
    metrics: Metrics,
    logged: Mutex<BTreeSet<String>>,
}

/// Callers that are logged.
const MAX_LOGGED: usize = 1024;
/// Bytes of a caller's names, and of the reason, in the log.
const MAX_TEXT: usize = 256;

impl Refusals {
    pub fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            logged: Mutex::default(),
        }
    }

    /// Notes that `namespace`/`id` was refused. `reason` is one of few words, for the metric.
    pub fn note(&self, namespace: &str, id: &str, reason: &'static str, error: &dyn Error) {
        self.metrics.refused(reason);
        let key = cut(format!("{namespace}/{id}"));
        if !self.first(format!("{key} {reason}")) {
            return;
        }
        let text = cut(error.to_string());
        match error.source() {
            Some(cause) => tracing::warn!(error = cause, "no certificate for {key}: {text}"),
            None => tracing::warn!("no certificate for {key}: {text}"),
        }
    }

    fn first(&self, key: String) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.len() >= MAX_LOGGED || !logged.insert(key) {
            return false;
        }
        if logged.len() == MAX_LOGGED {
            tracing::warn!("{MAX_LOGGED} callers were refused, further ones are only counted");
        }
        true
    }
}

/// Names come from callers, and are shown without what could forge a line.
fn cut(text: String) -> String {
    let shown = |c: char| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    let mut text: String = text.chars().map(shown).collect();
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_is_logged_once_and_not_all_of_them() {
        let registry = prometheus::Registry::new();
        let meter = telemetry::Meter::new(&registry, telemetry::MetricOptions::default()).unwrap();
        let refusals = Refusals::new(Metrics::new(&meter));
        assert!(refusals.first("a".into()));
        assert!(!refusals.first("a".into()));
        for number in 0..2 * MAX_LOGGED {
            let error = crate::gate::Busy::All;
            refusals.note("ns", &format!("app-{number}"), "busy", &error);
        }
        assert_eq!(refusals.logged.lock().unwrap().len(), MAX_LOGGED);
        let families = registry.gather();
        let found = families
            .iter()
            .find(|family| family.name() == "dapr_sentry_cert_sign_refused_total")
            .unwrap();
        let count = found.get_metric()[0].get_counter().get_value();
        assert!((count - 2048.0).abs() < f64::EPSILON, "{count}");
        assert!(cut("a\nb".repeat(200)).len() <= MAX_TEXT);
        assert!(!cut("a\nb".into()).contains('\n'));
    }
}
