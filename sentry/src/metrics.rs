//! `dapr_sentry_*` (contract 6.7).

use jiff::Timestamp;
use telemetry::{Counter, Gauge, Meter};

/// The metrics of sentry. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    received: Counter,
    signed: Counter,
    failed: Counter,
    refused: Counter,
    peer_refused: Counter,
    own_failed: Counter,
    changed: Counter,
    expiry: Gauge,
    root_expiry: Gauge,
    stage: Gauge,
}

impl Metrics {
    pub fn new(meter: &Meter) -> Self {
        Self {
            received: meter.counter(
                "sentry/cert/sign/request_received_total",
                "Certificate requests received.",
                &[],
            ),
            signed: meter.counter(
                "sentry/cert/sign/success_total",
                "Certificates signed for workloads.",
                &[],
            ),
            failed: meter.counter(
                "sentry/cert/sign/failure_total",
                "Certificate requests refused or failed.",
                &["reason"],
            ),
            // Upstream has one reason for all. Q-sentry-refused
            refused: meter.counter(
                "sentry/cert/sign/refused_total",
                "Certificate requests refused, by the kind of what was wrong.",
                &["reason"],
            ),
            peer_refused: meter.counter(
                "sentry/peer/refused_total",
                "Connections and calls refused because one address had its part of them already.",
                &["what"],
            ),
            own_failed: meter.counter(
                "sentry/servercert/issue_failed_total",
                "Failures to sign sentry's own certificate.",
                &["reason"],
            ),
            changed: meter.counter(
                "sentry/issuercert/changed_total",
                "Issuer credentials made or taken over.",
                &[],
            ),
            expiry: meter.gauge(
                "sentry/issuercert/expiry_timestamp",
                "End of the issuer certificate, in seconds since 1970.",
                &[],
            ),
            root_expiry: meter.gauge(
                "sentry/rootcert/expiry_timestamp",
                "End of the root certificate that ends first, in seconds since 1970.",
                &[],
            ),
            stage: meter.gauge(
                "sentry/rotation/stage",
                "Stage of the replacement of the root: 0 none, 1 distribute, 2 sign, 3 retire.",
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

    pub fn refused(&self, reason: &str) {
        self.refused.add(&[reason], 1);
    }

    pub fn peer_refused(&self, what: &str) {
        self.peer_refused.add(&[what], 1);
    }

    pub fn own_failed(&self, reason: &str) {
        self.own_failed.add(&[reason], 1);
    }

    pub fn issuer_changed(&self) {
        self.changed.add(&[], 1);
    }

    pub fn expires(&self, issuer: Timestamp, root: Timestamp) {
        #[allow(
            clippy::cast_precision_loss,
            reason = "seconds fit a double for millions of years"
        )]
        let seconds = |at: Timestamp| at.as_second() as f64;
        self.expiry.set(&[], seconds(issuer));
        self.root_expiry.set(&[], seconds(root));
    }

    pub fn stage(&self, number: u8) {
        self.stage.set(&[], f64::from(number));
    }
}
