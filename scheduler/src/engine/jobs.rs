//! Which jobs the engine has: those of this replica, as they are written, deleted, read anew and given away.

use prost::Message as _;
use proto::cron::Counter;

use super::read::read;
use super::{Effect, Engine};
use crate::ownership::Share;
use crate::progress::Progress;
use crate::slots::{Place, Slot};
use crate::spec::Plan;

impl Engine {
    /// Jobs of this replica are in each of these shares from now on; without a share it has none. Others are forgotten, those
    /// that are out or being saved once they are back.
    pub fn own(&mut self, shares: &[Share]) {
        if let [share] = shares {
            self.gates.divide(*share);
        }
        if shares == self.shares {
            return;
        }
        self.shares = shares.to_vec();
        self.leaving.clear();
        for slot in self.slots.numbers() {
            let job = self.slots.get(slot);
            let partition = read(job.value()).map(|job| job.stored.partition_id);
            if partition.is_some_and(|partition| self.owns(partition)) {
                continue;
            }
            let under_way = matches!(job.place, Place::Out | Place::Saving | Place::Ending);
            if under_way && !self.shares.is_empty() {
                self.leaving.insert(slot);
            } else {
                self.forget(slot);
            }
        }
        if self.shares.is_empty() {
            self.recall();
        }
    }

    /// Nobody is to hear of what was decided under a lease that has ended.
    fn recall(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            let Effect::Send(stream, message) = effect else {
                continue;
            };
            let flight = self.routes.arrive(stream, message.id);
            for gate in flight.iter().flat_map(|flight| &flight.gates) {
                self.gates.leave(gate);
            }
            self.routes.taken(stream, 1, message.encoded_len());
        }
    }

    /// Whether jobs can be this replica's.
    pub fn owns_any(&self) -> bool {
        !self.shares.is_empty()
    }

    /// Jobs of others that are still out or being saved.
    pub fn leaving(&self) -> usize {
        self.leaving.len()
    }

    /// Waits no longer for jobs of others.
    pub fn abandon(&mut self) {
        for slot in std::mem::take(&mut self.leaving) {
            self.forget(slot);
        }
    }

    /// Whether a job is still the one of this revision.
    pub fn knows(&self, slot: u32, revision: u64) -> bool {
        self.slots.is(slot, revision)
    }

    /// All jobs are about to be read with [`Engine::read`], as something may have been missed.
    pub fn begin_reading(&mut self) {
        let slots = self.slots.numbers().into_iter();
        self.unread = slots
            .map(|slot| (slot, self.slots.get(slot).revision))
            .collect();
    }

    /// Forgets jobs of later revisions than the store's: it has gone back, to a backup for instance.
    pub fn forget_later(&mut self, revision: u64) {
        for slot in self.slots.numbers() {
            if self.slots.get(slot).revision > revision {
                self.forget(slot);
            }
        }
    }

    /// A job that is stored.
    pub fn read(&mut self, name: &str, revision: u64, value: &[u8], counter: Option<&Counter>) {
        if let Some(slot) = self.slots.find(name) {
            self.unread.remove(&slot);
        }
        self.put(name, revision, value, counter);
    }

    /// All jobs of this revision or later were read: what did not turn up has been deleted.
    pub fn end_reading(&mut self, since: u64) {
        for (slot, revision) in std::mem::take(&mut self.unread) {
            if revision <= since && self.slots.is(slot, revision) {
                self.forget(slot);
            }
        }
    }

    /// A job has been written. What was known under its name is forgotten, unless it is newer.
    pub fn put(&mut self, name: &str, revision: u64, value: &[u8], counter: Option<&Counter>) {
        if let Some(known) = self.slots.find(name) {
            if self.slots.get(known).revision >= revision {
                return;
            }
            self.forget(known);
        }
        let planned = read(value)
            .filter(|job| name.starts_with(&job.prefix))
            .and_then(|job| Some((Plan::of(&job.stored).ok()?, job)));
        let Some((plan, job)) = planned else {
            tracing::error!("job {name:?} cannot be read, and does not fire");
            return;
        };
        let partition = job.stored.partition_id;
        if !self.owns(partition) {
            return;
        }
        let progress = counter
            .map(|counter| Progress::of(counter, partition))
            .unwrap_or_default();
        let slot = self.slots.insert(Slot::new(name, value, revision));
        self.next(slot, progress.due(&plan), partition, false);
    }

    /// A job has been deleted, at this revision.
    pub fn remove(&mut self, name: &str, revision: u64) {
        if let Some(slot) = self.slots.find(name)
            && self.slots.get(slot).revision < revision
        {
            self.forget(slot);
        }
    }

    fn owns(&self, partition: u64) -> bool {
        !self.shares.is_empty() && self.shares.iter().all(|share| share.has(partition))
    }

    /// Forgets a job of others that is back.
    pub(super) fn has_left(&mut self, slot: u32) -> bool {
        let left = self.leaving.contains(&slot);
        if left {
            self.forget(slot);
        }
        left
    }

    pub(super) fn forget(&mut self, slot: u32) {
        self.leaving.remove(&slot);
        let job = self.slots.remove(slot);
        match job.place {
            Place::Queued => {
                self.due.remove(&(job.due, slot));
            }
            Place::Waiting => {
                if let Some(read) = read(job.value()) {
                    self.routes.forget(&read.route, job.due, slot);
                }
            }
            // Those are known by their revision.
            Place::Gate
            | Place::PutOff
            | Place::Out
            | Place::Saving
            | Place::Ending
            | Place::Parked => {}
        }
    }
}
