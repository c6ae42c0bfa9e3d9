//! `pubsub.redis`: a broker on streams. Subscribers of one consumer id share a consumer group; a message stays pending until
//! it is settled, and what stays pending too long is claimed again.

mod read;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use component::{
    Component, Error, ErrorKind, Open, PubSub, Result, Spawn,
    fields::{Fields, MILLISECOND, SECOND},
    pubsub::{
        Backoff, Capabilities, Deliveries, Ended, PublishRequest, Redelivery, SubscribeRequest,
        deliveries,
    },
};
use redis::Value;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use values::GoDuration;

use crate::{
    client::{Client, failure},
    metadata::{Declared, MIN_RETRY_INTERVAL, Settings},
};
use read::Subscription;

const QUEUE_DEPTH: usize = 100;
const CONCURRENCY: usize = 10;

component::metadata! {
    /// The fields that only the broker has.
    struct Own {
        /// Name of the consumer group, and of this consumer in it; the app id unless it is set.
        consumer: Option<String> => "consumerID";
        /// How long a message may stay pending before it is delivered again; zero for ever.
        processing_timeout: Duration => "processingTimeout", default(Duration::from_secs(60)), unit(MILLISECOND);
        /// How often that is looked at; zero for never.
        redeliver_interval: Duration => "redeliverInterval", default(Duration::from_secs(15)), unit(MILLISECOND);
        /// Messages that are asked for at once.
        queue_depth: usize => "queueDepth", default(QUEUE_DEPTH);
        /// Messages that are handled at once, over all topics.
        concurrency: usize => "concurrency", default(CONCURRENCY);
        /// About how many entries a stream keeps.
        length: Option<i64> => "maxLenApprox";
        /// How long a stream keeps its entries, where `maxLenApprox` is not set.
        age: Option<Duration> => "streamTTL", unit(SECOND);
        /// Shortest pause before a request is sent again.
        min_retry_interval: GoDuration => "redisMinRetryInterval", default(MIN_RETRY_INTERVAL), unit(MILLISECOND);
    }
}

/// All fields of the broker.
pub fn fields() -> Fields {
    Declared::fields().and(Own::fields())
}

/// Most messages asked for at once, whatever `queueDepth` says.
const MOST_QUEUED: usize = 10_000;

/// A broker on a Redis server.
pub struct Redis {
    client: Client,
    name: String,
    options: Arc<Options>,
    /// Messages being handled, over all topics.
    slots: Arc<Semaphore>,
    tasks: Arc<dyn Spawn>,
    closed: CancellationToken,
}

/// The fields that only this component has.
struct Options {
    /// Name of the group, and of this consumer in it.
    consumer: String,
    /// How long a message may stay pending, and how often that is looked at; nothing where neither is done.
    redelivery: Option<Claims>,
    queue_depth: usize,
    concurrency: usize,
    trim: Option<Trim>,
}

#[derive(Clone, Copy)]
struct Claims {
    after: Duration,
    every: Duration,
}

/// How a stream is kept from growing for ever.
#[derive(Clone, Copy)]
enum Trim {
    Length(u64),
    Age(Duration),
}

impl Options {
    fn new(own: Own, app_id: &str) -> Result<Self> {
        let (after, every) = (own.processing_timeout, own.redeliver_interval);
        let consumer = own.consumer.unwrap_or_else(|| app_id.to_owned());
        if consumer.is_empty() {
            return Err(Error::invalid_metadata("consumerID", "is required"));
        }
        Ok(Self {
            consumer,
            redelivery: (!after.is_zero() && !every.is_zero()).then_some(Claims { after, every }),
            queue_depth: own.queue_depth.clamp(1, MOST_QUEUED),
            concurrency: own.concurrency.clamp(1, Semaphore::MAX_PERMITS),
            trim: match own.length.and_then(|length| u64::try_from(length).ok()) {
                Some(length) if length > 0 => Some(Trim::Length(length)),
                _ => own.age.filter(|age| !age.is_zero()).map(Trim::Age),
            },
        })
    }

    /// What stays pending comes again once it is claimed. Where nothing is claimed it never does, released or not.
    fn redelivers(&self) -> Redelivery {
        match self.redelivery {
            Some(_) => Redelivery::Broker(Backoff::NONE),
            None => Redelivery::Never,
        }
    }
}

impl Redis {
    /// Connects.
    ///
    /// # Errors
    /// Wrong metadata, or a server that cannot be reached.
    pub async fn open(open: Open) -> Result<Self> {
        let own = Own::read(&open.metadata)?;
        let settings = Settings::read(&open.metadata, own.min_retry_interval)?;
        let options = Options::new(own, &open.instance.app_id)?;
        Ok(Self {
            client: Client::open(settings, &open.name, &open.tasks).await?,
            slots: Arc::new(Semaphore::new(options.concurrency)),
            options: Arc::new(options),
            name: open.name,
            tasks: open.tasks,
            closed: CancellationToken::new(),
        })
    }

    fn check_open(&self) -> Result<()> {
        match self.closed.is_cancelled() {
            true => Err(Error::new(ErrorKind::Unavailable, "component is closed")),
            false => Ok(()),
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

#[async_trait]
impl Component for Redis {
    async fn ping(&self) -> Result<()> {
        self.client.ping().await
    }

    async fn close(&self) {
        self.closed.cancel();
        self.client.close();
    }
}

#[async_trait]
impl PubSub for Redis {
    fn capabilities(&self) -> Capabilities {
        Capabilities::EMPTY
    }

    async fn publish(&self, request: &PublishRequest) -> Result<()> {
        self.check_open()?;
        let mut add = redis::cmd("XADD");
        add.arg(&request.topic);
        match self.options.trim {
            Some(Trim::Length(length)) => {
                add.arg("MAXLEN").arg("~").arg(length);
            }
            Some(Trim::Age(age)) => {
                let oldest = jiff::Timestamp::now().as_millisecond()
                    - i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                add.arg("MINID")
                    .arg("~")
                    .arg(format!("{}-1", oldest.max(0)));
            }
            None => {}
        }
        add.arg("*").arg("data").arg(&request.data[..]);
        if !request.metadata.is_empty() {
            let metadata = serde_json::to_vec(&request.metadata)
                .map_err(|error| Error::internal("the metadata cannot be written", error))?;
            add.arg("metadata").arg(metadata);
        }
        self.client
            .query::<Value>(&add)
            .await
            .map(drop)
            .map_err(|error| failure("redis streams: error from publish", error))
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Deliveries> {
        self.check_open()?;
        let limits = request.limits.at_most(self.options.concurrency);
        let (sender, deliveries) = deliveries(limits, self.options.redelivers());
        let subscription = Arc::new(Subscription::new(
            self.client.clone(),
            Arc::clone(&self.options),
            Arc::clone(&self.slots),
            request.topic,
            sender,
        ));
        subscription.create_group().await?;
        let closed = self.closed.clone();
        let run = async move {
            tokio::select! {
                () = closed.cancelled() => subscription.end(Ended::Closed),
                () = subscription.run() => {}
            }
        };
        self.tasks.spawn(&self.name, Box::pin(run));
        Ok(deliveries)
    }
}

#[cfg(test)]
mod tests {
    use component::Metadata;

    use super::*;

    fn read(fields: &[(&str, &str)]) -> Result<Options> {
        let metadata = Metadata::from_iter(fields.iter().copied());
        Options::new(Own::read(&metadata)?, "app")
    }

    #[test]
    fn bare_numbers_are_milliseconds_and_zero_switches_redelivery_off() {
        let redelivery = read(&[("processingTimeout", "500"), ("redeliverInterval", "2s")])
            .unwrap()
            .redelivery
            .unwrap();
        assert_eq!(redelivery.after, Duration::from_millis(500));
        assert_eq!(redelivery.every, Duration::from_secs(2));
        let by_broker = Redelivery::Broker(Backoff::NONE);
        assert_eq!(read(&[]).unwrap().redelivers(), by_broker);
        for field in ["redeliverInterval", "processingTimeout"] {
            let options = read(&[(field, "0")]).unwrap();
            assert_eq!(options.redelivers(), Redelivery::Never, "{field}");
        }
    }

    #[test]
    fn the_consumer_is_the_app_unless_said_otherwise() {
        assert_eq!(read(&[]).unwrap().consumer, "app");
        assert_eq!(read(&[("consumerid", "c")]).unwrap().consumer, "c");
        let own = Own::read(&Metadata::default()).unwrap();
        let error = Options::new(own, "").err().unwrap();
        assert!(error.to_string().contains("consumerID"), "{error}");
    }
}
