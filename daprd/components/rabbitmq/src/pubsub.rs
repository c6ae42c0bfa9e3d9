//! `pubsub.rabbitmq`: a topic is an exchange, a subscriber a queue bound to it, which subscribers of one consumer id share. A
//! message stays with its queue until it is acknowledged.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use component::{
    Component, Error, Open, PubSub, Result, Spawn,
    fields::{Field, Fields, Kind, SECOND, Value},
    pubsub::{Capabilities, Capability, Deliveries, PublishRequest, SubscribeRequest},
};
use lapin::ExchangeKind;

use crate::{
    client::Client,
    metadata::{Declared, Settings},
    publisher::Publisher,
    subscription,
};

/// What it can do.
pub const CAPABILITIES: [Capability; 1] = [Capability::MessageTtl];

/// Persistent messages; 0 and 1 are those that a restart of the server loses.
const PERSISTENT: u16 = 2;

component::metadata! {
    /// The fields that only the broker has.
    struct Own {
        /// First part of the names of queues; the app id unless it is set.
        consumer: Option<String> => "consumerID";
        /// Exchanges and queues survive a restart of the server.
        durable: bool => "durable", default(true);
        /// Exchanges and queues are deleted once nobody uses them, with the messages that wait.
        deleted_when_unused: bool => "deletedWhenUnused", default(true);
        /// A message counts as done once it was taken from the queue.
        auto_ack: bool => "autoAck";
        /// What an app failed to handle goes back to the queue; else it is lost, or dead-lettered.
        requeue: bool => "requeueInFailure";
        /// 2 for messages that survive a restart of the server, in a durable queue.
        delivery_mode: u16 => "deliveryMode", default(0);
        /// Messages of a subscription under way; zero for as many as the sidecar allows.
        prefetch: u16 => "prefetchCount", default(0);
        /// How exchanges choose queues.
        exchange_kind: Exchange => "exchangeKind", default(Exchange::Fanout);
        /// Messages that a queue holds; the oldest go first.
        max_length: Option<i64> => "maxLen";
        /// Bytes that a queue holds; the oldest messages go first.
        max_bytes: Option<i64> => "maxLenBytes";
        /// What is given up goes to the exchange `dlx-<queue>`, and from there to the queue `dlq-<queue>`.
        dead_letter: bool => "enableDeadLetter";
        /// How long messages last that say nothing of it.
        ttl: Option<Duration> => "ttlInSeconds" | "ttl", unit(SECOND);
        /// `single` handles one message of a subscription at a time.
        concurrency: Concurrency => "concurrency" | "concurrencyMode", default(Concurrency::Parallel);
        /// Hands the headers and properties of messages on as their metadata.
        properties: bool => "publishMessagePropertiesToMetadata";
    }
    ignored {
        // Messages are always confirmed. Q-rabbitmq-confirms
        "publisherConfirm": Boolean,
    }
}

/// All fields of the broker.
pub fn fields() -> Fields {
    Declared::fields().and(Own::fields())
}

/// How an exchange chooses queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// All of them.
    Fanout,
    /// By a pattern of the routing key.
    Topic,
    /// By the routing key.
    Direct,
    /// By headers.
    Headers,
}

impl Exchange {
    const ALL: [(&'static str, Self); 4] = [
        ("fanout", Self::Fanout),
        ("topic", Self::Topic),
        ("direct", Self::Direct),
        ("headers", Self::Headers),
    ];

    /// As the client library has it.
    pub fn kind(self) -> ExchangeKind {
        match self {
            Self::Fanout => ExchangeKind::Fanout,
            Self::Topic => ExchangeKind::Topic,
            Self::Direct => ExchangeKind::Direct,
            Self::Headers => ExchangeKind::Headers,
        }
    }
}

impl Value for Exchange {
    const KIND: Kind = Kind::OneOf(&["fanout", "topic", "direct", "headers"]);

    fn read(text: &str, _: &Field) -> Result<Self, String> {
        one_of(&Self::ALL, text)
    }

    fn text(&self) -> Option<String> {
        name_of(&Self::ALL, self)
    }
}

/// How many messages of a subscription are handled at a time. Q-rabbitmq-concurrency
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concurrency {
    /// As many as there are.
    Parallel,
    /// One.
    Single,
}

impl Concurrency {
    const ALL: [(&'static str, Self); 2] = [("parallel", Self::Parallel), ("single", Self::Single)];
}

impl Value for Concurrency {
    const KIND: Kind = Kind::OneOf(&["parallel", "single"]);

    fn read(text: &str, _: &Field) -> Result<Self, String> {
        one_of(&Self::ALL, text)
    }

    fn text(&self) -> Option<String> {
        name_of(&Self::ALL, self)
    }
}

fn one_of<T: Copy>(all: &[(&str, T)], text: &str) -> Result<T, String> {
    let found = all.iter().find(|(name, _)| *name == text);
    found
        .map(|(_, value)| *value)
        .ok_or_else(|| format!("there is no {text}"))
}

fn name_of<T: PartialEq>(all: &[(&str, T)], value: &T) -> Option<String> {
    let found = all.iter().find(|(_, known)| known == value);
    found.map(|(name, _)| (*name).to_owned())
}

/// The broker's own fields, checked.
pub struct Options {
    /// First part of the names of queues; may be empty where all subscriptions name theirs.
    pub consumer: String,
    /// Exchanges and queues survive a restart.
    pub durable: bool,
    /// Exchanges and queues are deleted once nobody uses them.
    pub deleted_when_unused: bool,
    /// Messages count as done once they were taken.
    pub auto_ack: bool,
    /// What failed goes back to the queue.
    pub requeue: bool,
    /// Messages survive a restart.
    pub persistent: bool,
    /// Messages of a subscription under way; nothing for as many as the sidecar allows.
    pub prefetch: Option<u16>,
    /// How exchanges choose queues.
    pub exchange: Exchange,
    /// Messages that a queue holds.
    pub max_length: Option<i64>,
    /// Bytes that a queue holds.
    pub max_bytes: Option<i64>,
    /// What is given up is kept.
    pub dead_letter: bool,
    /// How long messages last that say nothing of it.
    pub ttl: Option<Duration>,
    /// Properties of messages become metadata.
    pub properties: bool,
}

impl Options {
    fn new(own: Own, app_id: &str) -> Result<Self> {
        if own.delivery_mode > PERSISTENT {
            return Err(Error::invalid_metadata("deliveryMode", "is 0, 1 or 2"));
        }
        let single = own.concurrency == Concurrency::Single;
        let prefetch = if single { 1 } else { own.prefetch };
        Ok(Self {
            consumer: own.consumer.unwrap_or_else(|| app_id.to_owned()),
            durable: own.durable,
            deleted_when_unused: own.deleted_when_unused,
            auto_ack: own.auto_ack,
            requeue: own.requeue,
            persistent: own.delivery_mode == PERSISTENT,
            prefetch: (prefetch > 0).then_some(prefetch),
            exchange: own.exchange_kind,
            max_length: own.max_length.filter(|length| *length > 0),
            max_bytes: own.max_bytes.filter(|bytes| *bytes > 0),
            dead_letter: own.dead_letter,
            ttl: own.ttl,
            properties: own.properties,
        })
    }
}

/// A broker on a RabbitMQ server.
pub struct RabbitMq {
    client: Arc<Client>,
    options: Arc<Options>,
    publisher: Publisher,
    name: String,
    tasks: Arc<dyn Spawn>,
}

impl RabbitMq {
    /// Connects.
    ///
    /// # Errors
    /// Wrong metadata, or a server that cannot be reached or refuses.
    pub async fn open(open: Open) -> Result<Self> {
        let own = Own::read(&open.metadata)?;
        let settings = Settings::read(&open.metadata)?;
        let options = Arc::new(Options::new(own, &open.instance.app_id)?);
        let client = Arc::new(Client::open(settings).await?);
        Ok(Self {
            publisher: Publisher::new(Arc::clone(&client), Arc::clone(&options)),
            client,
            options,
            name: open.name,
            tasks: open.tasks,
        })
    }
}

#[async_trait]
impl Component for RabbitMq {
    async fn ping(&self) -> Result<()> {
        // A channel that is opened is an answer.
        self.client.publishing().await?.channel().await.map(drop)
    }

    async fn close(&self) {
        self.client.close().await;
    }
}

#[async_trait]
impl PubSub for RabbitMq {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES.into()
    }

    fn reopen_pause(&self) -> Option<Duration> {
        Some(self.client.settings().reconnect_wait)
    }

    async fn publish(&self, request: &PublishRequest) -> Result<()> {
        self.publisher.publish(request).await
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Deliveries> {
        let (deliveries, run) = subscription::open(&self.client, &self.options, request).await?;
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
    fn what_is_not_set_is_as_upstream_has_it() {
        let options = read(&[]).unwrap();
        assert!(options.durable && options.deleted_when_unused);
        assert!(!options.auto_ack && !options.requeue && !options.persistent);
        assert_eq!((&*options.consumer, options.prefetch), ("app", None));
    }

    #[test]
    fn one_at_a_time_has_two_names() {
        for name in ["concurrency", "concurrencyMode"] {
            let options = read(&[(name, "single"), ("prefetchCount", "9")]).unwrap();
            assert_eq!(options.prefetch, Some(1), "{name}");
        }
    }

    #[test]
    fn wrong_fields_are_told() {
        for (field, value) in [
            ("deliveryMode", "3"),
            ("exchangeKind", "ring"),
            ("concurrency", "some"),
            ("ttlInSeconds", "-1"),
            ("prefetchCount", "70000"),
        ] {
            let error = read(&[(field, value)]).err().expect(field);
            assert!(error.to_string().contains(field), "{error}");
        }
    }
}
