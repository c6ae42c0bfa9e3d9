//! In which order the events of an internal topic are published, and how many may wait for a commit that may never come.
//!
//! An event waits for its marker beside the others, since that of a transaction that failed never comes. What is published
//! keeps the order of the internal topic all the same, as far as there is one: a transaction that was answered before another
//! began has its marker in the store before the other's event is there. So whoever finds its marker has those before it look
//! once more, and goes behind those that find theirs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use component::pubsub::Limits;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The events of one internal topic that are under way.
#[derive(Default)]
pub struct Turns {
    state: Mutex<State>,
    changed: Notify,
    /// Events that may wait beyond their time.
    most_late: usize,
}

#[derive(Default)]
struct State {
    /// Counts events, and looks at the store: of two numbers the smaller came first.
    clock: u64,
    /// By order key and arrival.
    in_order: BTreeMap<(String, u64), Stage>,
    /// One of a key was given back: what comes behind it is given back as well.
    left: BTreeSet<String>,
    /// Those beyond their time, by arrival.
    late: BTreeSet<u64>,
}

impl State {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Those before an event in its order.
    fn before(&self, key: &str, number: u64) -> impl Iterator<Item = &Stage> {
        let all = (key.to_owned(), 0)..(key.to_owned(), number);
        self.in_order.range(all).map(|(_, stage)| stage)
    }

    /// Those behind it.
    fn behind(&self, key: &str, number: u64) -> impl Iterator<Item = &Stage> {
        let all = (key.to_owned(), number + 1)..=(key.to_owned(), u64::MAX);
        self.in_order.range(all).map(|(_, stage)| stage)
    }
}

/// How far an event is.
enum Stage {
    /// Its marker was not there at this time.
    Waits { missing: u64 },
    /// Its marker was found at this time.
    Found { at: u64 },
}

impl Turns {
    /// Of a subscription with these limits.
    pub fn new(limits: Limits) -> Self {
        Self {
            // Others must have room beside them.
            most_late: MOST_LATE.min(limits.messages / 2),
            ..Self::default()
        }
    }

    /// The next event of the topic. Those of one order key are published in order.
    pub fn enter(self: &Arc<Self>, key: Option<String>) -> Turn {
        let mut state = self.state.lock();
        let number = state.tick();
        if let Some(key) = &key {
            let place = (key.clone(), number);
            state.in_order.insert(place, Stage::Waits { missing: 0 });
        }
        drop(state);
        Turn {
            all: Arc::clone(self),
            key,
            number,
            looked: 0,
            is_late: false,
        }
    }

    async fn until<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From now on nothing is missed.
            changed.as_mut().enable();
            if let Some(found) = look(&mut self.state.lock()) {
                return found;
            }
            changed.await;
        }
    }
}

/// One event's place among them; left when it is dropped.
pub struct Turn {
    all: Arc<Turns>,
    /// Nothing where it is in no order.
    key: Option<String>,
    number: u64,
    looked: u64,
    is_late: bool,
}

impl Turn {
    /// The marker is looked for now; gives the time of that.
    pub fn look(&mut self) -> u64 {
        self.looked = self.all.state.lock().tick();
        self.looked
    }

    /// The look of that time did not find the marker.
    pub fn is_missing(&self, look: u64) {
        self.set(Stage::Waits { missing: look });
    }

    /// Until one behind it has found its marker since the last look.
    pub async fn hurried(&self) {
        let Some(key) = &self.key else {
            return std::future::pending().await;
        };
        let hurried = |state: &mut State| {
            let mut behind = state.behind(key, self.number);
            let found =
                behind.any(|stage| matches!(stage, Stage::Found { at } if *at > self.looked));
            found.then_some(())
        };
        self.all.until(hurried).await;
    }

    /// The marker was found. Waits for the event's turn; false where one before it was given back.
    pub async fn comes(&self) -> bool {
        let Some(key) = &self.key else { return true };
        let found = self.all.state.lock().tick();
        self.set(Stage::Found { at: found });
        let decided = |state: &mut State| {
            if state.left.contains(key) {
                return Some(false);
            }
            let mut before = state.before(key, self.number);
            let comes =
                before.all(|stage| matches!(stage, Stage::Waits { missing } if *missing > found));
            comes.then_some(true)
        };
        self.all.until(decided).await
    }

    /// It goes back to the broker, and what is behind it as well.
    pub fn give_back(&mut self) {
        if let Some(key) = &self.key {
            self.all.state.lock().left.insert(key.clone());
        }
    }

    /// Nobody waits for it any more.
    pub fn step_aside(&mut self) {
        if let Some(key) = self.key.take() {
            self.all.state.lock().in_order.remove(&(key, self.number));
            self.all.changed.notify_waiters();
        }
    }

    /// It waits beyond its time. Where too many do, the one that has waited longest is given up.
    pub fn stays(&mut self) {
        self.step_aside();
        if std::mem::replace(&mut self.is_late, true) {
            return;
        }
        let mut state = self.all.state.lock();
        state.late.insert(self.number);
        while state.late.len() > self.all.most_late {
            state.late.pop_first();
        }
        drop(state);
        self.all.changed.notify_waiters();
    }

    /// Until it is given up.
    pub async fn given_up(&self) {
        if !self.is_late {
            return std::future::pending().await;
        }
        let given_up = |state: &mut State| (!state.late.contains(&self.number)).then_some(());
        self.all.until(given_up).await;
    }

    fn set(&self, stage: Stage) {
        if let Some(key) = &self.key {
            let place = (key.clone(), self.number);
            self.all.state.lock().in_order.insert(place, stage);
            self.all.changed.notify_waiters();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.step_aside();
        self.all.state.lock().late.remove(&self.number);
    }
}

/// Events that wait beyond their time at a broker that cannot take them back. What is neither settled nor released takes up
/// the window of the server, with Mosquitto 20 messages.
const MOST_LATE: usize = 10;

#[cfg(test)]
mod tests;
