//! What subscriptions need of the server: exchange, queue and bindings, declared as upstream declares them, and the messages
//! that the server then pushes on a channel of the subscription's own.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use component::{Error, Result, pubsub::SubscribeRequest};
use lapin::{
    Channel, Consumer, ExchangeKind,
    options::{
        BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions,
        QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};
use values::is_truthy;

use crate::{
    client::{ANSWER_TIMEOUT, Connection, within},
    failure::short,
    publisher::declare_exchange,
    pubsub::Options,
};

/// The kind of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueType {
    /// On one server.
    Classic,
    /// Replicated; it counts deliveries.
    Quorum,
}

/// A queue as a subscription asks for it.
pub struct Queue {
    /// The exchange.
    topic: ShortString,
    /// Its name.
    pub name: ShortString,
    /// Its kind.
    pub kind: QueueType,
    /// One subscriber at a time gets messages, in order.
    pub single_active: bool,
    arguments: FieldTable,
    routing_keys: Vec<ShortString>,
}

impl Queue {
    /// Reads the metadata of a subscription.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(request: &SubscribeRequest, options: &Options) -> Result<Self> {
        let set = |key: &str| {
            request
                .metadata
                .get(key)
                .map(String::as_str)
                .filter(|text| !text.is_empty())
        };
        let name = match set("queueName") {
            Some(name) => name.to_owned(),
            None if options.consumer.is_empty() => {
                return Err(Error::invalid_metadata(
                    "consumerID",
                    "is required for subscriptions that do not name a queue",
                ));
            }
            None => format!("{}-{}", options.consumer, request.topic),
        };
        let kind = match set("queueType") {
            None | Some("classic") => QueueType::Classic,
            Some("quorum") => QueueType::Quorum,
            Some(other) => {
                return Err(Error::invalid_request(format!(
                    "there is no queueType {other}, only classic and quorum"
                )));
            }
        };
        let number = |key: &str| set(key).map(|text| number(key, text)).transpose();
        let single_active = set("singleActiveConsumer").is_some_and(is_truthy);
        let mut arguments = limits(
            number("maxLen")?.or(options.max_length),
            number("maxLenBytes")?.or(options.max_bytes),
        );
        let kind_text = match kind {
            QueueType::Classic => "classic",
            QueueType::Quorum => "quorum",
        };
        arguments.insert("x-queue-type".into(), text(kind_text));
        if let Some(priority) = number("maxPriority")? {
            let priority = u8::try_from(priority).unwrap_or(u8::MAX);
            arguments.insert(
                "x-max-priority".into(),
                AMQPValue::LongLongInt(priority.into()),
            );
        }
        if single_active {
            arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        }
        if options.dead_letter {
            arguments.insert(
                "x-dead-letter-exchange".into(),
                text(&format!("dlx-{name}")),
            );
        }
        let keys = set("routingKey").unwrap_or_default().split(',');
        Ok(Self {
            topic: short("the topic", &request.topic)?,
            name: short("the name of the queue", &name)?,
            kind,
            single_active,
            arguments,
            routing_keys: keys
                .map(|key| short("routingKey", key))
                .collect::<Result<_>>()?,
        })
    }

    /// Declares all of it.
    async fn declare(&self, channel: &Channel, options: &Options) -> Result<()> {
        declare_exchange(channel, &self.topic, options).await?;
        if options.dead_letter {
            self.declare_dead_letters(channel, options).await?;
        }
        let how = QueueDeclareOptions {
            durable: options.durable,
            auto_delete: options.deleted_when_unused,
            ..QueueDeclareOptions::default()
        };
        declare_queue(channel, &self.name, how, self.arguments.clone()).await?;
        for key in &self.routing_keys {
            bind(channel, &self.name, &self.topic, key).await?;
        }
        Ok(())
    }

    async fn declare_dead_letters(&self, channel: &Channel, options: &Options) -> Result<()> {
        let exchange = short(
            "the name of the queue",
            &format!("dlx-{}", self.name.as_str()),
        )?;
        let queue = short(
            "the name of the queue",
            &format!("dlq-{}", self.name.as_str()),
        )?;
        let how = ExchangeDeclareOptions {
            durable: true,
            auto_delete: options.deleted_when_unused,
            ..ExchangeDeclareOptions::default()
        };
        let declare = channel.exchange_declare(
            exchange.clone(),
            ExchangeKind::Fanout,
            how,
            FieldTable::default(),
        );
        let what = format!(
            "error declaring the rabbitmq exchange {}",
            exchange.as_str()
        );
        within(ANSWER_TIMEOUT, &what, declare).await?;
        let how = QueueDeclareOptions {
            durable: true,
            auto_delete: options.deleted_when_unused,
            ..QueueDeclareOptions::default()
        };
        let mut arguments = limits(options.max_length, options.max_bytes);
        arguments.insert("x-queue-mode".into(), text("lazy"));
        declare_queue(channel, &queue, how, arguments).await?;
        bind(channel, &queue, &exchange, &ShortString::default()).await
    }
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn number(key: &str, text: &str) -> Result<i64> {
    let parsed = text
        .parse::<u64>()
        .ok()
        .and_then(|number| i64::try_from(number).ok());
    parsed.ok_or_else(|| {
        Error::invalid_request(format!("{key} of a subscription is no number: {text}"))
    })
}

fn limits(length: Option<i64>, bytes: Option<i64>) -> FieldTable {
    let mut arguments = FieldTable::default();
    for (key, limit) in [("x-max-length", length), ("x-max-length-bytes", bytes)] {
        if let Some(limit) = limit {
            arguments.insert(key.into(), AMQPValue::LongLongInt(limit));
        }
    }
    arguments
}

async fn declare_queue(
    channel: &Channel,
    name: &ShortString,
    how: QueueDeclareOptions,
    arguments: FieldTable,
) -> Result<()> {
    let declare = channel.queue_declare(name.clone(), how, arguments);
    let what = format!("error declaring the rabbitmq queue {}", name.as_str());
    within(ANSWER_TIMEOUT, &what, declare).await.map(drop)
}

async fn bind(
    channel: &Channel,
    queue: &ShortString,
    exchange: &ShortString,
    key: &ShortString,
) -> Result<()> {
    let how = QueueBindOptions::default();
    let bind = channel.queue_bind(
        queue.clone(),
        exchange.clone(),
        key.clone(),
        how,
        FieldTable::default(),
    );
    let what = format!("error binding the rabbitmq queue {}", queue.as_str());
    within(ANSWER_TIMEOUT, &what, bind).await
}

/// The channel of a subscription. It closes with its last owner, and what was not settled by then is in the queue again.
pub struct Session {
    channel: Channel,
    /// The queue.
    pub queue: Queue,
    over: AtomicBool,
    _connection: Arc<Connection>,
}

impl Session {
    /// Declares what is needed, with so many messages under way. Q-rabbitmq-prefetch
    ///
    /// # Errors
    /// The server's.
    pub async fn open(
        connection: Arc<Connection>,
        queue: Queue,
        options: &Options,
        prefetch: usize,
    ) -> Result<Self> {
        let channel = connection.channel().await?;
        queue.declare(&channel, options).await?;
        let prefetch = u16::try_from(prefetch).unwrap_or(u16::MAX);
        let qos = channel.basic_qos(prefetch, BasicQosOptions::default());
        within(
            ANSWER_TIMEOUT,
            "error limiting what rabbitmq sends ahead",
            qos,
        )
        .await?;
        Ok(Self {
            channel,
            queue,
            over: AtomicBool::new(false),
            _connection: connection,
        })
    }

    /// Nothing more is taken.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Whether that is so.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Begins to take messages. What the server sends ahead is limited as long as messages are to be acknowledged, so they
    /// always are. Q-rabbitmq-auto-ack
    ///
    /// # Errors
    /// The server's.
    pub async fn consume(&self) -> Result<Consumer> {
        let (name, how) = (self.queue.name.clone(), BasicConsumeOptions::default());
        let consume =
            self.channel
                .basic_consume(name, ShortString::default(), how, FieldTable::default());
        let what = format!(
            "error consuming from the rabbitmq queue {}",
            self.queue.name.as_str()
        );
        within(ANSWER_TIMEOUT, &what, consume).await
    }

    /// Ends that. What was sent before comes to an end in the stream.
    ///
    /// # Errors
    /// The server's.
    pub async fn cancel(&self, tag: ShortString) -> Result<()> {
        let cancel = self
            .channel
            .basic_cancel(tag, BasicCancelOptions::default());
        within(ANSWER_TIMEOUT, "error pausing a rabbitmq queue", cancel).await
    }
}
