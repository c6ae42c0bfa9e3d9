//! Which job is due, where it goes, and what its result makes of it. Synchronous: time and events in, effects out.
//! A job is in one place at a time: in the queue of due times, with the jobs that wait for a stream, at a gate, on its way,
//! or being saved.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use jiff::Timestamp;
use prost::Message as _;
use proto::cron::Counter;
use proto::scheduler::v1::{
    WatchJobsRequestInitial, WatchJobsRequestResultStatus, WatchJobsResponse,
};

use crate::gates::{Entry, Gates};
use crate::metrics::{self, Metrics};
use crate::ownership::Share;
use crate::progress::Step;
use crate::routes::{Flight, Pick, Routes, StreamId};
use crate::slots::{Place, Slots};
use crate::spec::Plan;
use moment::{nanoseconds, timestamp};
use read::{Read, read};

mod entering;
mod jobs;
mod moment;
mod read;

/// What has to happen outside.
#[derive(Debug, PartialEq)]
pub(crate) enum Effect {
    /// A job goes to a stream.
    Send(StreamId, WatchJobsResponse),
    /// How far a job has come is to be stored.
    Save(Save),
}

/// How far a job has come.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Save {
    pub slot: u32,
    pub name: String,
    /// Only of this revision of the job.
    pub revision: u64,
    /// `None`: the job is done, and goes.
    pub counter: Option<Counter>,
}

/// The jobs, and the streams that take them.
pub(crate) struct Engine {
    slots: Slots,
    due: BTreeSet<(i64, u32)>,
    routes: Routes,
    gates: Gates,
    metrics: Metrics,
    effects: VecDeque<Effect>,
    /// Jobs of this replica are in each of these.
    shares: Vec<Share>,
    /// Jobs of others by now, that are still out or being saved.
    leaving: HashSet<u32>,
    /// Jobs that found the queue of a gate full, with their revisions, and when they look again.
    put_off: VecDeque<(i64, u32, u64)>,
    /// Jobs that were known when they began to be read anew, and did not turn up yet, with their revisions.
    unread: HashMap<u32, u64>,
}

impl Engine {
    pub fn new(metrics: Metrics) -> Self {
        Self {
            slots: Slots::default(),
            due: BTreeSet::new(),
            routes: Routes::default(),
            gates: Gates::new(metrics.clone()),
            metrics,
            effects: VecDeque::new(),
            shares: Vec::new(),
            leaving: HashSet::new(),
            put_off: VecDeque::new(),
            unread: HashMap::new(),
        }
    }

    /// The next effect to bring about.
    pub fn effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Jobs there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// A stream begins.
    pub fn connect(&mut self, now: Timestamp, stream: StreamId, initial: &WatchJobsRequestInitial) {
        let gates = self
            .gates
            .ask(&initial.namespace, &initial.concurrency_limits);
        let routes = self.routes.add(stream, initial, gates);
        self.metrics.sidecars(self.routes.len());
        for route in routes {
            self.serve(now, &route);
        }
    }

    /// A stream has ended: what was on its way there goes to others, or waits for one.
    pub fn disconnect(&mut self, now: Timestamp, stream: StreamId) {
        let Some((flights, gates)) = self.routes.remove(stream) else {
            return;
        };
        self.metrics.sidecars(self.routes.len());
        let mut again = self.gates.release(&gates);
        for flight in &flights {
            self.metrics.undelivered(flight.kind);
            for gate in &flight.gates {
                self.gates.leave(gate);
            }
            again.push((flight.slot, flight.revision));
        }
        for (slot, revision) in again {
            if self.slots.is(slot, revision) {
                self.fire(now, slot);
            }
        }
        self.sweep(now);
    }

    /// A stream has passed messages on, and has room for more.
    pub fn taken(&mut self, now: Timestamp, stream: StreamId, messages: usize, bytes: usize) {
        for route in self.routes.taken(stream, messages, bytes) {
            self.serve(now, &route);
        }
    }

    /// A sidecar says what became of a job. Unknown ids are late or made up, and change nothing.
    pub fn result(
        &mut self,
        now: Timestamp,
        stream: StreamId,
        id: u64,
        status: WatchJobsRequestResultStatus,
    ) {
        let Some(flight) = self.routes.arrive(stream, id) else {
            tracing::warn!("dropping a result for {id}, which is not on its way");
            return;
        };
        let worked = status == WatchJobsRequestResultStatus::Success;
        let took = now
            .duration_since(flight.sent)
            .try_into()
            .unwrap_or_default();
        self.metrics.delivered(flight.kind, worked, took);
        if self.slots.is(flight.slot, flight.revision) {
            self.settle(flight.slot, worked);
        }
        // Compat: Q-scheduler-gates: one gate after the other, each with those who wait at it.
        for gate in &flight.gates {
            self.gates.leave(gate);
            self.let_in(now, gate);
        }
    }

    /// A sidecar leaves a stream: it gets nothing more, and a job that it has not handed on goes to others.
    pub fn refused(&mut self, now: Timestamp, stream: StreamId, id: u64) {
        self.routes.withdraw(stream);
        let Some(flight) = self.routes.arrive(stream, id) else {
            return;
        };
        self.metrics.undelivered(flight.kind);
        for gate in &flight.gates {
            self.gates.leave(gate);
        }
        if self.slots.is(flight.slot, flight.revision) {
            self.fire(now, flight.slot);
        }
        for gate in &flight.gates {
            self.let_in(now, gate);
        }
    }

    /// What a [`Save`] asked for is stored.
    pub fn saved(&mut self, slot: u32, revision: u64) {
        if !self.slots.is(slot, revision) || self.has_left(slot) {
            return;
        }
        if self.slots.get(slot).place == Place::Saving {
            let job = self.slots.get_mut(slot);
            job.place = Place::Queued;
            self.due.insert((job.due, slot));
        }
    }

    /// Fires jobs that are due, a part of them at a time. When to come again.
    pub fn advance(&mut self, now: Timestamp) -> Option<Timestamp> {
        let moment = nanoseconds(now);
        for _ in 0..AT_ONCE {
            match self.due.first() {
                Some(&(due, slot)) if due <= moment => {
                    self.due.pop_first();
                    self.fire(now, slot);
                }
                _ => break,
            }
        }
        for _ in 0..AT_ONCE {
            match self.put_off.front() {
                Some(&(again, slot, revision)) if again <= moment => {
                    self.put_off.pop_front();
                    if self.slots.is(slot, revision) && self.slots.get(slot).place == Place::PutOff
                    {
                        self.fire(now, slot);
                    }
                }
                _ => break,
            }
        }
        let due = self.due.first().map(|(due, _)| *due);
        let again = self.put_off.front().map(|(again, ..)| *again);
        due.into_iter().chain(again).min().map(timestamp)
    }

    /// Lets in whoever finds room at the gates, and says how old the oldest job is that should be out. Once a second.
    pub fn sweep(&mut self, now: Timestamp) {
        for gate in self.gates.crowded() {
            while self.let_in(now, &gate) {}
        }
        let waiting = self.routes.oldest_due();
        let queued = self.due.first().map(|(due, _)| *due);
        let oldest = waiting.into_iter().chain(queued).min();
        let age = oldest.map_or(0, |due| nanoseconds(now).saturating_sub(due));
        let age = u64::try_from(age).unwrap_or_default();
        self.metrics.overdue(std::time::Duration::from_nanos(age));
    }

    /// Sends a job that is due, or lets it wait.
    fn fire(&mut self, now: Timestamp, slot: u32) {
        if self.has_left(slot) {
            return;
        }
        let Some(job) = read(self.slots.get(slot).value()) else {
            self.slots.get_mut(slot).place = Place::Parked;
            return;
        };
        match self.routes.pick(&job.route) {
            Pick::Stream(stream) => match self.enter(&job, slot) {
                Entry::Inside(gates) => self.send(now, slot, job, stream, gates),
                Entry::Waits => self.slots.get_mut(slot).place = Place::Gate,
                Entry::Full => self.put_off(now, slot),
            },
            Pick::Busy => self.wait(slot, &job.route),
            Pick::Nobody => {
                self.metrics.undelivered(metrics::kind(Some(&job.metadata)));
                self.wait(slot, &job.route);
            }
        }
    }

    fn wait(&mut self, slot: u32, route: &str) {
        let job = self.slots.get_mut(slot);
        job.place = Place::Waiting;
        self.routes.wait(route, job.due, slot);
    }

    fn send(&mut self, now: Timestamp, slot: u32, job: Read, stream: StreamId, gates: Vec<String>) {
        let entry = self.slots.get_mut(slot);
        entry.place = Place::Out;
        let flight = Flight {
            slot,
            revision: entry.revision,
            sent: now,
            kind: metrics::kind(Some(&job.metadata)),
            gates,
        };
        let Some(id) = self.routes.depart(stream, flight) else {
            return;
        };
        let message = WatchJobsResponse {
            name: entry.name()[job.prefix.len()..].to_owned(),
            id,
            data: job.stored.job.and_then(|job| job.payload),
            metadata: Some(job.metadata),
        };
        self.routes.charge(stream, message.encoded_len());
        self.effects.push_back(Effect::Send(stream, message));
    }

    /// Sends what waits for a stream of this route, the oldest first, for as long as there is room.
    fn serve(&mut self, now: Timestamp, route: &str) {
        while self.routes.has_room(route) {
            let Some(slot) = self.routes.oldest(route) else {
                return;
            };
            self.fire(now, slot);
        }
    }

    /// A delivery is over.
    fn settle(&mut self, slot: u32, worked: bool) {
        let job = self.slots.get(slot);
        let (progress, due) = (job.progress(), timestamp(job.due));
        let planned = read(job.value()).and_then(|job| Some((Plan::of(&job.stored).ok()?, job)));
        let Some((plan, read)) = planned else {
            self.slots.get_mut(slot).place = Place::Parked;
            return;
        };
        let step = if worked {
            progress.succeeded(&plan)
        } else {
            progress.failed(&plan, due)
        };
        self.next(slot, step, read.stored.partition_id, true);
    }

    /// Takes over what comes next, and has it stored where it is news.
    fn next(&mut self, slot: u32, step: Step, partition: u64, news: bool) {
        let job = self.slots.get_mut(slot);
        let counter = match step {
            Step::Due(progress, due) => {
                job.set_progress(progress);
                job.due = nanoseconds(due);
                if !news {
                    job.place = Place::Queued;
                    self.due.insert((job.due, slot));
                    return;
                }
                job.place = Place::Saving;
                Some(progress.counter(partition))
            }
            Step::Done => {
                job.place = Place::Ending;
                None
            }
        };
        self.effects.push_back(Effect::Save(Save {
            slot,
            name: job.name().to_owned(),
            revision: job.revision,
            counter,
        }));
    }
}

/// Jobs that fire before events are heard again.
const AT_ONCE: usize = 1024;

#[cfg(test)]
mod tests;
