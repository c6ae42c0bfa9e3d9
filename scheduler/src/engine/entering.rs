//! Jobs at the gates of concurrency: who goes in, who waits, and who looks again later.

use std::collections::VecDeque;

use jiff::Timestamp;

use super::moment::nanoseconds;
use super::read::{Read, read};
use super::{Engine, Pick};
use crate::gates::Entry;
use crate::slots::Place;

impl Engine {
    /// A job finds no place in the queue of a gate: it looks again later.
    pub(super) fn put_off(&mut self, now: Timestamp, slot: u32) {
        let job = self.slots.get_mut(slot);
        job.place = Place::PutOff;
        let again = nanoseconds(now).saturating_add(PUT_OFF);
        self.put_off.push_back((again, slot, job.revision));
    }

    pub(super) fn enter(&mut self, job: &Read, slot: u32) -> Entry {
        let Some(kind) = job.actor_type() else {
            return Entry::Inside(Vec::new());
        };
        let waiter = (slot, self.slots.get(slot).revision);
        let metadata = &job.metadata;
        let name = metadata.concurrency_key.as_deref();
        self.gates.enter(&metadata.namespace, kind, name, waiter)
    }

    /// Lets in the first of those who wait at a gate that finds room.
    pub(super) fn let_in(&mut self, now: Timestamp, gate: &str) -> bool {
        if !self.gates.has_room(gate) {
            return false;
        }
        let mut waiting = self.gates.take_waiting(gate);
        let mut still = VecDeque::new();
        let mut entered = false;
        while let Some((slot, revision)) = waiting.pop_front() {
            if !self.slots.is(slot, revision) || self.slots.get(slot).place != Place::Gate {
                continue;
            }
            let Some(job) = read(self.slots.get(slot).value()) else {
                continue;
            };
            let Pick::Stream(stream) = self.routes.pick(&job.route) else {
                self.wait(slot, &job.route);
                continue;
            };
            let kind = job.actor_type().unwrap_or_default();
            let name = job.metadata.concurrency_key.as_deref();
            match self.gates.enter_again(&job.metadata.namespace, kind, name) {
                Some(gates) => {
                    self.send(now, slot, job, stream, gates);
                    entered = true;
                    break;
                }
                None => still.push_back((slot, revision)),
            }
        }
        // Those who have looked are few, and those behind them many.
        for waiter in still.into_iter().rev() {
            waiting.push_front(waiter);
        }
        self.gates.put_back(gate, waiting);
        entered
    }
}

/// When a job looks again that found the queue of a gate full, in nanoseconds.
const PUT_OFF: i64 = 5_000_000_000;
