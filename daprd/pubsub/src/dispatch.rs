//! What a subscription receives on its way to the app: deliveries that run beside each other, in order where the broker asks
//! for it, in batches where the app does, and an end that neither loses nor doubles a message.

use std::{
    collections::{HashMap, HashSet, VecDeque},
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
    batch::Batches,
    core::LOG,
    delivery::{GivenBack, Mode, Subscriber, Target},
};

/// Deliveries under way.
pub struct Dispatcher {
    subscriber: Arc<Subscriber>,
    flight: JoinSet<GivenBack>,
    /// The order key of deliveries under way that have one.
    keys: HashMap<Id, String>,
    /// What waits for the delivery before it, by order key. A key is here while one of it is under way.
    queues: HashMap<String, VecDeque<Delivery>>,
    /// Order keys of what was given back, which happens only at an end: what comes behind it is given back as well.
    left: HashSet<String>,
    /// Where the app takes batches: they go out one after another.
    batches: Option<Batches>,
    redelivery: Redelivery,
    /// What waits for others is not begun any more.
    begins_none: bool,
}

impl Dispatcher {
    /// For what was opened now.
    pub fn new(subscriber: &Subscriber, deliveries: &Deliveries) -> Self {
        let immediate = subscriber
            .broker
            .capabilities()
            .contains(Capability::BulkSubscribeImmediate);
        let bulk = subscriber.subscription.bulk;
        Self {
            subscriber: Arc::new(subscriber.opened(deliveries.limits())),
            flight: JoinSet::new(),
            keys: HashMap::new(),
            queues: HashMap::new(),
            left: HashSet::new(),
            batches: bulk.map(|bulk| Batches::new(bulk, immediate)),
            redelivery: deliveries.redelivery(),
            begins_none: false,
        }
    }

    /// `None` where the mode says to end; else why the broker has ended the subscription.
    pub async fn run(
        mut self,
        mut deliveries: Deliveries,
        mode: &mut watch::Receiver<Mode>,
    ) -> Option<Ended> {
        loop {
            if *mode.borrow_and_update() >= Mode::Drain {
                self.end(deliveries, mode).await;
                return None;
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
                        // Nothing is tried again here: what failed comes again when it is opened anew.
                        self.subscriber.opening.over.cancel();
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
        let is_idle = |batches: &Batches| self.flight.is_empty() && !batches.is_ready();
        self.batches.as_ref().is_none_or(is_idle)
    }

    fn due(&self) -> Option<Instant> {
        self.batches.as_ref().and_then(Batches::due)
    }

    fn take(&mut self, received: Vec<Delivery>) {
        match &mut self.batches {
            None => received.into_iter().for_each(|one| self.take_one(one)),
            Some(batches) => {
                batches.take(received, Instant::now());
                self.launch_batch();
            }
        }
    }

    fn take_one(&mut self, mut delivery: Delivery) {
        if matches!(self.subscriber.target, Target::Outbox) {
            // The relay keeps the order that its events need, which is not that of their arrival.
            let turn = self
                .subscriber
                .opening
                .turns
                .enter(delivery.order_key.take());
            let (subscriber, redelivery) = (Arc::clone(&self.subscriber), self.redelivery);
            self.flight.spawn(async move {
                subscriber.relay(delivery, redelivery, turn).await;
                GivenBack::new()
            });
            return;
        }
        if let Some(key) = &delivery.order_key {
            if self.left.contains(key) {
                return;
            }
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
        let (subscriber, redelivery) = (Arc::clone(&self.subscriber), self.redelivery);
        let task = self
            .flight
            .spawn(async move { subscriber.handle(delivery, redelivery).await });
        if let Some(key) = key {
            self.keys.insert(task.id(), key);
        }
    }

    fn launch_batch(&mut self) {
        if let Some(batches) = &mut self.batches
            && !self.begins_none
            && self.flight.is_empty()
            && let Some(batch) = batches.next(&self.left)
        {
            let (subscriber, redelivery) = (Arc::clone(&self.subscriber), self.redelivery);
            self.flight
                .spawn(async move { subscriber.handle_batch(batch, redelivery).await });
        }
    }

    fn flush(&mut self) {
        if let Some(batches) = &mut self.batches {
            batches.flush();
            self.launch_batch();
        }
    }

    /// A delivery is over, be it by a panic: the next of its key begins, or goes back as well.
    fn landed(&mut self, done: Result<(Id, GivenBack), tokio::task::JoinError>) {
        let id = match done {
            Ok((id, given_back)) => {
                self.left.extend(given_back);
                id
            }
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
        self.launch_batch();
        let Some(key) = self.keys.remove(&id) else {
            return;
        };
        if self.begins_none || self.left.contains(&key) {
            self.queues.remove(&key);
            return;
        }
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
        let ready = self.batches.as_ref().map_or(0, Batches::waiting);
        ready + self.queues.values().map(VecDeque::len).sum::<usize>()
    }

    /// Gives back what was taken and is not being delivered.
    fn give_back_waiting(&mut self) {
        self.queues.values_mut().for_each(VecDeque::clear);
        if let Some(batches) = &mut self.batches {
            batches.clear();
        }
    }

    /// Ends as the mode says, within [`DRAIN_LIMIT`]. What is not delivered by then goes back to the broker.
    async fn end(mut self, mut deliveries: Deliveries, mode: &mut watch::Receiver<Mode>) {
        deliveries.drain();
        self.deliver_rest(&mut deliveries, mode).await;
        // Before the subscription, which may be one that nobody comes back to.
        drop(self.flight);
        drop(self.queues);
        drop(self.batches);
        if self.subscriber.is_withdrawn() {
            deliveries.withdraw();
        }
    }

    async fn deliver_rest(
        &mut self,
        deliveries: &mut Deliveries,
        mode: &mut watch::Receiver<Mode>,
    ) {
        let deadline = Instant::now() + DRAIN_LIMIT;
        // What waits for others goes back behind them.
        let mut more = !matches!(self.redelivery, Redelivery::InPlace(_));
        if more {
            self.flush();
        } else {
            self.begins_none = true;
        }
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
