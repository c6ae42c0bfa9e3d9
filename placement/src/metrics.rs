//! What placement counts (contract 7.2).

use telemetry::{Counter, Gauge, Meter};

/// The metrics of placement. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    runtimes: Gauge,
    actor_runtimes: Gauge,
    leader: Gauge,
    raft_leader: Gauge,
    refused: Counter,
}

impl Metrics {
    /// Registers the metrics; this node is no leader yet.
    #[must_use]
    pub fn new(meter: &Meter) -> Self {
        let namespace = &["host_namespace"][..];
        let metrics = Metrics {
            runtimes: meter.gauge(
                "placement/runtimes_total",
                "The total number of runtimes reported to placement service.",
                namespace,
            ),
            actor_runtimes: meter.gauge(
                "placement/actor_runtimes_total",
                "The total number of actor runtimes reported to placement service.",
                namespace,
            ),
            leader: meter.gauge(
                "placement/leader_status",
                "Placement server leadership status (1 for leader, 0 for not leader).",
                &[],
            ),
            raft_leader: meter.gauge(
                "placement/raft_leader_status",
                "Raft server leadership status (1 for leader, 0 for not leader).",
                &[],
            ),
            // Q-placement-refused
            refused: meter.counter(
                "placement/refused_reports_total",
                "The number of reports of hosts that were refused, by the gRPC status they got.",
                &["reason"],
            ),
        };
        metrics.leader(false);
        metrics
    }

    /// Whether this node leads.
    pub fn leader(&self, leads: bool) {
        let value = f64::from(u8::from(leads));
        self.leader.set(&[], value);
        self.raft_leader.set(&[], value);
    }

    /// A report was refused.
    pub fn refused(&self, reason: &str) {
        self.refused.add(&[reason], 1);
    }

    /// How many sidecars of a namespace are connected, and how many of them host actors.
    pub fn hosts(&self, namespace: &str, all: usize, with_actors: usize) {
        self.runtimes.set(&[namespace], all as f64);
        self.actor_runtimes.set(&[namespace], with_actors as f64);
    }
}
