//! Counters of service invocation (contract 10.8).

use std::time::Instant;

use http::StatusCode;
use telemetry::{Counter, Histogram, Meter};

pub struct Metrics {
    requests_sent: Counter,
    requests_received: Counter,
    responses_sent: Counter,
    responses_received: Counter,
    latency: Histogram,
    allowed: Counter,
    blocked: Counter,
    globally_allowed: Counter,
    globally_blocked: Counter,
}

/// Value of the `type` label: whole answers, not streams.
const UNARY: &str = "unary";

impl Metrics {
    pub fn new(meter: &Meter) -> Self {
        let invocation = |name: &str, help: &str, labels: &[&str]| {
            meter.counter(&format!("runtime/service_invocation/{name}"), help, labels)
        };
        let action = |name: &str, help: &str| {
            meter.counter(
                &format!("runtime/acl/{name}"),
                help,
                &["trustDomain", "namespace"],
            )
        };
        Self {
            requests_sent: invocation(
                "req_sent_total",
                "The number of requests sent via service invocation.",
                &["dst_app_id", "type"],
            ),
            requests_received: invocation(
                "req_recv_total",
                "The number of requests received via service invocation.",
                &["src_app_id"],
            ),
            responses_sent: invocation(
                "res_sent_total",
                "The number of responses sent via service invocation.",
                &["dst_app_id", "status"],
            ),
            responses_received: invocation(
                "res_recv_total",
                "The number of responses received via service invocation.",
                &["src_app_id", "status", "type"],
            ),
            latency: meter.latency(
                "runtime/service_invocation/res_recv_latency_ms",
                "The latency of service invocation response.",
                &["src_app_id", "status"],
            ),
            allowed: action(
                "app_policy_action_allowed_total",
                "The number of requests allowed by the app specific action specified in the access control policy.",
            ),
            blocked: action(
                "app_policy_action_blocked_total",
                "The number of requests blocked by the app specific action specified in the access control policy.",
            ),
            globally_allowed: action(
                "global_policy_action_allowed_total",
                "The number of requests allowed by the global action specified in the access control policy.",
            ),
            globally_blocked: action(
                "global_policy_action_blocked_total",
                "The number of requests blocked by the global action specified in the access control policy.",
            ),
        }
    }

    /// A request to another app begins.
    pub fn sent(&self, callee: &str) -> Instant {
        self.requests_sent.add(&[callee, UNARY], 1);
        Instant::now()
    }

    /// Its answer has begun.
    pub fn received(&self, callee: &str, status: StatusCode, began: Instant) {
        self.responses_received
            .add(&[callee, status.as_str(), UNARY], 1);
        self.latency
            .observe_duration(&[callee, status.as_str()], began.elapsed());
    }

    /// Another app calls the own one.
    pub fn called(&self, caller: &str) {
        self.requests_received.add(&[caller], 1);
    }

    /// The own app has answered.
    pub fn answered(&self, caller: &str, status: StatusCode) {
        self.responses_sent.add(&[caller, status.as_str()], 1);
    }

    /// What the access list said, and whether a policy for that app said it.
    pub fn judged(&self, trust_domain: &str, namespace: &str, allowed: bool, by_policy: bool) {
        let counter = match (by_policy, allowed) {
            (true, true) => &self.allowed,
            (true, false) => &self.blocked,
            (false, true) => &self.globally_allowed,
            (false, false) => &self.globally_blocked,
        };
        counter.add(&[trust_domain, namespace], 1);
    }
}
