//! The loop of one open subscription: takes messages from the broker, hands them to deliveries that run beside each other,
//! keeps order where the broker asks for it, and ends without losing or doubling a message.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use component::pubsub::{
    Capability, Deliveries, Delivery, Ended, Limits, Redelivery, SubscribeRequest,
};
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
        limits: Limits::default(),
        batch: subscription.bulk,
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

/// Runs until the mode says to end. Where the broker has ended the subscription, or never began it, it is opened again;
/// the reason of the end says how soon.
pub async fn run(line: Arc<Line>, opened: Option<Deliveries>) {
    let mut mode = line.mode.clone();
    let mut opened = opened;
    let mut pause = FIRST_PAUSE;
    loop {
        let deliveries = match opened.take() {
            Some(deliveries) => deliveries,
            None => match reopen(&line, &mut mode, pause).await {
                Some(deliveries) => deliveries,
                None => return,
            },
        };
        let since = Instant::now();
        let pump = Pump::new(&line, deliveries.redelivery());
        let Some(ended) = pump.run(deliveries, &mut mode).await else {
            return;
        };
        if since.elapsed() >= STEADY {
            pause = FIRST_PAUSE;
        }
        pause = pause_after(&ended, pause);
        tracing::warn!(
            target: LOG,
            "the subscription to topic {} of pubsub {} has ended: {}; it is opened again in {pause:?}",
            line.subscription.topic,
            line.pubsub(),
            reason(&ended)
        );
    }
}

/// How long to wait before a subscription that ended is opened again; `last` is the pause before it was opened.
fn pause_after(ended: &Ended, last: Duration) -> Duration {
    match ended {
        Ended::Rebalanced => Duration::ZERO,
        Ended::Failed(error) if error.kind().is_transient() => {
            (last * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE)
        }
        Ended::Failed(_) | Ended::Closed => LONGEST_PAUSE,
    }
}

fn reason(ended: &Ended) -> String {
    match ended {
        Ended::Closed => "the component is closed".to_owned(),
        Ended::Rebalanced => "the broker has moved it".to_owned(),
        Ended::Failed(error) => component::error::chain(error),
    }
}

/// Tries until the subscription is open, with growing pauses; nothing where the mode says to end.
async fn reopen(
    line: &Line,
    mode: &mut watch::Receiver<Mode>,
    first: Duration,
) -> Option<Deliveries> {
    let mut pause = first;
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
                pause = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
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

impl<'l> Pump<'l> {
    fn new(line: &'l Arc<Line>, redelivery: Redelivery) -> Self {
        let immediate = line.broker.has(Capability::BulkSubscribeImmediate);
        Self {
            line,
            flight: JoinSet::new(),
            keys: HashMap::new(),
            queues: HashMap::new(),
            batches: match line.subscription.bulk {
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

    /// Nothing where the mode says to end; else why the broker has ended the subscription.
    async fn run(
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
        let (line, redelivery) = (Arc::clone(self.line), self.redelivery);
        let task = self
            .flight
            .spawn(async move { line.handle(delivery, redelivery).await });
        if let Some(key) = key {
            self.keys.insert(task.id(), key);
        }
    }

    fn launch_batch(&mut self, batch: Vec<Delivery>) {
        if batch.is_empty() {
            return;
        }
        let (line, redelivery) = (Arc::clone(self.line), self.redelivery);
        self.flight
            .spawn(async move { line.handle_batch(batch, redelivery).await });
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
                tracing::error!(target: LOG, "a delivery broke off: {error}");
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

/// How long the broker may take to open a subscription.
const OPEN_LIMIT: Duration = Duration::from_secs(30);

/// Pauses between attempts to open a subscription.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A subscription that was open for this long has recovered from earlier failures.
const STEADY: Duration = LONGEST_PAUSE;

/// How long deliveries under way may take when their subscription ends.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// Silence after which a paused broker has handed over what it had.
const QUIET: Duration = Duration::from_millis(100);
