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

/// Values of the `type` label: whole answers, and calls whose caller says that they are streams.
const UNARY: &str = "unary";
const STREAMING: &str = "streaming";

fn kind(streams: bool) -> &'static str {
    if streams { STREAMING } else { UNARY }
}

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

    /// A gRPC call is passed on to an app.
    pub fn passed_on(&self, callee: &str, streams: bool) -> Instant {
        self.requests_sent.add(&[callee, kind(streams)], 1);
        Instant::now()
    }

    /// Its gRPC code is there.
    pub fn came_back(&self, callee: &str, code: i32, streams: bool, began: Instant) {
        let code = code.to_string();
        self.responses_received
            .add(&[callee, &code, kind(streams)], 1);
        if !streams {
            self.latency
                .observe_duration(&[callee, &code], began.elapsed());
        }
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

#[cfg(test)]
mod tests {
    use telemetry::MetricOptions;

    use super::*;

    /// The families of contract 10.8, and their labels beside `app_id`.
    const TABLE: [(&str, &[&str]); 9] = [
        ("service_invocation_req_sent_total", &["dst_app_id", "type"]),
        ("service_invocation_req_recv_total", &["src_app_id"]),
        (
            "service_invocation_res_sent_total",
            &["dst_app_id", "status"],
        ),
        (
            "service_invocation_res_recv_total",
            &["src_app_id", "status", "type"],
        ),
        (
            "service_invocation_res_recv_latency_ms",
            &["src_app_id", "status"],
        ),
        (
            "acl_app_policy_action_allowed_total",
            &["namespace", "trustDomain"],
        ),
        (
            "acl_app_policy_action_blocked_total",
            &["namespace", "trustDomain"],
        ),
        (
            "acl_global_policy_action_allowed_total",
            &["namespace", "trustDomain"],
        ),
        (
            "acl_global_policy_action_blocked_total",
            &["namespace", "trustDomain"],
        ),
    ];

    #[test]
    fn families_and_labels_are_those_of_the_table() {
        let registry = prometheus::Registry::new();
        let meter = Meter::new(&registry, MetricOptions::default()).unwrap();
        let metrics = Metrics::new(&meter);
        let began = metrics.sent("b");
        metrics.received("b", StatusCode::OK, began);
        let began = metrics.passed_on("b", true);
        metrics.came_back("b", 14, true, began);
        metrics.called("b");
        metrics.answered("b", StatusCode::OK);
        for (allowed, by_policy) in [(true, true), (true, false), (false, true), (false, false)] {
            metrics.judged("public", "default", allowed, by_policy);
        }
        let mut seen: Vec<(String, Vec<String>)> = Vec::new();
        for family in registry.gather() {
            for series in family.get_metric() {
                let labels = series
                    .get_label()
                    .iter()
                    .map(|label| label.name().to_owned());
                let labels: Vec<String> = labels.filter(|name| name != "app_id").collect();
                seen.push((family.name().to_owned(), labels));
            }
        }
        seen.dedup();
        let mut table: Vec<(String, Vec<String>)> = TABLE
            .iter()
            .map(|(name, labels)| {
                let labels = labels.iter().map(|label| (*label).to_owned());
                (format!("dapr_runtime_{name}"), labels.collect())
            })
            .collect();
        table.sort();
        assert_eq!(seen, table);
    }
}
