//! The counters of resiliency (contract 10.8): what was loaded, what was picked for a call, what became active.

use std::sync::Arc;

use telemetry::{Counter, Gauge, Meter};

use crate::breaker::State;

/// What a policy consists of; the label `policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Timeout,
    Retry,
    CircuitBreaker,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Retry => "retry",
            Self::CircuitBreaker => "circuitbreaker",
        }
    }
}

/// Which way a call goes; the label `flow_direction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Inbound,
    Outbound,
}

impl Direction {
    const fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// Values of the label `status` of the gauge; the active one is 1, the others 0.
const STATES: [&str; 4] = ["closed", "half-open", "open", "unknown"];

const LABELS: [&str; 6] = [
    "name",
    "policy",
    "namespace",
    "flow_direction",
    "target",
    "status",
];

/// The four metrics.
pub(crate) struct Instruments {
    loaded: Counter,
    count: Counter,
    activations: Counter,
    breaker_state: Gauge,
}

impl Instruments {
    pub(crate) fn new(meter: &Meter) -> Arc<Self> {
        Arc::new(Self {
            loaded: meter.counter(
                "resiliency/loaded",
                "Number of resiliency policies loaded.",
                &["name", "namespace"],
            ),
            count: meter.counter(
                "resiliency/count",
                "Number of times a resiliency policy was picked for a call.",
                &LABELS,
            ),
            activations: meter.counter(
                "resiliency/activations_total",
                "Number of times a resiliency policy became active after a failure or a change of state.",
                &LABELS,
            ),
            breaker_state: meter.gauge(
                "resiliency/cb_state",
                "State of a circuit breaker: 1 for the state it is in, 0 for the others.",
                &LABELS,
            ),
        })
    }

    pub(crate) fn loaded(&self, name: &str, namespace: &str) {
        self.loaded.add(&[name, namespace], 1);
    }
}

/// Writes the metrics of one target's policy.
pub(crate) struct Reporter {
    pub(crate) instruments: Arc<Instruments>,
    /// The resource that rules the target.
    pub(crate) name: Arc<str>,
    pub(crate) namespace: Arc<str>,
    pub(crate) direction: Direction,
    pub(crate) target: Arc<str>,
}

impl Reporter {
    pub(crate) fn used(&self, kind: Kind, status: &str) {
        self.instruments.count.add(&self.labels(kind, status), 1);
    }

    pub(crate) fn activated(&self, kind: Kind, status: &str) {
        self.instruments
            .activations
            .add(&self.labels(kind, status), 1);
    }

    pub(crate) fn breaker_state(&self, state: State) {
        for name in STATES {
            let value = if name == state.name() { 1.0 } else { 0.0 };
            self.instruments
                .breaker_state
                .set(&self.labels(Kind::CircuitBreaker, name), value);
        }
    }

    fn labels<'a>(&'a self, kind: Kind, status: &'a str) -> [&'a str; 6] {
        [
            &self.name,
            kind.name(),
            &self.namespace,
            self.direction.name(),
            &self.target,
            status,
        ]
    }
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reporter")
            .field("name", &self.name)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Instruments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Instruments")
    }
}
