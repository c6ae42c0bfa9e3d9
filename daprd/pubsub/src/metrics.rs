//! Counts and latencies of what is published and delivered (contract 10.8).

use std::time::Duration;

use telemetry::{Counter, Histogram, Meter};

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    Success,
    Retry,
    Drop,
}

impl Process {
    fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Retry => "retry",
            Self::Drop => "drop",
        }
    }
}

pub struct Metrics {
    namespace: String,
    ingress: Pair,
    bulk_ingress: Pair,
    bulk_ingress_events: Counter,
    egress: Pair,
    bulk_egress: Pair,
    bulk_egress_events: Counter,
}

struct Pair {
    count: Counter,
    latencies: Histogram,
}

impl Pair {
    fn new(meter: &Meter, name: &str, what: &str, labels: &[&str]) -> Self {
        Self {
            count: meter.counter(&format!("{name}/count"), what, labels),
            latencies: meter.latency(&format!("{name}/latencies"), what, labels),
        }
    }

    fn record(&self, labels: &[&str], elapsed: Option<Duration>) {
        self.count.add(labels, 1);
        if let Some(elapsed) = elapsed {
            self.latencies.observe_duration(labels, elapsed);
        }
    }
}

const IN: [&str; 5] = [
    "component",
    "namespace",
    "process_status",
    "status",
    "topic",
];
const BULK_IN: [&str; 4] = ["component", "namespace", "process_status", "topic"];
const OUT: [&str; 4] = ["component", "namespace", "success", "topic"];

impl Metrics {
    pub fn new(meter: &Meter, namespace: &str) -> Self {
        let received = "Messages delivered to the app";
        let sent = "Messages published to a component";
        Self {
            namespace: namespace.to_owned(),
            ingress: Pair::new(meter, "component/pubsub_ingress", received, &IN),
            bulk_ingress: Pair::new(meter, "component/pubsub_ingress/bulk", received, &BULK_IN),
            bulk_ingress_events: meter.counter(
                "component/pubsub_ingress/bulk/event_count",
                received,
                &BULK_IN,
            ),
            egress: Pair::new(meter, "component/pubsub_egress", sent, &OUT),
            bulk_egress: Pair::new(meter, "component/pubsub_egress/bulk", sent, &OUT),
            bulk_egress_events: meter.counter(
                "component/pubsub_egress/bulk/event_count",
                sent,
                &OUT,
            ),
        }
    }

    /// A delivery; `status` is what the app said where that differs from what became of the message.
    pub fn delivered(
        &self,
        component: &str,
        topic: &str,
        process: Process,
        status: Process,
        elapsed: Option<Duration>,
    ) {
        let labels = [
            component,
            self.namespace.as_str(),
            process.name(),
            status.name(),
            topic,
        ];
        self.ingress.record(&labels, elapsed);
    }

    /// A batch; `events` counts what became of its messages.
    pub fn delivered_batch(
        &self,
        component: &str,
        topic: &str,
        events: &[(Process, usize)],
        elapsed: Duration,
    ) {
        let namespace = self.namespace.as_str();
        self.bulk_ingress
            .record(&[component, namespace, "", topic], Some(elapsed));
        for (process, count) in events.iter().filter(|(_, count)| *count > 0) {
            let labels = [component, namespace, process.name(), topic];
            self.bulk_ingress_events.add(&labels, *count as u64);
        }
    }

    pub fn published(&self, component: &str, topic: &str, success: bool, elapsed: Duration) {
        let success = if success { "true" } else { "false" };
        let labels = [component, self.namespace.as_str(), success, topic];
        self.egress.record(&labels, Some(elapsed));
    }

    pub fn published_batch(
        &self,
        component: &str,
        topic: &str,
        success: bool,
        published: usize,
        elapsed: Duration,
    ) {
        let text = if success { "true" } else { "false" };
        let namespace = self.namespace.as_str();
        self.bulk_egress
            .record(&[component, namespace, text, topic], Some(elapsed));
        if published > 0 {
            let labels = [component, namespace, "true", topic];
            self.bulk_egress_events.add(&labels, published as u64);
        }
    }
}
