//! Which subscriptions are open: what should be goes in, and what is to be opened and ended comes out. Nothing here waits,
//! so no lock is held across a broker's call, and a caller that goes away in the middle leaves nothing undone.

use std::sync::Arc;

use futures::future::join_all;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    brokers::Broker,
    consumer::Phase,
    delivery::{Mode, Target},
    subscription::Subscription,
};

/// What an open subscription is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    App { pubsub: String, topic: String },
    Stream(u64),
    Outbox { pubsub: String, topic: String },
}

/// A subscription that should be open.
pub struct Wanted {
    pub key: Key,
    pub broker: Arc<Broker>,
    pub subscription: Arc<Subscription>,
    pub target: Target,
}

/// How an open subscription is told what to do, and says how far it is.
#[derive(Clone)]
pub struct Control {
    pub mode: watch::Sender<Mode>,
    pub phase: watch::Receiver<Phase>,
    /// Cancelled once nobody is to come back to it.
    pub withdrawn: CancellationToken,
    pub ended: CancellationToken,
}

/// How a subscription ends.
#[derive(Clone, Copy)]
pub struct End {
    pub mode: Mode,
    /// Nobody comes back to it.
    pub is_withdrawn: bool,
}

impl Control {
    /// An end is not taken back, only hastened.
    fn set(&self, to: Mode) {
        self.mode.send_if_modified(|mode| {
            let changes = *mode != to && (*mode == Mode::Run || to > *mode);
            if changes {
                *mode = to;
            }
            changes
        });
    }
}

/// A subscription that is open or being opened.
pub struct Open {
    pub key: Key,
    pub broker: Arc<Broker>,
    pub subscription: Arc<Subscription>,
    pub control: Control,
}

/// One that was told to end. It does not hold its broker, which is closed when nobody does.
struct Ending {
    key: Key,
    pubsub: String,
    control: Control,
}

/// The open subscriptions.
#[derive(Default)]
pub struct Consumers {
    /// Whether the app takes events.
    pub active: bool,
    /// Whether everything has ended for good.
    pub closed: bool,
    open: Vec<Open>,
    /// Not yet over: others of their key wait for them.
    ending: Vec<Ending>,
}

/// What a caller may wait for after a change.
#[derive(Default)]
pub struct Changes {
    opening: Vec<watch::Receiver<Phase>>,
    ending: Vec<CancellationToken>,
}

impl Changes {
    /// Until what was to end has ended, and what was to open is open or tried again in the background. Dropping the future
    /// changes nothing.
    pub async fn settled(self) {
        join_all(self.ending.iter().map(CancellationToken::cancelled)).await;
        join_all(self.opening.into_iter().map(|mut phase| async move {
            // One that has ended without beginning is not waited for.
            let _ = phase.wait_for(|phase| *phase != Phase::Opening).await;
        }))
        .await;
    }
}

impl Consumers {
    /// Ends what should not be open any more, `how` says in which way, and has `open` begin what should be and is not. It is
    /// given what must have ended before.
    pub fn reconcile(
        &mut self,
        mut wanted: Vec<Wanted>,
        how: impl Fn(&Key) -> End,
        mut open: impl FnMut(Wanted, Vec<CancellationToken>) -> Open,
    ) {
        self.ending.retain(|one| !one.control.ended.is_cancelled());
        let mut kept = Vec::with_capacity(self.open.len());
        for one in self.open.drain(..) {
            if one.control.ended.is_cancelled() {
                continue;
            }
            match wanted.iter().position(|wanted| wanted.is(&one)) {
                Some(place) => {
                    wanted.swap_remove(place);
                    kept.push(one);
                }
                None => {
                    let end = how(&one.key);
                    if end.is_withdrawn {
                        one.control.withdrawn.cancel();
                    }
                    one.control.set(end.mode);
                    self.ending.push(Ending {
                        pubsub: one.broker.listed.name.clone(),
                        key: one.key,
                        control: one.control,
                    });
                }
            }
        }
        self.open = kept;
        for one in wanted {
            let before = self.ending.iter().filter(|other| other.key == one.key);
            let before = before.map(|other| other.control.ended.clone()).collect();
            self.open.push(open(one, before));
        }
    }

    /// Adds one that is open already.
    pub fn add(&mut self, open: Open) {
        self.open.push(open);
    }

    /// How far an open subscription is; nothing where there is none.
    pub fn phase(&self, key: &Key) -> Option<watch::Receiver<Phase>> {
        let one = self.open.iter().find(|one| one.key == *key)?;
        Some(one.control.phase.clone())
    }

    /// Hastens what is ending already.
    pub fn hasten(&self, how: Mode) {
        self.ending.iter().for_each(|one| one.control.set(how));
    }

    /// What is under way at a component, or at all.
    pub fn changes(&self, pubsub: Option<&str>) -> Changes {
        let at = |name: &str| pubsub.is_none_or(|pubsub| pubsub == name);
        let open = self.open.iter().filter(|one| at(&one.broker.listed.name));
        let ending = self.ending.iter().filter(|one| at(&one.pubsub));
        Changes {
            opening: open.map(|one| one.control.phase.clone()).collect(),
            ending: ending.map(|one| one.control.ended.clone()).collect(),
        }
    }
}

impl Wanted {
    fn is(&self, open: &Open) -> bool {
        self.key == open.key
            && self.subscription == open.subscription
            && Arc::ptr_eq(&self.broker, &open.broker)
    }
}

#[cfg(test)]
mod tests;
