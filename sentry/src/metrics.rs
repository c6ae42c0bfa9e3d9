//! `dapr_sentry_*` (contract 6.7).

use jiff::Timestamp;
use telemetry::{Counter, Gauge, Meter};

/// The metrics of sentry. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    received: Counter,
    signed: Counter,
    failed: Counter,
    own_failed: Counter,
    changed: Counter,
    expiry: Gauge,
}

impl Metrics {
    pub fn new(meter: &Meter) -> Self {
        Self {
            received: meter.counter(
                "sentry/cert/sign/request_received_total",
                "The number of CSRs received.",
                &[],
            ),
            signed: meter.counter(
                "sentry/cert/sign/success_total",
                "The number of certificates issuances that have succeeded.",
                &[],
            ),
            failed: meter.counter(
                "sentry/cert/sign/failure_total",
                "The number of errors occurred when signing the CSR.",
                &["reason"],
            ),
            own_failed: meter.counter(
                "sentry/servercert/issue_failed_total",
                "The number of server TLS certificate issuance failures.",
                &["reason"],
            ),
            changed: meter.counter(
                "sentry/issuercert/changed_total",
                "The number of issuer cert updates, when issuer cert or key is changed",
                &[],
            ),
            expiry: meter.gauge(
                "sentry/issuercert/expiry_timestamp",
                "The unix timestamp, in seconds, when issuer/root cert will expire.",
                &[],
            ),
        }
    }

    pub fn received(&self) {
        self.received.add(&[], 1);
    }

    pub fn signed(&self) {
        self.signed.add(&[], 1);
    }

    pub fn failed(&self) {
        self.failed.add(&["sign"], 1);
    }

    pub fn own_failed(&self, reason: &str) {
        self.own_failed.add(&[reason], 1);
    }

    pub fn issuer_changed(&self) {
        self.changed.add(&[], 1);
    }

    pub fn issuer_expires(&self, at: Timestamp) {
        #[allow(
            clippy::cast_precision_loss,
            reason = "seconds fit a double for millions of years"
        )]
        self.expiry.set(&[], at.as_second() as f64);
    }
}
