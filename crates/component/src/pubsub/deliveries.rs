//! The two ends of a subscription: the broker's, which hands messages over as far as there is room, and the runtime's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    vec,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::{Delivery, Redelivery};
use crate::{Error, ErrorKind};

/// What may be under way in one subscription: handed over, and neither settled nor released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages; at least one.
    pub messages: usize,
    /// Bytes of messages. A message that is larger than all of it goes alone.
    pub bytes: usize,
}

impl Limits {
    /// The same, with no more messages than the broker's metadata allow.
    #[must_use]
    pub fn at_most(self, messages: usize) -> Self {
        Self {
            messages: self.messages.min(messages),
            ..self
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            messages: MOST_MESSAGES,
            bytes: MOST_BYTES,
        }
    }
}

/// Messages under way in a subscription that says nothing else.
pub const MOST_MESSAGES: usize = 512;

/// Bytes under way in a subscription that says nothing else.
pub const MOST_BYTES: usize = 64 << 20;

/// Why a subscription has ended on the broker's side. It decides when the runtime opens it again.
#[derive(Debug)]
pub enum Ended {
    /// The component was closed. Mostly the runtime is about to close the subscription as well; one that it keeps is tried
    /// again after the longest pause.
    Closed,
    /// The broker has moved what was read here to another subscriber or another server; it is opened again after the
    /// shortest pause.
    Rebalanced,
    /// The broker failed; it is opened again after a pause, the longest one where the kind says that waiting will not help.
    Failed(Error),
}

/// How the runtime leaves a subscription.
#[derive(Default)]
struct Leaving {
    soon: AtomicBool,
    for_good: AtomicBool,
}

/// The receiving end of a subscription. Dropping it closes the subscription for now: somebody comes back to it, and what is
/// published meanwhile is kept for that, as far as the broker keeps anything. [`Deliveries::withdraw`] closes it for good.
pub struct Deliveries {
    receiver: mpsc::UnboundedReceiver<Received>,
    /// The rest of a batch that is taken one by one.
    rest: vec::IntoIter<Delivery>,
    paused: watch::Sender<bool>,
    leaving: Arc<Leaving>,
    limits: Limits,
    redelivery: Redelivery,
}

/// The broker's end of a subscription. Clones share it; it is over for all of them once one has ended it, or all are gone.
#[derive(Clone)]
pub struct DeliverySender {
    /// Without a bound of its own: each entry holds a permit, apart from the one that ends it.
    sender: mpsc::UnboundedSender<Received>,
    paused: watch::Receiver<bool>,
    leaving: Arc<Leaving>,
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    limits: Limits,
}

type Received = Result<Vec<Delivery>, Ended>;

/// A message's share of the limits, given back when it is dropped.
pub(super) struct Permit {
    _message: Option<OwnedSemaphorePermit>,
    _bytes: Option<OwnedSemaphorePermit>,
}

/// A subscription within limits; the broker says who delivers messages again.
pub fn deliveries(limits: Limits, redelivery: Redelivery) -> (DeliverySender, Deliveries) {
    let limits = Limits {
        messages: limits.messages.clamp(1, LARGEST),
        bytes: limits.bytes.clamp(1, LARGEST),
    };
    let (sender, receiver) = mpsc::unbounded_channel();
    let (pause, paused) = watch::channel(false);
    let leaving = Arc::<Leaving>::default();
    let sender = DeliverySender {
        sender,
        paused,
        leaving: Arc::clone(&leaving),
        messages: Arc::new(Semaphore::new(limits.messages)),
        bytes: Arc::new(Semaphore::new(limits.bytes)),
        limits,
    };
    let deliveries = Deliveries {
        receiver,
        rest: Vec::new().into_iter(),
        paused: pause,
        leaving,
        limits,
        redelivery,
    };
    (sender, deliveries)
}

impl Deliveries {
    /// The next message. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Once, why the broker has ended the subscription; everything it had handed over came before.
    pub async fn next(&mut self) -> Result<Delivery, Ended> {
        loop {
            if let Some(delivery) = self.rest.next() {
                return Ok(delivery);
            }
            self.rest = self.receive().await?.into_iter();
        }
    }

    /// The next messages as the broker had them together; never empty. Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`Deliveries::next`].
    pub async fn next_batch(&mut self) -> Result<Vec<Delivery>, Ended> {
        if self.rest.len() > 0 {
            return Ok(std::mem::take(&mut self.rest).collect());
        }
        self.receive().await
    }

    async fn receive(&mut self) -> Received {
        match self.receiver.recv().await {
            Some(received) => received,
            None => Err(Ended::Failed(Error::new(
                ErrorKind::Internal,
                "the component has stopped reading without a reason",
            ))),
        }
    }

    /// Stops (or goes on with) taking messages from the broker, without leaving the subscription.
    pub fn pause(&self, paused: bool) {
        self.paused.send_replace(paused);
    }

    /// Pauses a subscription that is about to be closed: a broker that keeps no message for later still hands over what it
    /// has accepted.
    pub fn drain(&self) {
        self.leaving.soon.store(true, Ordering::Release);
        self.pause(true);
    }

    /// Closes the subscription for good: nobody comes back to it. A broker that would go on to collect messages for this
    /// subscriber alone is told so; what subscribers share stays.
    pub fn withdraw(self) {
        self.leaving.for_good.store(true, Ordering::Release);
    }

    /// Who delivers messages again.
    pub fn redelivery(&self) -> Redelivery {
        self.redelivery
    }

    /// What may be under way.
    pub fn limits(&self) -> Limits {
        self.limits
    }
}

impl DeliverySender {
    /// The limits that are kept here, for brokers that take such numbers themselves (a prefetch count, a receive maximum).
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Waits until messages are wanted: not paused.
    ///
    /// # Errors
    /// [`Closed`] once the subscription is closed.
    pub async fn wanted(&mut self) -> Result<(), Closed> {
        tokio::select! {
            () = self.sender.closed() => Err(Closed),
            state = self.paused.wait_for(|paused| !*paused) => state.map(drop).map_err(|_| Closed),
        }
    }

    /// Whether messages are not wanted for now.
    pub fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    /// Whether the subscription is about to be closed, see [`Deliveries::drain`].
    pub fn is_draining(&self) -> bool {
        self.leaving.soon.load(Ordering::Acquire)
    }

    /// Waits until the subscription is paused or resumed, and says which: for brokers that must be told.
    ///
    /// # Errors
    /// [`Closed`] once the subscription is closed.
    pub async fn pause_changed(&mut self) -> Result<bool, Closed> {
        tokio::select! {
            () = self.sender.closed() => Err(Closed),
            changed = self.paused.changed() => match changed {
                Ok(()) => Ok(*self.paused.borrow_and_update()),
                Err(_) => Err(Closed),
            },
        }
    }

    /// Hands a message over, waiting for room. Dropped before that, the future releases it.
    ///
    /// # Errors
    /// [`Closed`] once the subscription is closed; the message is released.
    pub async fn send(&self, delivery: Delivery) -> Result<(), Closed> {
        self.send_batch(vec![delivery]).await
    }

    /// Hands over messages that the broker has together, waiting until there is room for all of them, or for as many as
    /// ever fit. Each is settled for itself. Dropped before that, the future releases them.
    ///
    /// # Errors
    /// As [`DeliverySender::send`].
    pub async fn send_batch(&self, mut batch: Vec<Delivery>) -> Result<(), Closed> {
        if batch.is_empty() {
            return Ok(());
        }
        let bytes: Vec<usize> = batch.iter().map(|one| one.message.size()).collect();
        let messages = acquire(&self.messages, batch.len(), self.limits.messages);
        let all_bytes = acquire(&self.bytes, bytes.iter().sum(), self.limits.bytes);
        let room = async { Some((messages.await?, all_bytes.await?)) };
        let (mut messages, mut all_bytes) = tokio::select! {
            biased;
            () = self.sender.closed() => return Err(Closed),
            room = room => room.ok_or(Closed)?,
        };
        for (delivery, bytes) in batch.iter_mut().zip(bytes) {
            delivery.ack.permit = Some(Permit {
                _message: messages.split(1),
                _bytes: all_bytes.split(bytes.min(all_bytes.num_permits())),
            });
        }
        self.sender.send(Ok(batch)).map_err(|_| Closed)
    }

    /// Ends the subscription from the broker's side. What was handed over stays to be settled.
    pub fn end(self, reason: Ended) {
        // Nobody to tell is no failure: the subscription was closed.
        let _ = self.sender.send(Err(reason));
    }

    /// Whether the subscription is closed.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Until the subscription is closed.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Whether it is closed for good: nobody comes back to it.
    pub fn is_withdrawn(&self) -> bool {
        self.leaving.for_good.load(Ordering::Acquire)
    }
}

/// Permits for so many, or for all there are where that is more.
async fn acquire(
    semaphore: &Arc<Semaphore>,
    wanted: usize,
    all: usize,
) -> Option<OwnedSemaphorePermit> {
    let permits = u32::try_from(wanted.min(all)).unwrap_or(u32::MAX);
    Arc::clone(semaphore).acquire_many_owned(permits).await.ok()
}

/// The subscription is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// Permits are taken many at a time, which is counted in 32 bits.
const LARGEST: usize = u32::MAX as usize >> 3;

#[cfg(test)]
mod tests;
