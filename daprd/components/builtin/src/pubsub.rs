//! A broker in memory. Each component instance is a bus of its own; a message goes to every subscription whose topic
//! matches, in order, and nobody keeps it for later: with its first outcome it is forgotten. Q-in-memory-retry

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use component::{
    Component, Error, ErrorKind, Open, PubSub, Result, Spawn,
    pubsub::{
        Ack, Capabilities, Capability, Deliveries, Delivery, DeliverySender, Ended, Message,
        PublishRequest, Redelivery, SubscribeRequest, deliveries,
    },
};
use parking_lot::Mutex;
use tokio::sync::mpsc;

/// Messages that wait for one subscription before it takes them. Q-in-memory-queue
const MOST_QUEUED: usize = 16_384;

/// Bytes of these messages.
const MOST_QUEUED_BYTES: usize = 64 << 20;

/// A broker in this process.
pub struct InMemory {
    tasks: Arc<dyn Spawn>,
    topics: Mutex<BTreeMap<String, Vec<Queue>>>,
}

/// What waits for one subscription: publishers do not.
struct Queue {
    messages: mpsc::Sender<Message>,
    bytes: Arc<AtomicUsize>,
}

impl Queue {
    fn has_room(&self, bytes: usize) -> bool {
        let queued = self.bytes.load(Ordering::Relaxed);
        // A message that is larger than the limit may wait alone.
        let fits = queued == 0 || queued.saturating_add(bytes) <= MOST_QUEUED_BYTES;
        self.messages.capacity() > 0 && fits
    }

    fn push(&self, message: Message) {
        let bytes = message.size();
        // Room was looked for under the same lock; a subscription that has closed meanwhile takes no message.
        if self.messages.try_send(message).is_ok() {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

impl InMemory {
    /// Opens a bus of its own.
    pub fn open(open: Open) -> Self {
        Self {
            tasks: open.tasks,
            topics: Mutex::default(),
        }
    }
}

/// What was accepted for one subscription and is not handed over yet. Nobody else has it: what is left when the subscription
/// ends is lost, and that is told.
struct Waiting {
    topic: String,
    messages: mpsc::Receiver<Message>,
    bytes: Arc<AtomicUsize>,
    /// The one that is being handed over.
    in_hand: usize,
}

impl Waiting {
    async fn next(&mut self) -> Option<Message> {
        let message = self.messages.recv().await?;
        self.bytes.fetch_sub(message.size(), Ordering::Relaxed);
        Some(message)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.messages.close();
        let lost = self.messages.len() + self.in_hand;
        if lost > 0 {
            tracing::warn!(
                target: "dapr.contrib",
                "{lost} messages of topic {} in memory are lost, for their subscription has ended",
                self.topic
            );
        }
    }
}

/// Hands over what waits, in order; while the subscription is paused nothing, unless it is about to end.
async fn hand_over(mut waiting: Waiting, sender: DeliverySender) {
    let mut pauses = sender.clone();
    loop {
        let keeps = !pauses.is_draining() || waiting.messages.is_empty();
        if pauses.is_paused() && keeps && pauses.wanted().await.is_err() {
            return;
        }
        let message = tokio::select! {
            biased;
            changed = pauses.pause_changed() => match changed {
                Ok(_) => continue,
                Err(_) => return,
            },
            message = waiting.next() => message,
        };
        let Some(message) = message else {
            sender.end(Ended::Closed);
            return;
        };
        waiting.in_hand = 1;
        let topic = message.topic.clone();
        let delivery = Delivery::new(message, Ack::none()).in_order_of(topic);
        if sender.send(delivery).await.is_err() {
            return;
        }
        waiting.in_hand = 0;
    }
}

#[async_trait]
impl Component for InMemory {
    async fn close(&self) {
        self.topics.lock().clear();
    }
}

#[async_trait]
impl PubSub for InMemory {
    fn capabilities(&self) -> Capabilities {
        [Capability::SubscribeWildcards].into()
    }

    async fn publish(&self, request: &PublishRequest) -> Result<()> {
        let message = Message {
            topic: request.topic.clone(),
            data: request.data.clone(),
            // It is no part of the message: what the data is, its envelope says.
            content_type: None,
            metadata: request.metadata.clone(),
        };
        let mut topics = self.topics.lock();
        topics.retain(|_, queues| {
            queues.retain(|queue| !queue.messages.is_closed());
            !queues.is_empty()
        });
        let matching = topics
            .iter()
            .filter(|(pattern, _)| wildcard(pattern, &message.topic))
            .flat_map(|(_, queues)| queues);
        let (bytes, found) = (message.size(), matching.collect::<Vec<_>>());
        // All subscriptions get it or none, so that publishing again doubles nothing.
        if !found.iter().all(|queue| queue.has_room(bytes)) {
            return Err(Error::new(
                ErrorKind::RateLimited,
                format!(
                    "the queue of a subscription to topic {} is full",
                    message.topic
                ),
            ));
        }
        for queue in found {
            queue.push(message.clone());
        }
        Ok(())
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Deliveries> {
        let limits = match request.unordered {
            true => request.limits,
            // A message waits until the one before it is settled, so a batch has one.
            false => request.limits.at_most(1),
        };
        let (sender, deliveries) = deliveries(limits, Redelivery::Never);
        let (messages, receiver) = mpsc::channel(MOST_QUEUED);
        let bytes = Arc::<AtomicUsize>::default();
        let queue = Queue {
            messages,
            bytes: Arc::clone(&bytes),
        };
        let waiting = Waiting {
            topic: request.topic.clone(),
            messages: receiver,
            bytes,
            in_hand: 0,
        };
        let run = hand_over(waiting, sender);
        self.tasks.spawn("in-memory subscription", Box::pin(run));
        self.topics
            .lock()
            .entry(request.topic)
            .or_default()
            .push(queue);
        Ok(deliveries)
    }
}

/// `*` stands for any text within a topic name.
fn wildcard(pattern: &str, topic: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == topic;
    };
    let Some(mut left) = topic.strip_prefix(head) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use component::pubsub::{Limits, Outcome};
    use futures::FutureExt;

    use super::*;

    struct Detached;

    impl Spawn for Detached {
        fn spawn(&self, _: &str, task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) {
            tokio_util::task::TaskTracker::new().spawn(task);
        }
    }

    fn bus() -> InMemory {
        InMemory {
            tasks: Arc::new(Detached),
            topics: Mutex::default(),
        }
    }

    fn publish(topic: &str) -> PublishRequest {
        PublishRequest {
            topic: topic.into(),
            ..PublishRequest::default()
        }
    }

    fn subscribe(topic: &str) -> SubscribeRequest {
        SubscribeRequest {
            topic: topic.into(),
            ..SubscribeRequest::default()
        }
    }

    #[test]
    fn wildcards_match_within_names() {
        for (pattern, topic, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*", "", true),
            ("a*c", "abc", true),
            ("a*c", "abd", false),
            ("a*b*c", "axbyc", true),
        ] {
            assert_eq!(wildcard(pattern, topic), expected, "{pattern} {topic}");
        }
    }

    #[tokio::test]
    async fn a_message_is_delivered_once_whatever_becomes_of_it() {
        let bus = bus();
        let mut deliveries = bus.subscribe(subscribe("t")).await.unwrap();
        for data in ["a", "b"] {
            let request = PublishRequest {
                data: data.into(),
                ..publish("t")
            };
            bus.publish(&request).await.unwrap();
        }
        let first = deliveries.next().await.unwrap();
        first.ack.settle(Outcome::Retry).await.unwrap();
        let second = deliveries.next().await.unwrap();
        assert_eq!(second.message.data, "b");
    }

    #[tokio::test]
    async fn publishers_do_not_wait_for_subscribers_up_to_a_limit() {
        let bus = bus();
        let request = SubscribeRequest {
            limits: Limits::default().at_most(1),
            ..subscribe("t")
        };
        let _deliveries = bus.subscribe(request).await.unwrap();
        let mut published = 0;
        let refused = loop {
            let message = publish("t");
            let published_now = bus.publish(&message).now_or_never();
            match published_now.expect("without waiting") {
                Ok(()) => published += 1,
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused.kind(), ErrorKind::RateLimited);
        assert!(published >= MOST_QUEUED, "{published}");
    }

    #[tokio::test]
    async fn what_was_accepted_is_handed_over_before_the_end() {
        let bus = bus();
        let request = SubscribeRequest {
            limits: Limits::default().at_most(1),
            ..subscribe("t")
        };
        let mut deliveries = bus.subscribe(request).await.unwrap();
        for _ in 0..8 {
            bus.publish(&publish("t")).await.unwrap();
        }
        let first = deliveries.next().await.unwrap();
        deliveries.drain();
        first.ack.settle(Outcome::Ok).await.unwrap();
        for _ in 1..8 {
            let next = deliveries.next().await.unwrap();
            next.ack.settle(Outcome::Ok).await.unwrap();
        }
        assert!(deliveries.next().now_or_never().is_none());
    }

    #[tokio::test]
    async fn nobody_listening_is_no_failure() {
        let bus = bus();
        bus.publish(&publish("t")).await.unwrap();
        drop(bus.subscribe(subscribe("t")).await.unwrap());
        bus.publish(&publish("t")).await.unwrap();
    }
}
