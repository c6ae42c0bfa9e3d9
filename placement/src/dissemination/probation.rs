//! Hosts that have held up others. When they come back, they first have to follow a lock of their own, for
//! which nobody else waits; those that failed more than once are not even asked for a while. Q-placement-probation

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proto::placement::v1::{Host, HostOperation};

use super::StreamId;

/// The hosts on record, and those of them that are connected and have not shown yet that they follow.
#[derive(Debug)]
pub(super) struct Probation {
    timeout: Duration,
    /// By name, which is the address: another replica of the same app is not to blame.
    records: BTreeMap<String, Record>,
    held: BTreeMap<StreamId, Held>,
}

#[derive(Debug)]
struct Record {
    failures: u32,
    last: Instant,
}

#[derive(Debug)]
struct Held {
    host: Host,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Pausing { until: Instant },
    Asked { version: u64, deadline: Instant },
}

/// What became of a stream whose time was up.
pub(super) enum Due {
    /// Ask it for a lock.
    Ask(StreamId),
    /// It did not follow.
    Failed(StreamId),
}

impl Probation {
    pub fn new(timeout: Duration) -> Self {
        Probation {
            timeout,
            records: BTreeMap::new(),
            held: BTreeMap::new(),
        }
    }

    /// A host held up others, or failed when asked.
    pub fn record(&mut self, name: &str, now: Instant) {
        if let Some(record) = self.records.get_mut(name) {
            record.failures += 1;
            record.last = now;
            return;
        }
        if self.records.len() >= MAX_RECORDS {
            let oldest = self.records.iter().min_by_key(|(_, record)| record.last);
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                self.records.remove(&name);
            }
        }
        let record = Record {
            failures: 1,
            last: now,
        };
        self.records.insert(name.to_owned(), record);
    }

    /// Gives the host back if nothing is held against it. The first failure costs no pause.
    pub fn join(&mut self, stream: StreamId, host: Host, now: Instant) -> Option<Host> {
        self.records
            .retain(|_, record| now.duration_since(record.last) < MEMORY);
        let Some(record) = self.records.get(&host.name) else {
            return Some(host);
        };
        let pause = match record.failures {
            0 | 1 => Duration::ZERO,
            more => self
                .timeout
                .saturating_mul(1 << (more - 2).min(16))
                .min(MAX_PAUSE),
        };
        let state = State::Pausing {
            until: (record.last + pause).max(now),
        };
        self.held.insert(stream, Held { host, state });
        None
    }

    /// Whose time is up.
    pub fn due(&self, now: Instant) -> Vec<Due> {
        let due = self
            .held
            .iter()
            .filter_map(|(stream, held)| match held.state {
                State::Pausing { until } if until <= now => Some(Due::Ask(*stream)),
                State::Asked { deadline, .. } if deadline <= now => Some(Due::Failed(*stream)),
                _ => None,
            });
        due.collect()
    }

    /// A stream was asked for a lock.
    pub fn asked(&mut self, stream: StreamId, version: u64, now: Instant) {
        if let Some(held) = self.held.get_mut(&stream) {
            let deadline = now + self.timeout;
            held.state = State::Asked { version, deadline };
        }
    }

    /// A stream did not follow the lock it was asked for.
    pub fn failed(&mut self, stream: StreamId, now: Instant) {
        if let Some(held) = self.held.remove(&stream) {
            self.record(&held.host.name, now);
        }
    }

    /// A report of a held stream. Gives its host when it is ready to take part.
    pub fn report(&mut self, stream: StreamId, mut host: Host) -> Option<Host> {
        let held = self.held.get_mut(&stream)?;
        let ready = match (held.state, host.operation()) {
            (State::Asked { .. }, HostOperation::Unknown) => true,
            (State::Asked { version, .. }, HostOperation::Lock) => host.version == Some(version),
            _ => false,
        };
        if matches!(
            host.operation(),
            HostOperation::Report | HostOperation::Unknown
        ) {
            std::mem::swap(&mut held.host, &mut host);
        }
        ready
            .then(|| self.held.remove(&stream))
            .flatten()
            .map(|held| held.host)
    }

    pub fn holds(&self, stream: StreamId) -> bool {
        self.held.contains_key(&stream)
    }

    pub fn leave(&mut self, stream: StreamId) {
        self.held.remove(&stream);
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub fn wake(&self) -> Option<Instant> {
        let times = self.held.values().map(|held| match held.state {
            State::Pausing { until } => until,
            State::Asked { deadline, .. } => deadline,
        });
        times.min()
    }
}

/// The longest pause before a host is asked again.
const MAX_PAUSE: Duration = Duration::from_secs(5 * 60);

/// After this time without a failure nothing is held against a host.
pub(super) const MEMORY: Duration = Duration::from_secs(15 * 60);

/// Hosts on record in one namespace; beyond it the oldest is forgotten.
const MAX_RECORDS: usize = 1024;
