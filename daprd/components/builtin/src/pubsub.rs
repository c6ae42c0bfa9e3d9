//! A broker in memory. Each component instance is a bus of its own; a message goes to every subscription whose topic
//! matches, one after another per topic, and nobody keeps it for later.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use component::{
    PubSub, Result,
    pubsub::{
        Ack, Acknowledge, Capability, Deliveries, Delivery, DeliverySender, Message, Outcome,
        PublishRequest, SubscribeRequest, deliveries,
    },
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Messages that wait between the bus and one subscription.
const CAPACITY: usize = 64;

/// Most times a message is handed to a subscription that asks for it again.
const MOST_ATTEMPTS: u32 = 10;

/// A broker in this process.
#[derive(Default)]
pub struct InMemory {
    topics: Mutex<BTreeMap<String, Vec<Subscription>>>,
}

#[derive(Clone)]
struct Subscription {
    sender: DeliverySender,
    /// One message of a topic is handled at a time, in order.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl InMemory {
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

/// Hands a message over and waits for what the subscriber says of it.
async fn hand_over(mut subscription: Subscription, message: Message) {
    let _turn = subscription.turn.lock().await;
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
impl PubSub for InMemory {
    fn capabilities(&self) -> &'static [Capability] {
        &[Capability::SubscribeWildcards]
    }

    async fn publish(&self, request: PublishRequest) -> Result<()> {
        let message = Message {
            topic: request.topic,
            data: request.data,
            content_type: request.content_type,
            metadata: request.metadata,
        };
        let deliveries = self
            .matching(&message.topic)
            .into_iter()
            .map(|subscription| hand_over(subscription, message.clone()));
        futures::future::join_all(deliveries).await;
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

    async fn close(&self) {
        self.topics.lock().clear();
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
        let bus = Arc::new(InMemory::default());
        let mut deliveries = bus.subscribe(subscribe("t")).await.unwrap();
        let subscriber = async {
            let first = deliveries.next().await.unwrap();
            first.ack.settle(Outcome::Retry).await.unwrap();
            let second = deliveries.next().await.unwrap();
            second.ack.settle(Outcome::Ok).await.unwrap();
        };
        let (published, ()) = tokio::join!(bus.publish(publish("t")), subscriber);
        published.unwrap();
    }

    #[tokio::test]
    async fn nobody_listening_is_no_failure() {
        let bus = InMemory::default();
        bus.publish(publish("t")).await.unwrap();
        drop(bus.subscribe(subscribe("t")).await.unwrap());
        bus.publish(publish("t")).await.unwrap();
    }
}
