//! Publishing, on a connection of its own: the one of the subscriptions stops reading while the app has enough to do, and an
//! app that publishes while it handles a message must not wait for itself. Q-mqtt-connections

use std::sync::Arc;

use bytes::Bytes;
use component::{Error, ErrorKind, Result, Spawn};
use rumqttc::{ClientError, PublishOptions, QoS};
use tokio::time::timeout;

use crate::{
    filter::check_topic,
    link::{Link, MOST_PACKET, Nobody, Options, PATIENCE},
    metadata::Settings,
};

/// What the client id of the connection has behind that of the consumer.
const SUFFIX: &str = "-producer";

/// How often a message is sent in all where connections end before it is acknowledged: it may be the reason, because the
/// server takes less than we do.
const MOST_SENDS: u32 = 3;

/// Bytes of a packet beside its topic and payload, at most.
const OVERHEAD: usize = 16;

/// Publishes.
pub struct Publisher {
    link: Link,
    qos: QoS,
}

impl Publisher {
    /// Connects.
    ///
    /// # Errors
    /// Where the server cannot be reached, or refuses.
    pub async fn open(settings: &Settings, name: &str, tasks: &Arc<dyn Spawn>) -> Result<Self> {
        let client_id = format!("{}{SUFFIX}", settings.consumer);
        let options = Options::new(settings, &client_id, true);
        let link = Link::start(name, options, Arc::new(Nobody), tasks);
        link.first().await?;
        Ok(Self {
            link,
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
