//! The instances that are active here: what of them is in memory, and who waits for news of them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use dashmap::DashMap;
use proto::durabletask::{HistoryEvent, backend::v1::WorkflowMetadata};
use tokio::sync::{Mutex, MutexGuard, oneshot, watch};

use crate::{
    access::Judged,
    core::{effects::Effect, resolution},
    record::Record,
    stamp::Stamp,
};

mod claims;
mod waking;

pub use claims::Claim;
use claims::Claims;
pub use waking::Waking;

/// All of them.
#[derive(Default)]
pub struct Instances {
    cells: DashMap<String, Arc<Instance>>,
}

/// One of them.
pub struct Instance {
    slot: Mutex<Slot>,
    /// What is known of it; nothing while nobody has read it, or where there is none.
    known: watch::Sender<Option<Arc<WorkflowMetadata>>>,
    /// A worker has a turn of it.
    busy: AtomicBool,
    /// The run that it was last asked for.
    run: parking_lot::Mutex<Option<String>>,
    /// Somebody was broken off who did what was open.
    broken_off: AtomicBool,
    claims: Claims,
    pub waking: Waking,
    /// What calls of other apps are judged by.
    pub judged: Judged,
}

/// A worker has a turn of the instance as long as this is there.
pub struct Busy<'i>(&'i Instance);

/// What is in memory. Whoever works on a record takes it out: where he is broken off, nobody goes on with half of it.
#[derive(Default)]
pub struct Slot {
    pub record: Option<Record>,
    /// What is still to be done because of committed turns; `None` where nobody knows.
    pub open: Option<Vec<Effect>>,
    /// What a turn was to send that may have been stored, or not; the last event of that turn tells.
    pub tried: Option<(HistoryEvent, Vec<Effect>)>,
    /// As of when what is open is known.
    pub stamp: Option<Stamp>,
    /// There is a janitor's reminder, as far as is known here.
    pub guarded: bool,
    /// Moves on whenever the id is used anew.
    pub run: u64,
    /// Completions that the next turn takes straight into the history.
    pub held: Vec<Held>,
}

/// A completion that is in memory only until a turn has stored it. Whoever sent it waits for that, and sends it again, by a reminder,
/// where this is dropped.
pub struct Held {
    pub event: HistoryEvent,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Instances {
    pub fn get(&self, id: &str) -> Arc<Instance> {
        if let Some(known) = self.cells.get(id) {
            return Arc::clone(&known);
        }
        let cell = self.cells.entry(id.to_owned()).or_insert_with(|| {
            Arc::new(Instance {
                slot: Mutex::default(),
                known: watch::Sender::default(),
                busy: AtomicBool::new(false),
                run: parking_lot::Mutex::default(),
                broken_off: AtomicBool::new(false),
                claims: Claims::default(),
                waking: Waking::default(),
                judged: Judged::default(),
            })
        });
        Arc::clone(&cell)
    }

    /// The instance is active here no more; who follows it hears that.
    pub fn forget(&self, id: &str) {
        self.cells.remove(id);
    }
}

impl Instance {
    /// Waits until nobody else works on it.
    pub async fn lock(&self) -> MutexGuard<'_, Slot> {
        let mut slot = self.slot.lock().await;
        if self.broken_off.swap(false, Ordering::AcqRel) {
            self.forget_open(&mut slot);
        }
        slot
    }

    /// Says that a worker has a turn of it.
    pub fn busy(&self) -> Busy<'_> {
        self.busy.store(true, Ordering::Release);
        Busy(self)
    }

    /// Whether a worker has a turn of it, so that it goes on, and will for as long as the worker takes.
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// It is asked for, as this run.
    pub fn asked_for(&self, run: Option<&str>) {
        *self.run.lock() = run.map(str::to_owned);
    }

    /// Whether it was asked for as this run, and no other since.
    pub fn was_asked_for(&self, run: Option<&str>) -> bool {
        run.is_some_and(|run| !run.is_empty() && self.run.lock().as_deref() == Some(run))
    }

    /// Tells everybody who waits.
    pub fn tell(&self, metadata: Option<WorkflowMetadata>) {
        self.known.send_replace(metadata.map(Arc::new));
    }

    /// News of it, the last first.
    pub fn news(&self) -> watch::Receiver<Option<Arc<WorkflowMetadata>>> {
        self.known.subscribe()
    }
}

impl Slot {
    /// Another run begins, here or elsewhere: what waits is not for it, and what is left of others is not its.
    pub fn next_run(&mut self) {
        self.run += 1;
        self.held.clear();
    }

    /// Holds a completion for the next turn; one that is held already is waited for by one more.
    pub fn hold(&mut self, event: HistoryEvent) -> oneshot::Receiver<()> {
        let (stored, waits) = oneshot::channel();
        let same = |held: &&mut Held| {
            resolution::of(&held.event) == resolution::of(&event)
                && resolution::execution(&held.event) == resolution::execution(&event)
        };
        match self.held.iter_mut().find(same) {
            Some(held) => held.waiting.push(stored),
            None => self.held.push(Held {
                event,
                waiting: vec![stored],
            }),
        }
        waits
    }

    /// Those that a turn takes.
    pub fn take_held(&mut self) -> Vec<Held> {
        let most = self.held.len().min(MOST_TAKEN);
        self.held.drain(..most).collect()
    }

    /// Whether one more may be held.
    pub fn has_room(&self) -> bool {
        self.held.len() < MOST_HELD
    }
}

impl Held {
    /// It is stored.
    pub fn stored(self) {
        for waits in self.waiting {
            let _ = waits.send(());
        }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

/// Completions that one turn stores: a transaction has to end some day.
const MOST_TAKEN: usize = 128;

/// Completions of one instance that are in memory only; others go into the inbox.
const MOST_HELD: usize = 1_000;

#[cfg(test)]
mod tests {
    use proto::durabletask::{TaskCompletedEvent, history_event::EventType};

    use super::*;
    use crate::core::event;

    fn completion(task: i32) -> HistoryEvent {
        let kind = EventType::TaskCompleted(TaskCompletedEvent {
            task_scheduled_id: task,
            ..TaskCompletedEvent::default()
        });
        event::plain(prost_types::Timestamp::default(), kind)
    }

    #[tokio::test]
    async fn all_who_send_a_completion_hear_that_it_is_stored_or_gone() {
        let mut slot = Slot::default();
        let first = slot.hold(completion(1));
        let again = slot.hold(completion(1));
        let other = slot.hold(completion(2));
        let mut taken = slot.take_held().into_iter();
        taken.next().expect("the first").stored();
        assert_eq!((first.await, again.await), (Ok(()), Ok(())));
        assert_eq!(taken.len(), 1);
        // The turn comes to nothing.
        drop(taken);
        assert!(other.await.is_err());
    }

    #[test]
    fn a_turn_takes_a_part_of_very_many_completions() {
        let mut slot = Slot::default();
        let waits: Vec<_> = (0..1_000).map(|task| slot.hold(completion(task))).collect();
        assert_eq!(waits.len(), 1_000);
        assert!(!slot.has_room());
        assert_eq!(slot.take_held().len(), MOST_TAKEN);
        assert!(slot.has_room());
        assert_eq!(slot.held.len(), 1_000 - MOST_TAKEN);
    }
}
