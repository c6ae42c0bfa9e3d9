//! The loop of one open subscription: takes messages from the broker, hands them to deliveries that run beside each other,
//! keeps order where the broker asks for it, and ends without losing or doubling a message.

use std::{
    collections::{HashMap, VecDeque},
    ops::ControlFlow,
    sync::Arc,
    time::Duration,
};

use component::pubsub::{Capability, Deliveries, Delivery, SubscribeRequest};
use tokio::{
    sync::watch,
    task::{Id, JoinSet},
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    Error,
    batch::Batcher,
    delivery::{LOG, Line, Mode},
};

/// Opens the subscription at the broker.
///
/// # Errors
/// [`Error::NotSubscribable`], [`Error::Component`].
pub async fn open(line: &Line) -> Result<Deliveries, Error> {
    let subscription = &line.subscription;
    if !line.broker.scopes.may_subscribe(&subscription.topic) {
        return Err(Error::NotSubscribable {
            pubsub: subscription.pubsub.clone(),
            topic: subscription.topic.clone(),
        });
    }
    let request = SubscribeRequest {
        topic: line.broker.full_topic(&subscription.topic),
        metadata: subscription.metadata.clone(),
    };
    let opening = line.broker.component.subscribe(request);
    match timeout(OPEN_LIMIT, opening).await {
        Ok(opened) => Ok(opened?),
        Err(_) => Err(Error::Component(component::Error::new(
            component::ErrorKind::Unavailable,
            format!("the subscription is not open after {OPEN_LIMIT:?}"),
        ))),
    }
}

/// Runs until the mode says to end. Where the broker has ended the subscription, or never began it, it is opened again.
pub async fn run(line: Arc<Line>, opened: Option<Deliveries>) {
    let mut mode = line.mode.clone();
    let mut opened = opened;
    loop {
        let deliveries = match opened.take() {
            Some(deliveries) => deliveries,
            None => match reopen(&line, &mut mode).await {
                Some(deliveries) => deliveries,
                None => return,
            },
        };
        if Pump::new(&line).run(deliveries, &mut mode).await.is_break() {
            return;
        }
        tracing::warn!(
            target: LOG,
            "the subscription to topic {} of pubsub {} has ended; opening it again",
            line.subscription.topic,
            line.pubsub()
        );
    }
}

/// Tries until the subscription is open, with growing pauses; nothing where the mode says to end.
async fn reopen(line: &Line, mode: &mut watch::Receiver<Mode>) -> Option<Deliveries> {
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::select! {
            biased;
            _ = mode.wait_for(|mode| *mode >= Mode::Drain) => return None,
            () = sleep(pause) => {}
        }
        let attempt = tokio::select! {
            biased;
            _ = mode.wait_for(|mode| *mode >= Mode::Drain) => return None,
            attempt = open(line) => attempt,
        };
        match attempt {
            Ok(deliveries) => return Some(deliveries),
            Err(error) => {
                tracing::error!(
                    target: LOG,
                    "Retry failed for subscription pubsub {}, topic {}: {error}. Will retry.",
                    line.pubsub(),
                    line.subscription.topic
                );
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Deliveries under way.
struct Pump<'l> {
    line: &'l Arc<Line>,
    flight: JoinSet<()>,
    /// The order key of deliveries under way that have one.
    keys: HashMap<Id, String>,
    /// What waits for the delivery before it, by order key. A key is here while one of it is under way.
    queues: HashMap<String, VecDeque<Delivery>>,
    queued: usize,
    batcher: Option<Batcher<Delivery>>,
}

impl<'l> Pump<'l> {
    fn new(line: &'l Arc<Line>) -> Self {
        let at_once = line.broker.has(Capability::BulkSubscribeImmediate);
        Self {
            line,
            flight: JoinSet::new(),
            keys: HashMap::new(),
            queues: HashMap::new(),
            queued: 0,
            batcher: line
                .subscription
                .bulk
                .map(|bulk| Batcher::new(bulk, at_once)),
        }
    }

    /// Breaks where the mode says to end; goes on where the broker has ended the subscription.
    async fn run(
        mut self,
        mut deliveries: Deliveries,
        mode: &mut watch::Receiver<Mode>,
    ) -> ControlFlow<()> {
        let mut paused = false;
        loop {
            let now = *mode.borrow_and_update();
            if now >= Mode::Drain {
                self.end(deliveries, mode).await;
                return ControlFlow::Break(());
            }
            if paused != (now == Mode::Pause) {
                paused = !paused;
                deliveries.pause(paused);
            }
            tokio::select! {
                changed = mode.changed() => if changed.is_err() {
                    return ControlFlow::Break(());
                },
                Some(done) = self.flight.join_next_with_id() => self.landed(done),
                () = until(self.batcher.as_ref().and_then(Batcher::due)), if self.has_room() => self.flush(),
                next = deliveries.next(), if self.has_room() => match next {
                    Some(delivery) => self.take(delivery),
                    None => {
                        self.flush();
                        tokio::select! {
                            () = self.finish() => {}
                            _ = mode.wait_for(|mode| *mode >= Mode::Drain) => {}
                        }
                        return ControlFlow::Continue(());
                    }
                },
            }
        }
    }

    /// Batches go out one after another, single messages beside each other.
    fn has_room(&self) -> bool {
        if self.batcher.is_some() {
            self.flight.is_empty()
        } else {
            self.flight.len() + self.queued < MOST_IN_FLIGHT
        }
    }

    fn take(&mut self, delivery: Delivery) {
        if let Some(batcher) = &mut self.batcher {
            if let Some(batch) = batcher.push(delivery, Instant::now()) {
                self.launch_batch(batch);
            }
            return;
        }
        if let Some(key) = &delivery.order_key {
            if let Some(queue) = self.queues.get_mut(key) {
                queue.push_back(delivery);
                self.queued += 1;
                return;
            }
            self.queues.insert(key.clone(), VecDeque::new());
        }
        self.launch(delivery);
    }

    fn launch(&mut self, delivery: Delivery) {
        let key = delivery.order_key.clone();
        let line = Arc::clone(self.line);
        let task = self
            .flight
            .spawn(async move { line.handle(delivery).await });
        if let Some(key) = key {
            self.keys.insert(task.id(), key);
        }
    }

    fn launch_batch(&mut self, batch: Vec<Delivery>) {
        if batch.is_empty() {
            return;
        }
        let line = Arc::clone(self.line);
        self.flight
            .spawn(async move { line.handle_batch(batch).await });
    }

    fn flush(&mut self) {
        if let Some(batcher) = &mut self.batcher {
            let batch = batcher.flush();
            self.launch_batch(batch);
        }
    }

    /// A delivery is over, be it by a panic: the next of its key begins.
    fn landed(&mut self, done: Result<(Id, ()), tokio::task::JoinError>) {
        let id = match done {
            Ok((id, ())) => id,
            Err(error) => {
                tracing::error!(target: LOG, "a delivery broke off: {error}");
                error.id()
            }
        };
        let Some(key) = self.keys.remove(&id) else {
            return;
        };
        match self.queues.get_mut(&key).and_then(VecDeque::pop_front) {
            Some(next) => {
                self.queued -= 1;
                self.launch(next);
            }
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
                self.queues.values_mut().for_each(VecDeque::clear);
                self.queued = 0;
            }
            if !more && self.flight.is_empty() {
                return;
            }
            tokio::select! {
                Some(done) = self.flight.join_next_with_id() => self.landed(done),
                // The broker may be about to hand over what it had read before it was paused.
                next = timeout(QUIET, deliveries.next()), if more && self.has_room() => match next {
                    Ok(Some(delivery)) => {
                        self.take(delivery);
                        self.flush();
                    }
                    Ok(None) => more = false,
                    Err(_) => more = !self.flight.is_empty(),
                },
                () = sleep_until(deadline) => {
                    tracing::warn!(
                        target: LOG,
                        "drain exceeded {DRAIN_LIMIT:?}; {} deliveries of topic {} are given back",
                        self.flight.len() + self.queued,
                        self.line.subscription.topic
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

/// Messages of one subscription that are delivered, or wait for an earlier one of their key, at a time.
const MOST_IN_FLIGHT: usize = 512;

/// How long the broker may take to open a subscription.
const OPEN_LIMIT: Duration = Duration::from_secs(30);

/// Pauses between attempts to open a subscription.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long deliveries under way may take when their subscription ends.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// Silence after which a paused broker has handed over what it had.
const QUIET: Duration = Duration::from_millis(100);
