//! One subscription: reads new messages of a stream, claims those that were left, and hands both over.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use component::{
    Result,
    pubsub::{Ack, Acknowledge, Delivery, DeliverySender, Ended, Message, Outcome},
};
use futures::future;
use parking_lot::Mutex;
use redis::{
    RedisResult, Value,
    streams::{StreamId, StreamPendingCountReply, StreamReadReply},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use values::Pauses;

use super::{Claims, Options};
use crate::{
    client::{Client, failure},
    connection::Connection,
};

/// How long the server waits for a new message before it answers with none.
const BLOCK: Duration = Duration::from_secs(2);

/// How much longer than that its answer may take.
const GRACE: Duration = Duration::from_secs(2);

/// Pauses after failures, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Pages of pending messages that are looked at in one round.
const MOST_PAGES: usize = 100;

/// An entry of a stream as servers before Redis 7 may answer: an id without fields where the entry is gone.
type Entry = HashMap<String, Option<HashMap<String, Value>>>;

/// A topic being read.
pub struct Subscription {
    client: Client,
    options: Arc<Options>,
    slots: Arc<Semaphore>,
    topic: String,
    sender: DeliverySender,
    held: Held,
}

/// Ids of messages that are handed over or wait for it: they must not be claimed from ourselves. What is given back is
/// pending like anything else, and claimed once it has been pending for long enough.
type Held = Arc<Mutex<HashSet<String>>>;

impl Subscription {
    pub fn new(
        client: Client,
        options: Arc<Options>,
        slots: Arc<Semaphore>,
        topic: String,
        sender: DeliverySender,
    ) -> Self {
        Self {
            client,
            options,
            slots,
            topic,
            sender,
            held: Held::default(),
        }
    }

    /// Makes the group, and the stream with it; a group that is there already is as good.
    pub async fn create_group(&self) -> Result<()> {
        let mut create = redis::cmd("XGROUP");
        create
            .arg("CREATE")
            .arg(&self.topic)
            .arg(&self.options.consumer);
        create.arg("0").arg("MKSTREAM");
        match self.client.query::<Value>(&create).await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
            Err(error) => Err(failure(
                "redis streams: error creating the consumer group",
                error,
            )),
        }
    }

    /// Says why nothing more is read.
    pub fn end(&self, reason: Ended) {
        self.sender.clone().end(reason);
    }

    /// Reads until the subscription is closed.
    pub async fn run(&self) {
        let work = future::join(self.read_new(), self.claim_left());
        tokio::select! {
            () = self.sender.closed() => {}
            _ = work => {}
        }
    }

    async fn read_new(&self) {
        let mut connection = None;
        let mut pauses = Pauses::doubling(FIRST_PAUSE, LONGEST_PAUSE);
        let mut sender = self.sender.clone();
        while sender.wanted().await.is_ok() {
            match self.read_once(&mut connection).await {
                Ok(messages) => {
                    pauses.reset();
                    self.hand_over(messages).await;
                }
                Err(error) => {
                    tracing::warn!(
                        target: "dapr.contrib",
                        "redis streams: error reading from stream {}: {error}",
                        self.topic
                    );
                    connection = None;
                    if error.code() == Some("NOGROUP") {
                        // The server has lost its data, or somebody deleted the stream.
                        let _ = self.create_group().await;
                    }
                    tokio::time::sleep(pauses.pause()).await;
                }
            }
        }
    }

    async fn read_once(&self, slot: &mut Option<(u64, Connection)>) -> RedisResult<Vec<StreamId>> {
        let changes = self.client.changes();
        let connection = match slot {
            // Nothing new comes from a server that is not in charge any more.
            Some((made_after, connection)) if *made_after == changes => connection,
            _ => {
                let connection = self.client.dedicated(BLOCK + GRACE).await?;
                &mut slot.insert((changes, connection)).1
            }
        };
        let consumer = &self.options.consumer;
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(consumer).arg(consumer);
        read.arg("COUNT").arg(self.options.queue_depth);
        read.arg("BLOCK").arg(BLOCK.as_millis() as u64);
        read.arg("STREAMS").arg(&self.topic).arg(">");
        let reply: Option<StreamReadReply> = read.query_async(connection).await?;
        let keys = reply.map(|reply| reply.keys).unwrap_or_default();
        Ok(keys.into_iter().flat_map(|key| key.ids).collect())
    }

    /// Hands messages over one by one, each as soon as there is a slot for it.
    async fn hand_over(&self, messages: Vec<StreamId>) {
        let mut sender = self.sender.clone();
        // All of them are ours from now on, also while they wait for their turn.
        let fresh: Vec<_> = {
            let mut held = self.held.lock();
            messages
                .into_iter()
                .filter(|message| held.insert(message.id.clone()))
                .collect()
        };
        for message in fresh {
            let mut settle = Settle {
                client: self.client.clone(),
                topic: self.topic.clone(),
                group: self.options.consumer.clone(),
                id: message.id.clone(),
                held: Arc::clone(&self.held),
                _slot: None,
            };
            // A paused topic must not hold a slot that others could use.
            if sender.wanted().await.is_err() {
                return;
            }
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else {
                return;
            };
            settle._slot = Some(slot);
            let delivery = Delivery::new(self.message(message), Ack::new(settle));
            if sender.send(delivery).await.is_err() {
                return;
            }
        }
    }

    fn message(&self, entry: StreamId) -> Message {
        let data: Vec<u8> = entry.get("data").unwrap_or_default();
        let metadata = entry.get::<Vec<u8>>("metadata").map(|metadata| {
            serde_json::from_slice::<BTreeMap<String, String>>(&metadata).unwrap_or_else(|error| {
                tracing::warn!(
                    target: "dapr.contrib",
                    "redis streams: the metadata of message {} is unreadable: {error}",
                    entry.id
                );
                BTreeMap::new()
            })
        });
        Message {
            topic: self.topic.clone(),
            data: Bytes::from(data),
            content_type: None,
            metadata: metadata.unwrap_or_default(),
        }
    }

    async fn claim_left(&self) {
        let Some(claims) = self.options.redelivery else {
            // Nothing to do, but the reading must not end with this.
            return future::pending().await;
        };
        let mut sender = self.sender.clone();
        while sender.wanted().await.is_ok() {
            if let Err(error) = self.claim_round(claims).await {
                tracing::warn!(
                    target: "dapr.contrib",
                    "redis streams: error claiming pending messages of {}: {error}",
                    self.topic
                );
            }
            tokio::time::sleep(claims.every).await;
        }
    }

    async fn claim_round(&self, claims: Claims) -> RedisResult<()> {
        let mut begin = "-".to_owned();
        for _ in 0..MOST_PAGES {
            let mut pending = redis::cmd("XPENDING");
            pending.arg(&self.topic).arg(&self.options.consumer);
            pending.arg(&begin).arg("+").arg(self.options.queue_depth);
            let page: StreamPendingCountReply = self.client.query(&pending).await?;
            let last = page.ids.last().and_then(|entry| following(&entry.id));
            let is_last = page.ids.len() < self.options.queue_depth;
            let left: Vec<String> = {
                let held = self.held.lock();
                let is_left = |idle: usize, id: &String| {
                    idle as u128 >= claims.after.as_millis() && !held.contains(id)
                };
                page.ids
                    .into_iter()
                    .filter(|entry| is_left(entry.last_delivered_ms, &entry.id))
                    .map(|entry| entry.id)
                    .collect()
            };
            if !left.is_empty() {
                self.claim(&left, claims.after).await?;
            }
            match last {
                Some(next) if !is_last => begin = next,
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    /// Takes over what is still pending; what is pending but no longer in the stream is acknowledged away.
    async fn claim(&self, ids: &[String], idle: Duration) -> RedisResult<()> {
        let consumer = &self.options.consumer;
        let mut claim = redis::cmd("XCLAIM");
        claim.arg(&self.topic).arg(consumer).arg(consumer);
        claim.arg(idle.as_millis() as u64).arg(ids);
        let claimed: Vec<Option<Entry>> = self.client.query(&claim).await?;
        let messages: Vec<StreamId> = claimed
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|(id, fields)| {
                Some(StreamId {
                    id,
                    map: fields?,
                    ..StreamId::default()
                })
            })
            .collect();
        let got: HashSet<&str> = messages.iter().map(|message| &*message.id).collect();
        for id in ids.iter().filter(|id| !got.contains(id.as_str())) {
            let mut range = redis::cmd("XRANGE");
            range.arg(&self.topic).arg(id).arg(id);
            // Somebody else may have claimed it meanwhile: then it is still in the stream.
            if self.client.query::<Vec<Value>>(&range).await?.is_empty() {
                acknowledge(&self.client, &self.topic, consumer, id).await?;
            }
        }
        self.hand_over(messages).await;
        Ok(())
    }
}

/// The smallest id after this one.
fn following(id: &str) -> Option<String> {
    let (time, sequence) = id.split_once('-')?;
    let sequence: u64 = sequence.parse().ok()?;
    Some(format!("{time}-{}", sequence.checked_add(1)?))
}

async fn acknowledge(client: &Client, topic: &str, group: &str, id: &str) -> RedisResult<()> {
    let mut acknowledge = redis::cmd("XACK");
    acknowledge.arg(topic).arg(group).arg(id);
    client.query::<Value>(&acknowledge).await.map(drop)
}

/// Settles one message; its slot is free once it is dropped.
struct Settle {
    client: Client,
    topic: String,
    group: String,
    id: String,
    held: Held,
    _slot: Option<OwnedSemaphorePermit>,
}

#[async_trait]
impl Acknowledge for Settle {
    async fn settle(self: Box<Self>, outcome: Outcome) -> Result<()> {
        let answer = match outcome {
            Outcome::Ok | Outcome::Drop => {
                acknowledge(&self.client, &self.topic, &self.group, &self.id).await
            }
            Outcome::Retry => Ok(()),
        };
        answer.map_err(|error| failure("redis streams: error acknowledging a message", error))
    }

    fn release(self: Box<Self>) {}
}

impl Drop for Settle {
    /// Only now: until it is acknowledged it counts as pending.
    fn drop(&mut self) {
        self.held.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::following;

    #[test]
    fn ids_are_counted_on() {
        assert_eq!(
            following("1526984818136-0").as_deref(),
            Some("1526984818136-1")
        );
        assert_eq!(following("5-18446744073709551615"), None);
        assert_eq!(following("x"), None);
    }
}
