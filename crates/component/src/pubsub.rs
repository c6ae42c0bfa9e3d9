//! Pub/sub brokers: publishing, and subscriptions that hand messages to the runtime.
//!
//! A broker opens a subscription with [`deliveries`] and hands messages over through the [`DeliverySender`], one at a time
//! or in the batches it has. Each message carries its own acknowledgement, so the runtime never has to match ids to
//! messages, and a batch is acknowledged in parts. Handing over waits for room: the request's limits of messages and bytes
//! that are under way are kept here, for every broker alike. What becomes of a message that the app wants again is a
//! property of the subscription, see [`Redelivery`].
//!
//! How brokers map onto it:
//!
//! | broker | batch handed over | `order_key` | [`Redelivery`] | ok | retry | drop | release | pause | withdrawn | ends with |
//! |---|---|---|---|---|---|---|---|---|---|---|
//! | Redis Streams | answer of XREADGROUP or of a claim, entry by entry | none | `Broker`; `Never` where nothing is claimed (`processingTimeout` or `redeliverInterval` is 0) | XACK | left pending, claimed once idle for `processingTimeout` | XACK | left pending | stop reading, keep the consumer | nothing: the group is shared | `Failed` |
//! | Kafka | records of a fetched partition | topic and partition | `InPlace` | mark; commit up to the lowest unmarked | never asked | mark | not marked: read again by the next owner | pause partitions, keep polling for the membership | nothing: the group is shared | `Rebalanced` for partitions that moved |
//! | RabbitMQ | single messages | none; the queue when single active | `Broker` with a pause; `InPlace` when single active; `Reject` without `requeueInFailure`; `Never` with `autoAck` | basic.ack | basic.nack, requeue | basic.reject, no requeue | basic.nack, requeue; from a quorum queue that is left, closing the channel (RabbitMQ 3.10 counts both as deliveries) | basic.cancel, keep the channel | nothing: the queue is shared, and goes with its last consumer where it is to | `Failed` when channel or connection close |
//! | MQTT | single messages | topic | `InPlace`; QoS 0 `Never` | PUBACK | never asked | PUBACK | no PUBACK: sent again to the session | withhold PUBACKs up to the receive maximum | UNSUBSCRIBE, PUBACK what still comes | `Failed` on disconnect |
//! | JetStream | answer of a pull | none; subject when ordered | `Broker` with a pause; `InPlace` when ordered | +ACK | -NAK | +TERM | -NAK, which counts a delivery: only for what was pulled and never begun | stop pulling | nothing: the consumer is shared | `Failed` |
//! | Pulsar | entries of a batch message | none; key of the message with `key_shared`, topic with `exclusive` | `Broker` (redelivery after a negative acknowledgement); `InPlace` with an order key | ack of the batch index | negative ack | ack | nothing: unacknowledged until the consumer closes | no more flow permits | nothing: the subscription is shared | `Rebalanced` on failover, else `Failed` |
//! | in memory | single messages | topic | `Never` | forget | forget | forget | forget | keep in the queue | nothing | `Closed` |

mod deliveries;
mod delivery;
mod redelivery;

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};

use crate::{Component, Result, capabilities, capabilities::Set};

pub use deliveries::{
    Closed, Deliveries, DeliverySender, Ended, Limits, MOST_BYTES, MOST_MESSAGES, deliveries,
};
pub use delivery::{Ack, Acknowledge, Delivery, Message, Outcome};
pub use redelivery::{Backoff, Redelivery};

capabilities! {
    /// What a broker can do; the metadata API shows these names (contract 2.6).
    pub enum Capability {
        /// Messages expire.
        MessageTtl = "MESSAGE_TTL",
        /// Subscriptions may use wildcards.
        SubscribeWildcards = "SUBSCRIBE_WILDCARDS",
        /// Several messages are published by one call of the broker.
        BulkPublish = "BULK_PUBSUB",
        /// The app gets batches as the broker has them: the runtime neither waits for more nor puts them together.
        BulkSubscribeImmediate = "BULK_SUBSCRIBE_IMMEDIATE",
    }
}

/// What a broker can do.
pub type Capabilities = Set<Capability>;

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
    /// What may be under way at once. A component whose own metadata say less passes on less, see [`Limits::at_most`].
    pub limits: Limits,
    /// The batches that the app wants, where it wants batches: brokers that fetch by number and time use these.
    pub batch: Option<Batching>,
    /// Whether the runtime keeps what order is needed: a broker that hands over one message at a time only for the sake of
    /// order hands over more.
    pub unordered: bool,
}

/// How messages are put together for an app that takes several at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// Most messages of a batch.
    pub most: usize,
    /// How long the first message of a batch waits for others.
    pub wait: Duration,
}

/// A message broker; once it is closed, its subscriptions end with [`Ended::Closed`]. Every future may be dropped: a call
/// that was given up leaves nothing behind that another call meets.
#[async_trait]
pub trait PubSub: Component {
    /// What works here.
    fn capabilities(&self) -> Capabilities;

    /// Sends a message; on return the broker has it.
    ///
    /// # Errors
    /// The broker's.
    async fn publish(&self, request: &PublishRequest) -> Result<()>;

    /// Sends several messages; one result per entry, in order. An entry without a result counts as not sent. Without
    /// [`Capability::BulkPublish`] this is one publish per entry, [`CONCURRENT_PUBLISHES`] at a time.
    ///
    /// # Errors
    /// The broker's, where nothing is known of single entries.
    async fn bulk_publish(&self, request: &BulkPublishRequest) -> Result<Vec<BulkResult>> {
        Ok(publish_each(self, request).await)
    }

    /// How long to wait before a subscription that has ended is opened again, where the component's metadata say it. Else the
    /// runtime waits longer each time.
    fn reopen_pause(&self) -> Option<Duration> {
        None
    }

    /// Opens a subscription with [`deliveries`]. On return the broker keeps messages for it.
    ///
    /// # Errors
    /// Where it cannot be opened; the runtime tries again. A failure that comes later is retried inside the component as
    /// long as nothing is lost by that, else it is the subscription's [`Ended`].
    async fn subscribe(&self, request: SubscribeRequest) -> Result<Deliveries>;
}

/// One publish per entry, [`CONCURRENT_PUBLISHES`] at a time; a result per entry, in order.
pub async fn publish_each<B: PubSub + ?Sized>(
    broker: &B,
    request: &BulkPublishRequest,
) -> Vec<BulkResult> {
    let send = |index: usize| async move {
        let entry = &request.entries[index];
        let single = PublishRequest {
            topic: request.topic.clone(),
            data: entry.data.clone(),
            content_type: Some(entry.content_type.clone()),
            metadata: entry.metadata.clone(),
        };
        BulkResult {
            entry_id: entry.entry_id.clone(),
            result: broker.publish(&single).await,
        }
    };
    let sends = stream::iter((0..request.entries.len()).map(send));
    sends.buffered(CONCURRENT_PUBLISHES).collect().await
}

/// Entries of a bulk publish that are under way at a time where the broker takes them one by one.
pub const CONCURRENT_PUBLISHES: usize = 100;
