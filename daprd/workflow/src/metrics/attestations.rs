//! Counts of attestations (contract 10.8).

use std::time::Duration;

use telemetry::{Counter, Histogram, Meter};

pub struct Attestations {
    namespace: String,
    made: Counter,
    checked: Counter,
    latency: Histogram,
    certificates: Counter,
}

impl Attestations {
    pub fn new(meter: &Meter, namespace: &str) -> Self {
        let checked = ["namespace", "attestation_kind", "attestation_result"];
        Self {
            namespace: namespace.to_owned(),
            made: meter.counter(
                "runtime/workflow/attestation/generated/count",
                "Ends of activities and children that were attested",
                &["namespace", "attestation_kind", "status"],
            ),
            checked: meter.counter(
                "runtime/workflow/attestation/verified/count",
                "Attestations that were checked",
                &checked,
            ),
            latency: meter.latency(
                "runtime/workflow/attestation/verify/latency",
                "How long checking an attestation took, in milliseconds",
                &checked,
            ),
            certificates: meter.counter(
                "runtime/workflow/attestation/cert_cache/count",
                "Certificates of attestations that were known to be trusted, or not",
                &["namespace", "cert_cache_outcome"],
            ),
        }
    }

    /// The end of something was attested, or could not be.
    pub fn made(&self, kind: &str, status: &str) {
        self.made.add(&[&self.namespace, kind, status], 1);
    }

    /// An attestation was checked. `known`: its certificate was known to be trusted; `None` where it does not hold.
    pub fn checked(&self, kind: &str, known: Option<bool>, took: Duration) {
        let result = if known.is_some() { "ok" } else { "reject" };
        let labels = [self.namespace.as_str(), kind, result];
        self.checked.add(&labels, 1);
        self.latency.observe_duration(&labels, took);
        if let Some(known) = known {
            let outcome = if known { "hit" } else { "miss" };
            self.certificates.add(&[&self.namespace, outcome], 1);
        }
    }
}
