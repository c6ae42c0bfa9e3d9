//! What a stream to placement is at: orders and time in, what is to be done out (contract 7.3).

use std::time::Duration;

use proto::placement::v1::{HostOperation, PlacementOrder, PlacementTables};
use tokio::time::Instant;

/// A stream, from the first report on.
#[derive(Debug)]
pub struct Session {
    phase: Phase,
    version: u64,
    /// How long a round may take from one word of placement to the next.
    limit: Duration,
    end: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Between two rounds.
    Settled,
    Locked,
    Updated,
}

/// What is to be done, in order.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// The directory has another table; actors that it gives to others go.
    Install(PlacementTables),
    /// The table holds for everybody.
    Settle,
    /// Placement is told how far this sidecar is.
    Answer(HostOperation, u64),
}

/// The stream is of no use any more.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("version mismatch: expected {expected}, got {got}")]
    Version { expected: u64, got: u64 },
    #[error("unknown operation: {0}")]
    Operation(String),
    #[error("dissemination timeout after {after:?} for version {version}")]
    Timeout { after: Duration, version: u64 },
}

impl Session {
    pub fn new(limit: Duration) -> Self {
        Self {
            phase: Phase::Settled,
            version: 0,
            limit,
            end: None,
        }
    }

    /// Takes an order. Placement may merge rounds, so that a lock follows an update.
    pub fn order(&mut self, order: PlacementOrder, now: Instant) -> Result<Vec<Step>, Broken> {
        let version = version(&order);
        match order.operation.as_str() {
            "lock" => {
                self.phase = Phase::Locked;
                self.version = version;
                self.end = self.limit_from(now);
                Ok(vec![Step::Answer(HostOperation::Lock, version)])
            }
            "update" => {
                if version < self.version {
                    return Err(Broken::Version {
                        expected: self.version,
                        got: version,
                    });
                }
                self.phase = Phase::Updated;
                self.end = None;
                let tables = order.tables.unwrap_or_default();
                let answer = Step::Answer(HostOperation::Update, self.version);
                Ok(vec![Step::Install(tables), answer])
            }
            "unlock" if self.phase != Phase::Updated || version < self.version => {
                tracing::warn!(
                    "placement unlocks version {version}, which is not the last: ignored"
                );
                Ok(Vec::new())
            }
            "unlock" => {
                self.phase = Phase::Settled;
                self.version = version;
                self.end = None;
                let answer = Step::Answer(HostOperation::Unlock, version);
                Ok(vec![Step::Settle, answer])
            }
            other => Err(Broken::Operation(other.to_owned())),
        }
    }

    /// What was to be done for an update is done: placement has its time again.
    pub fn answered(&mut self, now: Instant) {
        if self.phase == Phase::Updated {
            self.end = self.limit_from(now);
        }
    }

    fn limit_from(&self, now: Instant) -> Option<Instant> {
        (!self.limit.is_zero()).then(|| now + self.limit)
    }

    /// When placement has to have said its next word.
    pub fn end(&self) -> Option<Instant> {
        self.end
    }

    /// The version of the round.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// It has not.
    pub fn timed_out(&self) -> Broken {
        Broken::Timeout {
            after: self.limit,
            version: self.version,
        }
    }
}

/// Old members of placement say the version as text.
fn version(order: &PlacementOrder) -> u64 {
    if order.version > 0 {
        return order.version;
    }
    let tables = order.tables.as_ref();
    tables.map_or(0, |tables| tables.version.parse().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(operation: &str, version: u64) -> PlacementOrder {
        PlacementOrder {
            operation: operation.to_owned(),
            version,
            tables: (operation == "update").then(PlacementTables::default),
        }
    }

    #[test]
    fn a_round_is_answered_step_by_step() {
        let (mut session, now) = (Session::new(Duration::from_secs(1)), Instant::now());
        let lock = session.order(order("lock", 3), now).unwrap();
        assert_eq!(lock, [Step::Answer(HostOperation::Lock, 3)]);
        assert_eq!(session.end(), Some(now + Duration::from_secs(1)));
        let update = session.order(order("update", 3), now).unwrap();
        let answer = Step::Answer(HostOperation::Update, 3);
        assert_eq!(update, [Step::Install(PlacementTables::default()), answer]);
        assert_eq!(session.end(), None, "actors take their own time to go");
        session.answered(now);
        assert!(session.end().is_some());
        let unlock = session.order(order("unlock", 3), now).unwrap();
        assert_eq!(
            unlock,
            [Step::Settle, Step::Answer(HostOperation::Unlock, 3)]
        );
        assert_eq!(session.end(), None);
    }

    #[test]
    fn what_is_out_of_order_is_ignored_or_ends_the_stream() {
        let (mut session, now) = (Session::new(Duration::ZERO), Instant::now());
        assert_eq!(session.order(order("unlock", 1), now).unwrap(), []);
        session.order(order("lock", 5), now).unwrap();
        assert_eq!(session.end(), None, "no limit");
        assert_eq!(session.order(order("unlock", 5), now).unwrap(), []);
        let old = session.order(order("update", 4), now);
        assert_eq!(
            old,
            Err(Broken::Version {
                expected: 5,
                got: 4
            })
        );
        let odd = session.order(order("shuffle", 6), now);
        assert_eq!(odd, Err(Broken::Operation("shuffle".to_owned())));
    }
}
