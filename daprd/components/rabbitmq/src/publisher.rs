//! Publishing: messages go out on one channel, many at a time, and each counts as sent once the server has confirmed it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use component::{Error, ErrorKind, Result, pubsub::PublishRequest};
use lapin::{
    BasicProperties, Channel, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions},
    types::{FieldTable, ShortString},
};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use values::GoDuration;

use crate::{
    client::{ANSWER_TIMEOUT, Client, Connection, within},
    failure::{failure, short},
    pubsub::Options,
};

/// Longest time of a publish, with all its attempts.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest time until a message has gone out to the server.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Attempts to publish a message.
const ATTEMPTS: u32 = 3;

/// Messages that wait for their confirmation at once.
const MOST_UNCONFIRMED: usize = 1024;

/// Exchanges that are remembered as declared; they are declared again after that.
const MOST_DECLARED: usize = 4096;

/// The server refuses more, and closes the channel. Q-rabbitmq-ttl
const LONGEST_TTL: Duration = Duration::from_millis(u32::MAX as u64);

/// Publishes for a component.
pub struct Publisher {
    client: Arc<Client>,
    options: Arc<Options>,
    current: Mutex<Option<Arc<Outlet>>>,
    opening: tokio::sync::Mutex<()>,
    room: Semaphore,
}

/// The channel, and what is known of the server as long as it is open.
struct Outlet {
    connection: Arc<Connection>,
    channel: Channel,
    declared: Mutex<HashSet<String>>,
}

impl Outlet {
    fn is_up(&self) -> bool {
        self.connection.is_up() && self.channel.status().connected()
    }
}

/// A message as it goes out.
struct Outgoing<'a> {
    topic: &'a str,
    exchange: ShortString,
    routing_key: ShortString,
    properties: BasicProperties,
    data: &'a [u8],
}

impl Publisher {
    /// On the connection for publishing.
    pub fn new(client: Arc<Client>, options: Arc<Options>) -> Self {
        Self {
            client,
            options,
            current: Mutex::new(None),
            opening: tokio::sync::Mutex::new(()),
            room: Semaphore::new(MOST_UNCONFIRMED),
        }
    }

    /// Sends a message; on return the server has it.
    ///
    /// # Errors
    /// The server's, or [`ErrorKind::Unavailable`] when it has not confirmed in time. The message may be there all the same.
    pub async fn publish(&self, request: &PublishRequest) -> Result<()> {
        let outgoing = self.outgoing(request)?;
        let publish = async {
            let _room = self.room.acquire().await;
            self.attempts(&outgoing).await
        };
        match tokio::time::timeout(PUBLISH_TIMEOUT, publish).await {
            Ok(outcome) => outcome,
            Err(late) => Err(Error::unavailable(
                "rabbitmq does not confirm a message",
                late,
            )),
        }
    }

    async fn attempts(&self, outgoing: &Outgoing<'_>) -> Result<()> {
        let mut attempt = 1;
        loop {
            let error = match self.attempt(outgoing).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if attempt >= ATTEMPTS || self.client.check_open().is_err() || !is_passing(&error) {
                return Err(error);
            }
            tracing::warn!(
                target: "dapr.contrib",
                "rabbitmq: publishing to {} failed, and is tried again: {}",
                outgoing.topic,
                component::error::chain(&error)
            );
            // The first time the connection may have broken while nobody used it, or somebody deleted the exchange.
            if attempt > 1 {
                tokio::time::sleep(self.client.settings().reconnect_wait).await;
            }
            attempt += 1;
        }
    }

    async fn attempt(&self, outgoing: &Outgoing<'_>) -> Result<()> {
        let outlet = self.outlet().await?;
        if outlet.connection.is_blocked() {
            return Err(Error::new(
                ErrorKind::RateLimited,
                "rabbitmq takes no messages for now: it is short of memory or disk",
            ));
        }
        if !outlet.declared.lock().contains(outgoing.topic) {
            self.declare(&outlet, outgoing).await?;
        }
        let options = BasicPublishOptions::default();
        let (exchange, key) = (outgoing.exchange.clone(), outgoing.routing_key.clone());
        let properties = outgoing.properties.clone();
        let sent = outlet
            .channel
            .basic_publish(exchange, key, options, outgoing.data, properties);
        let what = "error publishing to rabbitmq";
        let Ok(sent) = tokio::time::timeout(SEND_TIMEOUT, sent).await else {
            // What the library still holds of it must not pile up.
            outlet.connection.give_up();
            return Err(Error::new(
                ErrorKind::Unavailable,
                "rabbitmq reads nothing of what is sent",
            ));
        };
        let confirmation = sent.map_err(|error| failure(what, error))?;
        match confirmation.await.map_err(|error| failure(what, error))? {
            Confirmation::Ack(_) => Ok(()),
            Confirmation::Nack(_) => Err(Error::new(
                ErrorKind::RateLimited,
                "rabbitmq has not taken the message",
            )),
            Confirmation::NotRequested => Err(Error::new(
                ErrorKind::Internal,
                "rabbitmq confirms no messages",
            )),
        }
    }

    async fn outlet(&self) -> Result<Arc<Outlet>> {
        self.client.check_open()?;
        if let Some(outlet) = self.usable() {
            return Ok(outlet);
        }
        let _opening = self.opening.lock().await;
        if let Some(outlet) = self.usable() {
            return Ok(outlet);
        }
        let connection = self.client.publishing().await?;
        let channel = connection.channel().await?;
        let confirm = channel.confirm_select(ConfirmSelectOptions::default());
        within(ANSWER_TIMEOUT, "asking rabbitmq for confirmations", confirm).await?;
        let outlet = Arc::new(Outlet {
            connection,
            channel,
            declared: Mutex::default(),
        });
        *self.current.lock() = Some(Arc::clone(&outlet));
        Ok(outlet)
    }

    fn usable(&self) -> Option<Arc<Outlet>> {
        let current = self.current.lock().clone();
        current.filter(|outlet| outlet.is_up())
    }

    /// On a channel of its own: the server closes it where the exchange was declared otherwise.
    async fn declare(&self, outlet: &Outlet, outgoing: &Outgoing<'_>) -> Result<()> {
        let channel = outlet.connection.channel().await?;
        declare_exchange(&channel, &outgoing.exchange, &self.options).await?;
        let mut declared = outlet.declared.lock();
        if declared.len() >= MOST_DECLARED {
            declared.clear();
        }
        declared.insert(outgoing.topic.to_owned());
        Ok(())
    }

    fn outgoing<'a>(&self, request: &'a PublishRequest) -> Result<Outgoing<'a>> {
        let metadata = &request.metadata;
        let mut properties = BasicProperties::default()
            .with_content_type("text/plain".into())
            .with_delivery_mode(if self.options.persistent { 2 } else { 1 });
        let ttl = property(metadata, "ttl").or_else(|| property(metadata, "ttlInSeconds"));
        let ttl = ttl.and_then(|text| lasts(text, &request.topic));
        if let Some(ttl) = ttl.or(self.options.ttl) {
            let milliseconds = ttl.min(LONGEST_TTL).as_millis().to_string();
            properties = properties.with_expiration(milliseconds.into());
        }
        if let Some(text) = metadata.get("priority").filter(|text| !text.is_empty()) {
            match text.parse::<i64>() {
                Ok(priority) => {
                    let priority = priority.clamp(0, u8::MAX.into());
                    properties =
                        properties.with_priority(u8::try_from(priority).unwrap_or(u8::MAX));
                }
                Err(_) => ignored("priority", &request.topic),
            }
        }
        let text = |key: &str| {
            property(metadata, key)
                .map(|text| short(key, text))
                .transpose()
        };
        if let Some(value) = text("contentType")? {
            properties = properties.with_content_type(value);
        }
        if let Some(value) = text("messageID")? {
            properties = properties.with_message_id(value);
        }
        if let Some(value) = text("correlationID")? {
            properties = properties.with_correlation_id(value);
        }
        if let Some(value) = text("type")? {
            properties = properties.with_type(value);
        }
        let key = metadata.get("routingKey").map(String::as_str);
        Ok(Outgoing {
            topic: &request.topic,
            exchange: short("the topic", &request.topic)?,
            routing_key: short("routingKey", key.unwrap_or_default())?,
            properties,
            data: &request.data,
        })
    }
}

/// Declares the exchange of a topic.
///
/// # Errors
/// The server's, also where it was declared otherwise before.
pub async fn declare_exchange(
    channel: &Channel,
    name: &ShortString,
    options: &Options,
) -> Result<()> {
    let how = ExchangeDeclareOptions {
        durable: options.durable,
        auto_delete: options.deleted_when_unused,
        ..ExchangeDeclareOptions::default()
    };
    let declare = channel.exchange_declare(
        name.clone(),
        options.exchange.kind(),
        how,
        FieldTable::default(),
    );
    let what = format!("error declaring the rabbitmq exchange {}", name.as_str());
    within(ANSWER_TIMEOUT, &what, declare).await
}

/// Whether another attempt may help. What the server says of the channel may come of another message on it.
fn is_passing(error: &Error) -> bool {
    error.kind() == ErrorKind::Unavailable
}

/// The first value of a name in any case.
fn property<'a>(
    metadata: &'a std::collections::BTreeMap<String, String>,
    name: &str,
) -> Option<&'a str> {
    let found = metadata
        .iter()
        .find(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_empty());
    found.map(|(_, value)| value.as_str())
}

/// A time to live: a duration, or seconds. What is none is ignored.
fn lasts(text: &str, topic: &str) -> Option<Duration> {
    if let Ok(duration) = text.parse::<GoDuration>() {
        return Some(duration.to_std().unwrap_or_default());
    }
    let seconds = text.parse::<u64>().ok().filter(|seconds| *seconds > 0);
    if seconds.is_none() {
        ignored("ttlInSeconds", topic);
    }
    seconds.map(Duration::from_secs)
}

fn ignored(what: &str, topic: &str) {
    tracing::warn!(
        target: "dapr.contrib",
        "rabbitmq: the {what} of a message for {topic} is no number, and is ignored"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_live_are_durations_or_seconds() {
        let second = Duration::from_secs(1);
        assert_eq!(lasts("90", "t"), Some(second * 90));
        assert_eq!(lasts("1m", "t"), Some(second * 60));
        assert_eq!(lasts("-1s", "t"), Some(Duration::ZERO));
        assert_eq!(lasts("0", "t"), Some(Duration::ZERO));
        for none in ["", "-1", "soon"] {
            assert_eq!(lasts(none, "t"), None, "{none}");
        }
    }
}
