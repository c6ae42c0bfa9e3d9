//! Pub/sub brokers. A delivery carries its own acknowledgement, so the runtime never has to match ids to messages.
//!
//! How brokers map onto it:
//!
//! | broker | stream | `order_key` | ok | retry | drop | release (dropped without a word) | pause |
//! |---|---|---|---|---|---|---|---|
//! | Redis Streams | XREADGROUP, then claims of idle entries | none | XACK | left pending, claimed again after `redeliverInterval` | XACK | left pending | stop reading, keep the consumer |
//! | Kafka | fetch of a partition | partition | mark; commit up to the lowest unmarked | deliver again in place | mark | not marked: read again after a rebalance | pause partitions, keep the membership |
//! | RabbitMQ | basic.consume | queue when single active | basic.ack | basic.nack requeue | basic.reject | basic.nack requeue | basic.cancel, keep the channel |
//! | MQTT | subscription | topic | PUBACK | no PUBACK: sent again on reconnect | PUBACK | no PUBACK | stop reading the socket past the receive window |
//! | JetStream | pull consumer | subject when ordered | +ACK | -NAK | +TERM | -NAK | stop pulling |

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use crate::{Component, Error, Result};

/// What a broker can do; the metadata API shows these names (contract 2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// Messages expire.
    MessageTtl,
    /// Subscriptions may use wildcards.
    SubscribeWildcards,
    /// Several messages are published by one call.
    BulkPublish,
    /// Batches are handed over as the broker delivers them.
    BulkSubscribeImmediate,
}

impl Capability {
    /// The name shown by the metadata API.
    pub fn name(self) -> &'static str {
        match self {
            Self::MessageTtl => "MESSAGE_TTL",
            Self::SubscribeWildcards => "SUBSCRIBE_WILDCARDS",
            Self::BulkPublish => "BULK_PUBSUB",
            Self::BulkSubscribeImmediate => "BULK_SUBSCRIBE_IMMEDIATE",
        }
    }
}

/// A message to publish.
#[derive(Clone, Debug, Default)]
pub struct PublishRequest {
    /// Topic, prefixed already where the component is namespaced.
    pub topic: String,
    /// The bytes to send, mostly a CloudEvent.
    pub data: Bytes,
    /// Content type of `data`.
    pub content_type: Option<String>,
    /// Request metadata.
    pub metadata: BTreeMap<String, String>,
}

/// One entry of a bulk publish.
#[derive(Clone, Debug, Default)]
pub struct BulkEntry {
    /// The caller's id of the entry, unique in the request.
    pub entry_id: String,
    /// The bytes to send.
    pub data: Bytes,
    /// Content type of `data`.
    pub content_type: String,
    /// Metadata of the entry.
    pub metadata: BTreeMap<String, String>,
}

/// Several messages for one topic.
#[derive(Clone, Debug, Default)]
pub struct BulkPublishRequest {
    /// Topic.
    pub topic: String,
    /// The messages in order.
    pub entries: Vec<BulkEntry>,
    /// Request metadata.
    pub metadata: BTreeMap<String, String>,
}

/// What became of one entry.
#[derive(Debug)]
pub struct BulkResult {
    /// The caller's id of the entry.
    pub entry_id: String,
    /// Whether it was published.
    pub result: Result<()>,
}

/// Asks for the messages of a topic.
#[derive(Clone, Debug, Default)]
pub struct SubscribeRequest {
    /// Topic or, with [`Capability::SubscribeWildcards`], a pattern.
    pub topic: String,
    /// Metadata of the subscription.
    pub metadata: BTreeMap<String, String>,
}

/// A received message.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// The topic it came on.
    pub topic: String,
    /// The bytes as published.
    pub data: Bytes,
    /// Content type, where the broker carries one.
    pub content_type: Option<String>,
    /// Metadata of the message.
    pub metadata: BTreeMap<String, String>,
}

/// What a subscriber says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done; never deliver it again.
    Ok,
    /// Deliver it again.
    Retry,
    /// Give it up; never deliver it again.
    Drop,
}

/// How a broker settles a message.
#[async_trait]
pub trait Acknowledge: Send {
    /// Tells the broker.
    ///
    /// # Errors
    /// The broker's; the message may then be delivered again.
    async fn settle(self: Box<Self>, outcome: Outcome) -> Result<()>;

    /// Gives the message back without a word: it is delivered again, never dead-lettered.
    fn release(self: Box<Self>);
}

/// The acknowledgement of one message. Dropping it releases the message.
pub struct Ack(Option<Box<dyn Acknowledge>>);

impl Ack {
    /// Wraps a broker's way to settle.
    pub fn new(acknowledge: impl Acknowledge + 'static) -> Self {
        Self(Some(Box::new(acknowledge)))
    }

    /// An acknowledgement nobody waits for: brokers without redelivery.
    pub fn none() -> Self {
        Self(None)
    }

    /// Tells the broker what became of the message.
    ///
    /// # Errors
    /// The broker's.
    pub async fn settle(mut self, outcome: Outcome) -> Result<()> {
        match self.0.take() {
            Some(acknowledge) => acknowledge.settle(outcome).await,
            None => Ok(()),
        }
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        if let Some(acknowledge) = self.0.take() {
            acknowledge.release();
        }
    }
}

/// A message with its acknowledgement.
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// Deliveries with the same key are handled one after another, in order; without one they may overlap.
    pub order_key: Option<String>,
    /// Consumed once.
    pub ack: Ack,
}

/// The receiving end of a subscription. Dropping it closes the subscription.
pub struct Deliveries {
    receiver: mpsc::Receiver<Delivery>,
    paused: watch::Sender<bool>,
}

/// The broker's end of a subscription.
#[derive(Clone)]
pub struct DeliverySender {
    sender: mpsc::Sender<Delivery>,
    paused: watch::Receiver<bool>,
}

/// A bounded subscription: at most `capacity` messages wait between broker and runtime.
pub fn deliveries(capacity: usize) -> (DeliverySender, Deliveries) {
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    let (pause, paused) = watch::channel(false);
    (
        DeliverySender { sender, paused },
        Deliveries {
            receiver,
            paused: pause,
        },
    )
}

impl Deliveries {
    /// The next message; nothing once the broker has ended the subscription.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.receiver.recv().await
    }

    /// Stops (or goes on with) taking messages from the broker, without leaving the subscription.
    pub fn pause(&self, paused: bool) {
        self.paused.send_replace(paused);
    }
}

impl DeliverySender {
    /// Waits until messages are wanted: not paused.
    ///
    /// # Errors
    /// [`Closed`] once the subscription is closed.
    pub async fn wanted(&mut self) -> std::result::Result<(), Closed> {
        tokio::select! {
            () = self.sender.closed() => Err(Closed),
            state = self.paused.wait_for(|paused| !*paused) => state.map(drop).map_err(|_| Closed),
        }
    }

    /// Hands a message over, waiting for room.
    ///
    /// # Errors
    /// [`Closed`] once the subscription is closed; the message is released.
    pub async fn send(&self, delivery: Delivery) -> std::result::Result<(), Closed> {
        self.sender.send(delivery).await.map_err(|_| Closed)
    }

    /// Whether the subscription is closed.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Until the subscription is closed.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }
}

/// The subscription is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// A message broker.
#[async_trait]
pub trait PubSub: Component {
    /// What works here.
    fn capabilities(&self) -> &'static [Capability];

    /// Sends a message; on return the broker has it.
    ///
    /// # Errors
    /// The broker's.
    async fn publish(&self, request: PublishRequest) -> Result<()>;

    /// Sends several messages; one result per entry, in order.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] without [`Capability::BulkPublish`]; the runtime then publishes one by one.
    async fn bulk_publish(&self, _request: BulkPublishRequest) -> Result<Vec<BulkResult>> {
        Err(Error::unsupported("a bulk publish"))
    }

    /// Opens a subscription.
    ///
    /// # Errors
    /// Where it cannot be opened at all; later failures are retried inside the component.
    async fn subscribe(&self, request: SubscribeRequest) -> Result<Deliveries>;
}
