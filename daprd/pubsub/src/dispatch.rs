//! What a subscription receives on its way to the app: deliveries that run beside each other, in order where the broker asks
//! for it, in batches where the app does, and an end that neither loses nor doubles a message.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use component::pubsub::{Capability, Deliveries, Delivery, Ended, Redelivery};
use tokio::{
    sync::watch,
    task::{Id, JoinSet},
    time::{Instant, sleep_until, timeout},
};

use crate::{
    batch::Batcher,
    core::LOG,
    delivery::{Mode, Subscriber},
};

/// Deliveries under way.
pub struct Dispatcher<'s> {
    subscriber: &'s Arc<Subscriber>,
    flight: JoinSet<()>,
    /// The order key of deliveries under way that have one.
    keys: HashMap<Id, String>,
    /// What waits for the delivery before it, by order key. A key is here while one of it is under way.
    queues: HashMap<String, VecDeque<Delivery>>,
    batches: Batches,
    redelivery: Redelivery,
}

/// How messages go to the app.
enum Batches {
    /// One by one, beside each other as far as their order allows.
    None,
    /// In batches that are put together here, one after another.
    Collected(Batcher<Delivery>),
    /// In the batches that the broker has, one after another.
    AsReceived {
        most: usize,
        ready: VecDeque<Vec<Delivery>>,
    },
}

impl<'s> Dispatcher<'s> {
    pub fn new(subscriber: &'s Arc<Subscriber>, redelivery: Redelivery) -> Self {
        let immediate = subscriber
            .broker
            .capabilities()
            .contains(Capability::BulkSubscribeImmediate);
        Self {
            subscriber,
            flight: JoinSet::new(),
            keys: HashMap::new(),
            queues: HashMap::new(),
            batches: match subscriber.subscription.bulk {
                None => Batches::None,
                Some(bulk) if immediate => Batches::AsReceived {
                    most: bulk.most.max(1),
                    ready: VecDeque::new(),
                },
                Some(bulk) => Batches::Collected(Batcher::new(bulk)),
            },
            redelivery,
        }
    }

    /// `None` where the mode says to end; else why the broker has ended the subscription.
    pub async fn run(
        mut self,
        mut deliveries: Deliveries,
        mode: &mut watch::Receiver<Mode>,
    ) -> Option<Ended> {
        let mut paused = false;
        loop {
            let now = *mode.borrow_and_update();
            if now >= Mode::Drain {
                self.end(deliveries, mode).await;
                return None;
            }
            if paused != (now == Mode::Pause) {
                paused = !paused;
                deliveries.pause(paused);
            }
            let (due, takes_more) = (self.due(), self.takes_more());
            tokio::select! {
                changed = mode.changed() => if changed.is_err() {
                    return None;
                },
                Some(done) = self.flight.join_next_with_id() => self.landed(done),
                () = until(due), if takes_more => self.flush(),
                received = deliveries.next_batch(), if takes_more => match received {
                    Ok(received) => self.take(received),
                    Err(ended) => {
                        self.flush();
                        tokio::select! {
                            () = self.finish() => return Some(ended),
                            _ = mode.wait_for(|mode| *mode >= Mode::Drain) => {}
                        }
                        self.end(deliveries, mode).await;
                        return None;
                    }
                },
            }
        }
    }

    /// Batches go out one after another. What goes out beside each other is limited where the broker hands it over.
    fn takes_more(&self) -> bool {
        matches!(self.batches, Batches::None) || self.flight.is_empty()
    }

    fn due(&self) -> Option<Instant> {
        match &self.batches {
            Batches::Collected(batcher) => batcher.due(),
            Batches::None | Batches::AsReceived { .. } => None,
        }
    }

    fn take(&mut self, mut received: Vec<Delivery>) {
        match &mut self.batches {
            Batches::None => received.into_iter().for_each(|one| self.take_one(one)),
            Batches::Collected(batcher) => {
                let now = Instant::now();
                let full = received
                    .into_iter()
                    .filter_map(|one| batcher.push(one, now));
                let full: Vec<_> = full.collect();
                full.into_iter().for_each(|batch| self.launch_batch(batch));
            }
            Batches::AsReceived { most, ready } => {
                while received.len() > *most {
                    let rest = received.split_off(*most);
                    ready.push_back(std::mem::replace(&mut received, rest));
                }
                ready.push_back(received);
                self.launch_ready();
            }
        }
    }

    fn take_one(&mut self, delivery: Delivery) {
        if let Some(key) = &delivery.order_key {
            if let Some(queue) = self.queues.get_mut(key) {
                queue.push_back(delivery);
                return;
            }
            self.queues.insert(key.clone(), VecDeque::new());
        }
        self.launch(delivery);
    }

    fn launch(&mut self, delivery: Delivery) {
        let key = delivery.order_key.clone();
        let (subscriber, redelivery) = (Arc::clone(self.subscriber), self.redelivery);
        let task = self
            .flight
            .spawn(async move { subscriber.handle(delivery, redelivery).await });
        if let Some(key) = key {
            self.keys.insert(task.id(), key);
        }
    }

    fn launch_batch(&mut self, batch: Vec<Delivery>) {
        if batch.is_empty() {
            return;
        }
        let (subscriber, redelivery) = (Arc::clone(self.subscriber), self.redelivery);
        self.flight
            .spawn(async move { subscriber.handle_batch(batch, redelivery).await });
    }

    fn launch_ready(&mut self) {
        if let Batches::AsReceived { ready, .. } = &mut self.batches
            && self.flight.is_empty()
            && let Some(batch) = ready.pop_front()
        {
            self.launch_batch(batch);
        }
    }

    fn flush(&mut self) {
        if let Batches::Collected(batcher) = &mut self.batches {
            let batch = batcher.flush();
            self.launch_batch(batch);
        }
    }

    /// A delivery is over, be it by a panic: the next of its key begins.
    fn landed(&mut self, done: Result<(Id, ()), tokio::task::JoinError>) {
        let id = match done {
            Ok((id, ())) => id,
            Err(error) => {
                // The panic itself is logged and counted by the program's hook; the message was released.
                tracing::error!(
                    target: LOG,
                    "a delivery of topic {} of pubsub {} panicked",
                    self.subscriber.subscription.topic,
                    self.subscriber.pubsub()
                );
                error.id()
            }
        };
        self.launch_ready();
        let Some(key) = self.keys.remove(&id) else {
            return;
        };
        match self.queues.get_mut(&key).and_then(VecDeque::pop_front) {
            Some(next) => self.launch(next),
            None => {
                self.queues.remove(&key);
            }
        }
    }

    /// Waits for everything that was taken.
    async fn finish(&mut self) {
        while let Some(done) = self.flight.join_next_with_id().await {
            self.landed(done);
        }
    }

    /// What was taken and is not being delivered.
    fn waiting(&self) -> usize {
        let ready = match &self.batches {
            Batches::AsReceived { ready, .. } => ready.iter().map(Vec::len).sum(),
            Batches::None | Batches::Collected(_) => 0,
        };
        ready + self.queues.values().map(VecDeque::len).sum::<usize>()
    }

    /// Gives back what was taken and is not being delivered.
    fn give_back_waiting(&mut self) {
        self.queues.values_mut().for_each(VecDeque::clear);
        if let Batches::AsReceived { ready, .. } = &mut self.batches {
            ready.clear();
        }
    }

    /// Ends as the mode says, within [`DRAIN_LIMIT`]. What is not delivered by then goes back to the broker.
    async fn end(&mut self, mut deliveries: Deliveries, mode: &mut watch::Receiver<Mode>) {
        deliveries.pause(true);
        self.flush();
        let deadline = Instant::now() + DRAIN_LIMIT;
        let mut more = true;
        loop {
            let now = *mode.borrow_and_update();
            if now >= Mode::Abandon {
                return;
            }
            if now == Mode::Leave {
                more = false;
                self.give_back_waiting();
            }
            if !more && self.flight.is_empty() {
                return;
            }
            let takes_more = more && self.takes_more();
            tokio::select! {
                Some(done) = self.flight.join_next_with_id() => self.landed(done),
                // The broker may be about to hand over what it had read before it was paused.
                next = timeout(QUIET, deliveries.next_batch()), if takes_more => match next {
                    Ok(Ok(received)) => {
                        self.take(received);
                        self.flush();
                    }
                    Ok(Err(_)) => more = false,
                    Err(_) => more = !self.flight.is_empty(),
                },
                () = sleep_until(deadline) => {
                    tracing::warn!(
                        target: LOG,
                        "drain exceeded {DRAIN_LIMIT:?}; {} deliveries of topic {} are given back",
                        self.flight.len() + self.waiting(),
                        self.subscriber.subscription.topic
                    );
                    return;
                }
                changed = mode.changed() => if changed.is_err() {
                    return;
                },
            }
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// How long deliveries under way may take when their subscription ends.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// Silence after which a paused broker has handed over what it had.
const QUIET: Duration = Duration::from_millis(100);
