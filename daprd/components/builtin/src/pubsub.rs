//! A broker in memory. Each component instance is a bus of its own; a message goes to every subscription whose topic
//! matches, one after another per topic, and nobody keeps it for later.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use component::{
    Component, Open, PubSub, Result, Spawn,
    pubsub::{
        Ack, Acknowledge, Capability, Deliveries, Delivery, DeliverySender, Message, Outcome,
        PublishRequest, SubscribeRequest, deliveries,
    },
};
use parking_lot::Mutex;
use tokio::sync::{OwnedMutexGuard, oneshot};

/// Messages that wait between the bus and one subscription.
const CAPACITY: usize = 64;

/// Most times a message is handed to a subscription that asks for it again.
const MOST_ATTEMPTS: u32 = 10;

/// A broker in this process.
pub struct InMemory {
    tasks: Arc<dyn Spawn>,
    topics: Mutex<BTreeMap<String, Vec<Subscription>>>,
}

#[derive(Clone)]
struct Subscription {
    sender: DeliverySender,
    /// One message of a topic is handled at a time, in order.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl InMemory {
    /// Opens a bus of its own.
    pub fn open(open: Open) -> Self {
        Self {
            tasks: open.tasks,
            topics: Mutex::default(),
        }
    }

    fn matching(&self, topic: &str) -> Vec<Subscription> {
        let mut topics = self.topics.lock();
        let mut found = Vec::new();
        topics.retain(|pattern, subscriptions| {
            subscriptions.retain(|subscription| !subscription.sender.is_closed());
            if wildcard(pattern, topic) {
                found.extend(subscriptions.iter().cloned());
            }
            !subscriptions.is_empty()
        });
        found
    }
}

/// Hands a message over and waits for what the subscriber says of it; the turn ends with it.
async fn hand_over(mut subscription: Subscription, message: Message, _turn: OwnedMutexGuard<()>) {
    for _ in 0..MOST_ATTEMPTS {
        if subscription.sender.wanted().await.is_err() {
            return;
        }
        let (answer, answered) = oneshot::channel();
        let delivery = Delivery {
            order_key: Some(message.topic.clone()),
            message: message.clone(),
            ack: Ack::new(Answer(answer)),
        };
        if subscription.sender.send(delivery).await.is_err() {
            return;
        }
        if answered.await != Ok(Outcome::Retry) {
            return;
        }
    }
    tracing::warn!(
        target: "dapr.contrib",
        "a message of topic {} is given up after {MOST_ATTEMPTS} attempts",
        message.topic
    );
}

struct Answer(oneshot::Sender<Outcome>);

#[async_trait]
impl Acknowledge for Answer {
    async fn settle(self: Box<Self>, outcome: Outcome) -> Result<()> {
        // The publisher may have gone; nobody else waits.
        let _ = self.0.send(outcome);
        Ok(())
    }

    fn release(self: Box<Self>) {}
}

#[async_trait]
impl Component for InMemory {
    async fn close(&self) {
        self.topics.lock().clear();
    }
}

#[async_trait]
impl PubSub for InMemory {
    fn capabilities(&self) -> &'static [Capability] {
        &[Capability::SubscribeWildcards]
    }

    async fn publish(&self, request: PublishRequest) -> Result<()> {
        let message = Message {
            topic: request.topic,
            data: request.data,
            // It is no part of the message: what the data is, its envelope says.
            content_type: None,
            metadata: request.metadata,
        };
        for subscription in self.matching(&message.topic) {
            // A message waits for the one before it, but its publisher does not wait for its handling.
            let turn = Arc::clone(&subscription.turn).lock_owned().await;
            let delivery = hand_over(subscription, message.clone(), turn);
            self.tasks.spawn("in-memory delivery", Box::pin(delivery));
        }
        Ok(())
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Deliveries> {
        let (sender, deliveries) = deliveries(CAPACITY);
        let subscription = Subscription {
            sender,
            turn: Arc::default(),
        };
        let mut topics = self.topics.lock();
        topics.entry(request.topic).or_default().push(subscription);
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
    async fn a_message_is_delivered_again_until_it_is_settled() {
        let bus = bus();
        let mut deliveries = bus.subscribe(subscribe("t")).await.unwrap();
        bus.publish(publish("t")).await.unwrap();
        let first = deliveries.next().await.unwrap();
        first.ack.settle(Outcome::Retry).await.unwrap();
        let second = deliveries.next().await.unwrap();
        second.ack.settle(Outcome::Ok).await.unwrap();
    }

    #[tokio::test]
    async fn a_message_waits_for_the_one_before_it() {
        let bus = bus();
        let mut deliveries = bus.subscribe(subscribe("t")).await.unwrap();
        bus.publish(publish("t")).await.unwrap();
        let first = deliveries.next().await.unwrap();
        let mut second = Box::pin(bus.publish(publish("t")));
        assert!(futures::poll!(&mut second).is_pending());
        first.ack.settle(Outcome::Ok).await.unwrap();
        second.await.unwrap();
    }

    #[tokio::test]
    async fn nobody_listening_is_no_failure() {
        let bus = bus();
        bus.publish(publish("t")).await.unwrap();
        drop(bus.subscribe(subscribe("t")).await.unwrap());
        bus.publish(publish("t")).await.unwrap();
    }
}
