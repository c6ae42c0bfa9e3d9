//! `pubsub.mqtt3`: a broker that cannot take a message back, so one that the app wants again is delivered again in place
//! (Q-mqtt-retry). All subscriptions share a session, which the server keeps under the consumer id.

pub mod consumer;
mod inbox;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use component::{
    Component, Error, Open, PubSub, Result, Spawn,
    pubsub::{
        Backoff, Capabilities, Capability, Deliveries, PublishRequest, Redelivery,
        SubscribeRequest, deliveries,
    },
};
use rumqttc::QoS;

use crate::{client::Publisher, filter::Filter, metadata::Settings};
use consumer::Consumer;

/// What works.
pub const CAPABILITIES: [Capability; 1] = [Capability::SubscribeWildcards];

/// Request metadata: keeps a message as the last one of its topic, or not, whatever the component says.
const RETAIN: &str = "retain";

/// Metadata of a subscription: the server forgets it when it is closed, although the session is kept.
const UNSUBSCRIBE: &str = "unsubscribeonclose";

/// A broker on an MQTT server.
pub struct Mqtt {
    name: String,
    settings: Settings,
    publisher: Publisher,
    consumer: Arc<Consumer>,
    tasks: Arc<dyn Spawn>,
}

impl Mqtt {
    /// Connects.
    ///
    /// # Errors
    /// Wrong metadata, or a server that cannot be reached.
    pub async fn open(open: Open) -> Result<Self> {
        let settings = Settings::read(&open.metadata, &open.instance.app_id)?;
        let consumer = Consumer::start(&settings, &open.name, &open.tasks);
        let publisher =
            Publisher::open(&settings, &open.name, Arc::clone(&consumer), &open.tasks).await?;
        Ok(Self {
            name: open.name,
            settings,
            publisher,
            consumer,
            tasks: open.tasks,
        })
    }
}

#[async_trait]
impl Component for Mqtt {
    async fn ping(&self) -> Result<()> {
        self.publisher.ping()
    }

    async fn close(&self) {
        tokio::join!(self.consumer.close(), self.publisher.close());
    }
}

#[async_trait]
impl PubSub for Mqtt {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES.into()
    }

    async fn publish(&self, request: &PublishRequest) -> Result<()> {
        let retain = retain(&request.metadata)?.unwrap_or(self.settings.retain);
        self.publisher
            .publish(&request.topic, &request.data, retain)
            .await
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Deliveries> {
        let filter = Filter::new(&request.topic)?;
        let forget = self.settings.clean_session || unsubscribes(&request.metadata);
        let redelivery = match self.settings.qos {
            QoS::AtMostOnce => Redelivery::Never,
            QoS::AtLeastOnce | QoS::ExactlyOnce => Redelivery::InPlace(Backoff::DEFAULT),
        };
        let (sender, deliveries) = deliveries(request.limits, redelivery);
        let subscription = self.consumer.subscribe(filter, forget, &sender).await?;
        self.tasks
            .spawn(&self.name, Box::pin(subscription.forward(sender)));
        Ok(deliveries)
    }
}

/// As Go reads booleans.
fn retain(metadata: &BTreeMap<String, String>) -> Result<Option<bool>> {
    match metadata.get(RETAIN).map(String::as_str) {
        None | Some("") => Ok(None),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
        Some(other) => Err(Error::invalid_request(format!(
            "mqtt: invalid {RETAIN} {other:?}"
        ))),
    }
}

fn unsubscribes(metadata: &BTreeMap<String, String>) -> bool {
    let mut fields = metadata.iter();
    fields.any(|(name, value)| name.eq_ignore_ascii_case(UNSUBSCRIBE) && values::is_truthy(value))
}
