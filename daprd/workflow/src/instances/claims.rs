//! Who does what is open of an instance. Nobody is kept from the instance meanwhile, so several may be at it; and whoever is broken off
//! leaves it to the next one.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::atomic::Ordering,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::watch, time::timeout};

use super::{Instance, Slot};
use crate::core::effects::Effect;

/// Who is at it, by the order in which they began, and what nobody may forget.
#[derive(Default)]
pub struct Claims {
    numbers: watch::Sender<Numbers>,
    /// What is to be sent and does not follow from the history any more: unlike all else it cannot be found out anew.
    unsent: Mutex<Vec<Effect>>,
}

#[derive(Default)]
struct Numbers {
    next: u64,
    going_on: BTreeSet<u64>,
}

/// What somebody does.
pub struct Claim<'i> {
    instance: &'i Instance,
    number: u64,
    run: u64,
    pub effects: Vec<Effect>,
    /// What is to be sent to others, in this order; it is here until it was.
    pub messages: VecDeque<Effect>,
    /// A janitor looks after the instance.
    pub guarded: bool,
    /// What could not be done so far.
    pub left: Vec<Effect>,
    settled: bool,
}

/// Messages of what is being written, which may fail, or may have been done where it seems to have failed.
pub struct Unsent<'i>(&'i Instance, Vec<Effect>);

impl Effect {
    /// Whether it is a message, of which nobody can tell later whether it was sent.
    pub fn is_message(&self) -> bool {
        matches!(self, Self::Event { .. })
    }
}

impl Instance {
    /// Takes what is open, to do it.
    pub fn claim(&self, slot: &mut Slot) -> Claim<'_> {
        let mut number = 0;
        self.claims.numbers.send_modify(|claims| {
            number = claims.next;
            claims.next += 1;
            claims.going_on.insert(number);
        });
        let open = slot.open.replace(Vec::new()).unwrap_or_default();
        let mut messages: VecDeque<_> = std::mem::take(&mut *self.claims.unsent.lock()).into();
        let (new, effects) = open.into_iter().partition::<Vec<_>, _>(Effect::is_message);
        messages.extend(new);
        Claim {
            instance: self,
            number,
            run: slot.run,
            effects,
            messages,
            guarded: slot.guarded,
            left: Vec::new(),
            settled: false,
        }
    }

    /// Nobody knows any more what is open, but for what is to be sent.
    pub fn forget_open(&self, slot: &mut Slot) {
        self.keep(slot.open.take().unwrap_or_default());
    }

    /// Sends the messages among these with whatever is done next.
    pub fn keep(&self, mut effects: Vec<Effect>) {
        effects.retain(Effect::is_message);
        self.claims.unsent.lock().extend(effects);
    }

    /// The messages of what is open, while it is not known whether it still will be.
    pub fn guard_messages(&self, open: Option<&[Effect]>) -> Unsent<'_> {
        let messages = open.into_iter().flatten();
        let messages = messages.filter(|it| it.is_message()).cloned();
        Unsent(self, messages.collect())
    }

    /// Whether everything is done that had been claimed by the time of a claim, once whoever claimed it has come to an end. Whoever says
    /// that an instance has been seen to asks this before: nobody may hear how it went with the others.
    pub async fn is_all_done(&self, number: u64) -> bool {
        let mut claims = self.claims.numbers.subscribe();
        let settled = claims.wait_for(|claims| claims.going_on.range(..number).next().is_none());
        if !timeout(PATIENCE, settled).await.is_ok_and(|it| it.is_ok()) {
            return false;
        }
        let slot = self.lock().await;
        slot.open.as_ref().is_some_and(Vec::is_empty) && self.claims.unsent.lock().is_empty()
    }
}

impl Unsent<'_> {
    /// What is open is known again.
    pub fn known(mut self) {
        self.1.clear();
    }
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        self.0.keep(std::mem::take(&mut self.1));
    }
}

impl Claim<'_> {
    /// Gives back what could not be done: the number of the claim, for [`Instance::is_all_done`]. Where another run has begun, its
    /// numbers of tasks and timers are others: only what goes to other instances is still to be done.
    pub async fn settle(mut self) -> u64 {
        let instance = self.instance;
        if !self.left.is_empty() {
            let mut slot = instance.lock().await;
            let mut left = std::mem::take(&mut self.left);
            if slot.run != self.run {
                left.retain(|it| matches!(it, Effect::Report { .. } | Effect::Event { .. }));
            }
            match &mut slot.open {
                Some(open) => open.extend(left),
                None => instance.keep(left),
            }
        }
        self.settled = true;
        self.number
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.instance.broken_off.store(true, Ordering::Release);
            self.instance.keep(std::mem::take(&mut self.left));
            self.instance
                .keep(std::mem::take(&mut self.messages).into());
        }
        let number = self.number;
        let over = |claims: &mut Numbers| claims.going_on.remove(&number);
        self.instance.claims.numbers.send_if_modified(over);
    }
}

/// How long what others do is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
