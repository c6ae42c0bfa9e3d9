//! Dissemination in one namespace (contract 7.3): a table reaches all sidecars in three steps (lock,
//! update, unlock), each of which waits until everyone has followed, so that no two sidecars ever act on
//! different tables.
//!
//! This is a pure state machine: reports and time go in, orders for streams come out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::placement::v1::{Host, HostOperation, PlacementTables};

use crate::table::Hosts;

/// Names one stream of one sidecar; never used twice in a process.
pub type StreamId = u64;

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send an order.
    Send(StreamId, Order),
    /// End a stream that did not follow in time, with this text.
    Expel(StreamId, String),
}

/// An order to a sidecar.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Stop looking up owners and drain what moves.
    Lock(u64),
    /// Take this table.
    Update(u64, Arc<PlacementTables>),
    /// Go on.
    Unlock(u64),
    /// All three in a row, outside of a round.
    Table(u64, Arc<PlacementTables>),
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
    /// When the time for collecting changes after a round is over.
    collecting: Option<Instant>,
    streams: BTreeMap<StreamId, Stream>,
    hosts: Hosts,
    /// Came during a round, and are part of the next one.
    waiting: Vec<(StreamId, Host)>,
    /// Left during a round; their hosts stay in the table until the next one.
    gone: Vec<StreamId>,
    /// Someone with actors left while waiting.
    missed: bool,
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
    /// An empty namespace at version 0.
    #[must_use]
    pub fn new(timing: Timing, replication_factor: i64) -> Self {
        Dissemination {
            timing,
            replication_factor,
            version: 0,
            phase: Phase::Idle,
            deadline: None,
            collecting: None,
            streams: BTreeMap::new(),
            hosts: Hosts::default(),
            waiting: Vec::new(),
            gone: Vec::new(),
            missed: false,
        }
    }

    /// A sidecar connected, with its first report.
    pub fn join(&mut self, stream: StreamId, host: Host, now: Instant) -> Vec<Effect> {
        self.waiting.push((stream, host));
        if self.phase == Phase::Idle && self.collecting.is_none() {
            return self.settle(now);
        }
        Vec::new()
    }

    /// A further report of a connected sidecar.
    pub fn report(&mut self, stream: StreamId, host: Host, now: Instant) -> Vec<Effect> {
        if host.version.is_some_and(|version| version != self.version) {
            // Late answers to an earlier round, or an answer to something that was never asked.
            return Vec::new();
        }
        if let Some((_, waiting)) = self.waiting.iter_mut().find(|(id, _)| *id == stream) {
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
        if self.answers_push(stream, &host, operation) {
            return Vec::new();
        }
        if operation == HostOperation::Report {
            return self.reported(stream, host, now);
        }
        if operation == self.phase.operation()
            && let Some(stream) = self.streams.get_mut(&stream)
        {
            stream.followed = true;
            return self.advance(now);
        }
        Vec::new()
    }

    /// A stream ended.
    pub fn leave(&mut self, stream: StreamId, now: Instant) -> Vec<Effect> {
        if let Some(index) = self.waiting.iter().position(|(id, _)| *id == stream) {
            // Compat: Q-placement-missed-join, such a sidecar still causes a round, without itself.
            let (_, host) = self.waiting.remove(index);
            self.missed |= !host.entities.is_empty();
        }
        if self.streams.remove(&stream).is_none() {
            return Vec::new();
        }
        if self.hosts.contains(stream) {
            self.gone.push(stream);
        }
        match (self.phase, self.collecting) {
            (Phase::Idle, None) => self.settle(now),
            (Phase::Idle, Some(_)) => Vec::new(),
            // It may have been the last one that the round waited for.
            _ => self.advance(now),
        }
    }

    /// Time passed. To be called when [`Dissemination::wake`] is reached; at other times it does nothing.
    pub fn tick(&mut self, now: Instant) -> Vec<Effect> {
        if self.collecting.is_some_and(|end| end <= now) {
            self.collecting = None;
            return self.settle(now);
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return self.expire(now);
        }
        Vec::new()
    }

    /// When [`Dissemination::tick`] is due.
    #[must_use]
    pub fn wake(&self) -> Option<Instant> {
        [self.deadline, self.collecting].into_iter().flatten().min()
    }

    /// No stream is left, so the namespace can be forgotten.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.waiting.is_empty()
    }

    /// Connected sidecars, and those of them that host actors.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let actors = self.streams.values().filter(|stream| stream.actors).count();
        (self.streams.len(), actors)
    }

    /// The version and hosts of the table, ordered by name.
    #[must_use]
    pub fn state(&self) -> (u64, Vec<Host>) {
        (self.version, self.hosts.sorted())
    }

    /// Whether a report is an answer to a table pushed outside of a round, of which nothing follows.
    fn answers_push(&mut self, stream: StreamId, host: &Host, operation: HostOperation) -> bool {
        let Some(stream) = self.streams.get_mut(&stream) else {
            return false;
        };
        let Some(push) = &mut stream.push else {
            return false;
        };
        if host.operation() == HostOperation::Unknown && host.entities.is_empty() {
            push.unnamed -= 1;
            if push.unnamed == 0 {
                stream.push = None;
            }
            return true;
        }
        let answers = operation != HostOperation::Report && host.version == Some(push.version);
        if answers && operation == HostOperation::Unlock {
            stream.push = None;
        }
        answers
    }

    /// A connected sidecar reported its host again.
    fn reported(&mut self, stream: StreamId, host: Host, now: Instant) -> Vec<Effect> {
        let Some(known) = self.streams.get_mut(&stream) else {
            return Vec::new();
        };
        known.actors = !host.entities.is_empty();
        if self.hosts.set(stream, host) {
            // Even during a round: its table is already wrong.
            self.forget_gone();
            return self.begin(now);
        }
        if self.phase == Phase::Idle && !self.hosts.contains(stream) {
            return self.push([stream]);
        }
        Vec::new()
    }

    /// Takes in everyone who came or left, with one round if the table changes by it.
    fn settle(&mut self, now: Instant) -> Vec<Effect> {
        let mut changed = self.forget_gone() | std::mem::take(&mut self.missed);
        let mut joined = Vec::new();
        for (stream, host) in std::mem::take(&mut self.waiting) {
            let actors = !host.entities.is_empty();
            self.streams.insert(
                stream,
                Stream {
                    followed: false,
                    actors,
                    push: None,
                },
            );
            changed |= self.hosts.set(stream, host);
            joined.push(stream);
        }
        if changed {
            return self.begin(now);
        }
        // Hosts without actors change nothing, but need the table to call actors elsewhere.
        joined.retain(|stream| !self.hosts.contains(*stream));
        self.push(joined)
    }

    fn forget_gone(&mut self) -> bool {
        let gone = std::mem::take(&mut self.gone);
        let mut changed = false;
        for stream in gone {
            changed |= self.hosts.remove(stream);
        }
        changed
    }

    /// Starts a round with everyone connected.
    fn begin(&mut self, now: Instant) -> Vec<Effect> {
        self.version += 1;
        self.collecting = None;
        self.missed = false;
        if self.streams.is_empty() {
            self.phase = Phase::Idle;
            self.deadline = None;
            return Vec::new();
        }
        self.deadline = Some(now + self.timing.timeout);
        for stream in self.streams.values_mut() {
            stream.push = None;
        }
        self.enter(Phase::Lock)
    }

    fn enter(&mut self, phase: Phase) -> Vec<Effect> {
        self.phase = phase;
        for stream in self.streams.values_mut() {
            stream.followed = false;
        }
        let order = match phase {
            Phase::Idle => return Vec::new(),
            Phase::Lock => Order::Lock(self.version),
            Phase::Update => Order::Update(self.version, self.tables()),
            Phase::Unlock => Order::Unlock(self.version),
        };
        self.streams
            .keys()
            .map(|stream| Effect::Send(*stream, order.clone()))
            .collect()
    }

    /// Goes to the next phase when everyone has followed.
    fn advance(&mut self, now: Instant) -> Vec<Effect> {
        if !self.streams.values().all(|stream| stream.followed) {
            return Vec::new();
        }
        match self.phase {
            // Nobody is left to disseminate to.
            _ if self.streams.is_empty() => self.complete(now),
            Phase::Idle => Vec::new(),
            Phase::Lock => self.enter(Phase::Update),
            Phase::Update => self.enter(Phase::Unlock),
            Phase::Unlock => self.complete(now),
        }
    }

    fn complete(&mut self, now: Instant) -> Vec<Effect> {
        self.deadline = None;
        self.phase = Phase::Idle;
        if self.timing.coalesce.is_zero() || self.streams.is_empty() {
            return self.settle(now);
        }
        // Armed even if nobody waits: changes come in bursts, and their first one must not start alone.
        self.collecting = Some(now + self.timing.coalesce);
        Vec::new()
    }

    /// Ends the streams that hold up the round, and starts a fresh one with the others.
    fn expire(&mut self, now: Instant) -> Vec<Effect> {
        let slow: Vec<StreamId> = self
            .streams
            .iter()
            .filter(|(_, stream)| !stream.followed)
            .map(|(id, _)| *id)
            .collect();
        let text = format!(
            "dissemination timeout after {} for version {}",
            values::GoDuration::from(self.timing.timeout),
            self.version
        );
        tracing::warn!(target: "dapr.placement.server", "{text}: {} of {} streams did not follow", slow.len(), self.streams.len());
        let mut effects = Vec::new();
        for stream in slow {
            self.streams.remove(&stream);
            self.gone.push(stream);
            effects.push(Effect::Expel(stream, text.clone()));
        }
        self.forget_gone();
        for (stream, host) in std::mem::take(&mut self.waiting) {
            let actors = !host.entities.is_empty();
            self.streams.insert(
                stream,
                Stream {
                    followed: false,
                    actors,
                    push: None,
                },
            );
            self.hosts.set(stream, host);
        }
        effects.extend(self.begin(now));
        effects
    }

    /// Sends the present table to some, outside of a round.
    fn push(&mut self, streams: impl IntoIterator<Item = StreamId>) -> Vec<Effect> {
        let mut tables = None;
        let mut effects = Vec::new();
        for id in streams {
            let tables = tables.get_or_insert_with(|| self.tables()).clone();
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.push = Some(Push {
                    version: self.version,
                    unnamed: 3,
                });
                effects.push(Effect::Send(id, Order::Table(self.version, tables)));
            }
        }
        effects
    }

    fn tables(&self) -> Arc<PlacementTables> {
        Arc::new(self.hosts.tables(self.replication_factor, self.version))
    }
}

impl Phase {
    /// The operation that a sidecar follows this phase with.
    fn operation(self) -> HostOperation {
        match self {
            Phase::Idle => HostOperation::Report,
            Phase::Lock => HostOperation::Lock,
            Phase::Update => HostOperation::Update,
            Phase::Unlock => HostOperation::Unlock,
        }
    }
}

#[cfg(test)]
mod tests;
