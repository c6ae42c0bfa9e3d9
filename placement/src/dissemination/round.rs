//! The course of a round, and what happens between two.

use std::time::Instant;

use bytes::Bytes;
use proto::placement::v1::{Host, HostOperation};

use super::probation::Due;
use super::{Dissemination, Effect, Order, Phase, Push, Reason, Stream, StreamId};

impl Dissemination {
    /// Queues a sidecar for the next round, which may be now.
    pub(super) fn wait(&mut self, stream: StreamId, host: Host, now: Instant) -> Vec<Effect> {
        self.waiting.insert(stream, host);
        self.settle_if_quiet(now)
    }

    /// Whether a report is an answer to a table pushed outside of a round, of which nothing follows.
    pub(super) fn answers_push(
        &mut self,
        stream: StreamId,
        host: &Host,
        operation: HostOperation,
    ) -> bool {
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

    /// A sidecar says that it has followed.
    pub(super) fn followed(
        &mut self,
        stream: StreamId,
        operation: HostOperation,
        now: Instant,
    ) -> Vec<Effect> {
        match self.streams.get_mut(&stream) {
            Some(stream) if operation == self.phase.operation() && !stream.followed => {
                stream.followed = true;
                self.owing -= 1;
                self.advance(now)
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn settle_if_quiet(&mut self, now: Instant) -> Vec<Effect> {
        if self.phase == Phase::Idle && self.collecting.is_none() {
            return self.settle(now);
        }
        Vec::new()
    }

    /// Takes in everyone who came, changed or left, with one round if the table changes by it.
    pub(super) fn settle(&mut self, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        let (changed, mut news) = self.take_in(&mut effects);
        if changed {
            effects.extend(self.begin(now));
        } else {
            // Hosts without actors change nothing, but need the table to call actors elsewhere.
            news.retain(|stream| !self.hosts.contains(*stream));
            effects.extend(self.push(news));
        }
        effects
    }

    /// Whether the table changes by those who came, changed or left, and who of them is still here.
    fn take_in(&mut self, effects: &mut Vec<Effect>) -> (bool, Vec<StreamId>) {
        let mut changed = std::mem::take(&mut self.missed);
        for stream in std::mem::take(&mut self.gone) {
            changed |= self.hosts.remove(stream);
        }
        let mut news = Vec::new();
        let waiting = std::mem::take(&mut self.waiting);
        for (id, host) in std::mem::take(&mut self.changed).into_iter().chain(waiting) {
            let actors = !host.entities.is_empty();
            let stream = self.streams.entry(id).or_insert_with(|| Stream {
                name: host.name.clone(),
                followed: false,
                actors: false,
                push: None,
            });
            self.actors -= usize::from(stream.actors);
            self.actors += usize::from(actors);
            stream.actors = actors;
            if let Ok(changes) = self.hosts.set(id, host) {
                changed |= changes;
                news.push(id);
            } else {
                self.remove(id);
                effects.push(Effect::Expel(id, Reason::Full));
            }
        }
        // Whoever had to go because its change had no room.
        for stream in std::mem::take(&mut self.gone) {
            changed |= self.hosts.remove(stream);
        }
        (changed, news)
    }

    /// Forgets a stream; its host leaves the table with the next round.
    pub(super) fn remove(&mut self, id: StreamId) -> Option<Stream> {
        let stream = self.streams.remove(&id)?;
        self.changed.remove(&id);
        self.actors -= usize::from(stream.actors);
        if self.phase != Phase::Idle && !stream.followed {
            self.owing -= 1;
        }
        if self.hosts.contains(id) {
            self.gone.push(id);
        }
        Some(stream)
    }

    /// Starts a round with everyone connected.
    fn begin(&mut self, now: Instant) -> Vec<Effect> {
        self.version += 1;
        self.table = None;
        self.collecting = None;
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
        self.owing = self.streams.len();
        for stream in self.streams.values_mut() {
            stream.followed = false;
        }
        let order = match phase {
            Phase::Idle => return Vec::new(),
            Phase::Lock => Order::Lock(self.version),
            Phase::Update => Order::Update(self.version, self.table()),
            Phase::Unlock => Order::Unlock(self.version),
        };
        self.streams
            .keys()
            .map(|stream| Effect::Send(*stream, order.clone()))
            .collect()
    }

    /// Goes to the next phase when everyone has followed.
    pub(super) fn advance(&mut self, now: Instant) -> Vec<Effect> {
        if self.owing > 0 {
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
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Effect> {
        let slow: Vec<StreamId> = self
            .streams
            .iter()
            .filter(|(_, stream)| !stream.followed)
            .map(|(id, _)| *id)
            .collect();
        let text = self.too_slow(self.version);
        tracing::warn!(target: "dapr.placement.server", "{text}: {} of {} streams did not follow", slow.len(), self.streams.len());
        let mut effects = Vec::new();
        for id in slow {
            if let Some(stream) = self.remove(id) {
                self.probation.record(&stream.name, now);
            }
            effects.push(Effect::Expel(id, Reason::Slow(text.clone())));
        }
        self.phase = Phase::Idle;
        self.take_in(&mut effects);
        effects.extend(self.begin(now));
        effects
    }

    /// Asks those on probation whose time has come, and expels those that were asked and failed.
    pub(super) fn probe(&mut self, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        for due in self.probation.due(now) {
            effects.push(match due {
                Due::Ask(stream) => {
                    self.probation.asked(stream, self.version, now);
                    Effect::Send(stream, Order::Lock(self.version))
                }
                Due::Failed(stream) => {
                    self.probation.failed(stream, now);
                    Effect::Expel(stream, Reason::Slow(self.too_slow(self.version)))
                }
            });
        }
        effects
    }

    fn too_slow(&self, version: u64) -> String {
        let timeout = values::GoDuration::from(self.timing.timeout);
        format!("dissemination timeout after {timeout} for version {version}")
    }

    /// Sends the present table to some, outside of a round.
    pub(super) fn push(&mut self, streams: impl IntoIterator<Item = StreamId>) -> Vec<Effect> {
        let mut effects = Vec::new();
        for id in streams {
            let table = self.table();
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.push = Some(Push {
                    version: self.version,
                    unnamed: 3,
                });
                effects.push(Effect::Send(id, Order::Table(self.version, table)));
            }
        }
        effects
    }

    /// Encoded once a version, as hosts only change where a round begins.
    fn table(&mut self) -> Bytes {
        self.table
            .get_or_insert_with(|| self.hosts.update(self.replication_factor, self.version))
            .clone()
    }
}

impl Phase {
    /// The operation that a sidecar follows this phase with.
    pub fn operation(self) -> HostOperation {
        match self {
            Phase::Idle => HostOperation::Report,
            Phase::Lock => HostOperation::Lock,
            Phase::Update => HostOperation::Update,
            Phase::Unlock => HostOperation::Unlock,
        }
    }
}
