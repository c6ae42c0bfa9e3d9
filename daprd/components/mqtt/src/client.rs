//! Publishing, on a connection of its own: the one of the subscriptions stops reading while the app has enough to do, and an
//! app that publishes while it handles a message must not wait for itself. Q-mqtt-connections

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use component::{Error, ErrorKind, Result, Spawn};
use parking_lot::Mutex;
use rumqttc::{AsyncClient, ClientError, PublishOptions, QoS};
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    filter::check_topic,
    link::{Link, Listener, MOST_PACKET, Options, PATIENCE},
    metadata::Settings,
    pubsub::consumer::Consumer,
};

/// What the client id of the connection has behind that of the consumer.
const SUFFIX: &str = "-producer";

/// How often a message is sent in all where connections end before it is acknowledged: it may be the reason, because the
/// server takes less than we do.
const MOST_SENDS: u32 = 3;

/// How long messages wait for the subscriptions after a connection was lost: a session that the server does not keep, or has
/// lost, would never see them. Q-mqtt-held
const MOST_HOLD: Duration = Duration::from_secs(5);

/// Bytes of a packet beside its topic and payload, at most.
const OVERHEAD: usize = 16;

/// Publishes.
pub struct Publisher {
    link: Link,
    gate: Arc<Gate>,
    qos: QoS,
}

impl Publisher {
    /// Connects.
    ///
    /// # Errors
    /// Where the server cannot be reached, or refuses.
    pub async fn open(
        settings: &Settings,
        name: &str,
        consumer: Arc<Consumer>,
        tasks: &Arc<dyn Spawn>,
    ) -> Result<Self> {
        let client_id = format!("{}{SUFFIX}", settings.consumer);
        let options = Options::new(settings, &client_id, true);
        let gate = Arc::new(Gate {
            consumer,
            connected: Mutex::default(),
        });
        let link = Link::start(name, options, Arc::clone(&gate), tasks);
        link.first().await?;
        Ok(Self {
            link,
            gate,
            qos: settings.qos,
        })
    }

    /// Sends a message; on return the server has acknowledged it, unless the quality of service has no acknowledgements.
    ///
    /// # Errors
    /// The server's, or where it does not answer.
    pub async fn publish(&self, topic: &str, payload: &Bytes, retain: bool) -> Result<()> {
        if self.link.is_closed() {
            return Err(Error::new(ErrorKind::Unavailable, "component is closed"));
        }
        check_topic(topic)?;
        if topic.len() + payload.len() + OVERHEAD > MOST_PACKET {
            return Err(Error::invalid_request(format!(
                "mqtt: a message of {} bytes is larger than the {MOST_PACKET} that a packet may have",
                payload.len()
            )));
        }
        let send = self.send(topic, payload, retain);
        timeout(PATIENCE, send).await.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Unavailable,
                format!("mqtt: no acknowledgement within {PATIENCE:?}"),
            ))
        })
    }

    async fn send(&self, topic: &str, payload: &Bytes, retain: bool) -> Result<()> {
        let options = PublishOptions::new(self.qos).retain(retain);
        let mut sends = 0;
        loop {
            let client = self.link.client().await?;
            self.gate.pass().await;
            let sent = client
                .publish_tracked(topic, payload.clone(), options)
                .await;
            let outcome = match sent {
                Ok(notice) => notice.wait_async().await.map(drop),
                Err(error @ ClientError::InvalidRequest(_)) => {
                    let error = Error::invalid_request("mqtt: the topic is refused")
                        .with_source(error.to_string());
                    return Err(error);
                }
                // The connection has ended before it took the message.
                Err(_) => continue,
            };
            match outcome {
                Ok(()) => return Ok(()),
                // The connection has ended before the acknowledgement came: at least once.
                Err(_) if self.qos == QoS::AtLeastOnce && sends + 1 < MOST_SENDS => sends += 1,
                Err(error) => {
                    let text = "mqtt: the connection has ended before the message was acknowledged";
                    return Err(Error::unavailable(text, error));
                }
            }
        }
    }

    /// Whether the connection is there; one that was lost is made anew.
    ///
    /// # Errors
    /// Why it is not.
    pub fn ping(&self) -> Result<()> {
        self.link.want();
        self.link.check()
    }

    /// Leaves.
    pub async fn close(&self) {
        self.link.close().await;
    }
}

/// Keeps messages back until the subscriptions are there again.
struct Gate {
    consumer: Arc<Consumer>,
    /// When the connection to publish on was made.
    connected: Mutex<Option<Instant>>,
}

impl Gate {
    async fn pass(&self) {
        let Some(lost) = self.consumer.lost() else {
            return;
        };
        let begun = match *self.connected.lock() {
            // Both are new: the server may have lost the session.
            Some(connected) if connected > lost => connected,
            _ if self.consumer.is_clean() => lost,
            // The server keeps it for the subscriptions.
            _ => return,
        };
        // What comes later than that is not held at all: the subscriptions may be refused for good.
        let _ = timeout_at(begun + MOST_HOLD, self.consumer.restored()).await;
    }
}

impl Listener for Gate {
    fn connected(&self, _: &AsyncClient, _session_present: bool) {
        *self.connected.lock() = Some(Instant::now());
        if self.consumer.lost().is_some() {
            self.consumer.hurry();
        }
    }
}
