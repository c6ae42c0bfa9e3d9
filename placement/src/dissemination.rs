//! Dissemination in one namespace (contract 7.3): a table reaches all sidecars in three steps (lock,
//! update, unlock), each of which waits until everyone has followed, so that no two sidecars ever act on
//! different tables. Whoever does not follow in time is expelled, and does not make others wait again.
//!
//! This is a pure state machine: reports and time go in, orders for streams come out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::placement::v1::{Host, HostOperation};

use crate::table::Hosts;
use probation::Probation;

mod probation;
mod round;

/// Names one stream of one sidecar; never used twice in a process, and later streams have higher ones.
pub type StreamId = u64;

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send an order.
    Send(StreamId, Order),
    /// End a stream. The machine knows it no more.
    Expel(StreamId, Reason),
}

/// Why a stream is ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// It did not follow in time, which the text says.
    Slow(String),
    /// The table has no room for its host.
    Full,
}

/// An order to a sidecar. A lock, and a table as a whole, replace whatever the stream has not read yet.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Stop looking up owners and drain what moves.
    Lock(u64),
    /// Take this table, which is encoded as a `PlacementOrder`.
    Update(u64, Bytes),
    /// Go on.
    Unlock(u64),
    /// All three in a row, outside of a round.
    Table(u64, Bytes),
}

/// Timing of a namespace.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Limit of a round.
    pub timeout: Duration,
    /// How long changes are collected after a round; zero is off.
    pub coalesce: Duration,
}

/// The machine.
#[derive(Debug)]
pub struct Dissemination {
    timing: Timing,
    replication_factor: i64,
    version: u64,
    phase: Phase,
    /// When the round under way has taken too long.
    deadline: Option<Instant>,
    /// When the time for collecting changes, after a round or before the first, is over.
    collecting: Option<Instant>,
    streams: BTreeMap<StreamId, Stream>,
    /// Streams that have not followed the order of the present phase.
    owing: usize,
    /// Streams with actors.
    actors: usize,
    hosts: Hosts,
    /// The table of the present version, once somebody needed it.
    table: Option<Bytes>,
    /// Came during a round, and are part of the next one.
    waiting: BTreeMap<StreamId, Host>,
    /// Reported something else during a round, which is for the next one: a round that began anew with each
    /// change would never end.
    changed: BTreeMap<StreamId, Host>,
    /// Left during a round; their hosts stay in the table until the next one.
    gone: Vec<StreamId>,
    /// Someone with actors left while waiting.
    missed: bool,
    probation: Probation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Lock,
    Update,
    Unlock,
}

#[derive(Debug)]
struct Stream {
    name: String,
    /// Has followed the order of the present phase.
    followed: bool,
    actors: bool,
    /// A table was pushed outside of a round, and its answers are still to be ignored.
    push: Option<Push>,
}

#[derive(Debug)]
struct Push {
    version: u64,
    /// Answers of old sidecars, which name no operation.
    unnamed: u8,
}

impl Dissemination {
    /// An empty namespace at version 0, whose first round begins after `gathers`.
    #[must_use]
    pub fn new(timing: Timing, replication_factor: i64, gathers: Option<Instant>) -> Self {
        Dissemination {
            timing,
            replication_factor,
            version: 0,
            phase: Phase::Idle,
            deadline: None,
            collecting: gathers,
            streams: BTreeMap::new(),
            owing: 0,
            actors: 0,
            hosts: Hosts::default(),
            table: None,
            waiting: BTreeMap::new(),
            changed: BTreeMap::new(),
            gone: Vec::new(),
            missed: false,
            probation: Probation::new(timing.timeout),
        }
    }

    /// A sidecar connected, with its first report.
    pub fn join(&mut self, stream: StreamId, host: Host, now: Instant) -> Vec<Effect> {
        match self.probation.join(stream, host, now) {
            Some(host) => self.wait(stream, host, now),
            None => self.probe(now),
        }
    }

    /// A further report of a connected sidecar. Q-placement-changed
    pub fn report(&mut self, stream: StreamId, mut host: Host, now: Instant) -> Vec<Effect> {
        if self.probation.holds(stream) {
            return match self.probation.report(stream, host) {
                Some(host) => self.wait(stream, host, now),
                None => Vec::new(),
            };
        }
        if host.version.is_some_and(|version| version != self.version) {
            // Late answers to an earlier round, or an answer to something that was never asked.
            return Vec::new();
        }
        if let Some(waiting) = self.waiting.get_mut(&stream) {
            // It was not asked for anything yet, so this can only be news of its host.
            if matches!(
                host.operation(),
                HostOperation::Report | HostOperation::Unknown
            ) {
                *waiting = host;
            }
            return Vec::new();
        }
        let operation = match host.operation() {
            // Old sidecars name no operation: they mean whatever the round is at.
            HostOperation::Unknown => self.phase.operation(),
            named => named,
        };
        if self.answers_push(stream, &host, operation) || !self.streams.contains_key(&stream) {
            return Vec::new();
        }
        if operation != HostOperation::Report {
            return self.followed(stream, operation, now);
        }
        if self.hosts.differs(stream, &mut host) || self.changed.contains_key(&stream) {
            self.changed.insert(stream, host);
            return self.settle_if_quiet(now);
        }
        if self.phase == Phase::Idle && !self.hosts.contains(stream) {
            return self.push([stream]);
        }
        Vec::new()
    }

    /// A stream ended.
    pub fn leave(&mut self, stream: StreamId, now: Instant) -> Vec<Effect> {
        self.probation.leave(stream);
        if let Some(host) = self.waiting.remove(&stream) {
            // Compat: Q-placement-missed-join, such a sidecar still causes a round, without itself.
            self.missed |= !host.entities.is_empty();
        }
        let Some(left) = self.remove(stream) else {
            return Vec::new();
        };
        let half = self.timing.timeout / 2;
        if self.phase != Phase::Idle
            && !left.followed
            && self.deadline.is_some_and(|deadline| deadline <= now + half)
        {
            // Leaving just before the end is no way to make others wait again and again.
            self.probation.record(&left.name, now);
        }
        match self.phase {
            Phase::Idle => self.settle_if_quiet(now),
            // It may have been the last one that the round waited for.
            _ => self.advance(now),
        }
    }

    /// Time passed. To be called when [`Dissemination::wake`] is reached; at other times it does nothing.
    pub fn tick(&mut self, now: Instant) -> Vec<Effect> {
        let mut effects = self.probe(now);
        if self.collecting.is_some_and(|end| end <= now) {
            self.collecting = None;
            effects.extend(self.settle(now));
        } else if self.deadline.is_some_and(|deadline| deadline <= now) {
            effects.extend(self.expire(now));
        }
        effects
    }

    /// When [`Dissemination::tick`] is due.
    #[must_use]
    pub fn wake(&self) -> Option<Instant> {
        [self.deadline, self.collecting, self.probation.wake()]
            .into_iter()
            .flatten()
            .min()
    }

    /// No stream is left, so the namespace can be forgotten.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.waiting.is_empty() && self.probation.is_empty()
    }

    /// Connected sidecars, and those of them that host actors.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.streams.len(), self.actors)
    }

    /// The version and hosts of the table, ordered by name.
    #[must_use]
    pub fn state(&self) -> (u64, Vec<Host>) {
        (self.version, self.hosts.sorted())
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
