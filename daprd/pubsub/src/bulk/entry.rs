//! A message of a batch, read and routed for itself.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use component::pubsub::{Delivery, Message};
use serde_json::value::RawValue;

use super::{Ended, progress::End};
use crate::{
    cloud_event::{self, CloudEvent},
    content_type,
    core::LOG,
    delivery::Subscriber,
    json,
};

/// A message of a batch.
pub struct Entry {
    pub id: String,
    pub delivery: Delivery,
    pub content_type: String,
    /// The event as JSON; of a raw message, its bytes as a base64 string.
    pub text: Box<RawValue>,
    /// Nothing for raw messages.
    pub event: Option<CloudEvent>,
}

impl Subscriber {
    /// The path that takes the message, and the message as it goes there.
    pub(super) fn read_entry(
        &self,
        delivery: Delivery,
        topic: &str,
    ) -> Result<(String, Entry), Box<Ended>> {
        match self.read_text(&delivery.message, topic) {
            Ok((path, text, event)) => {
                let default = match &event {
                    Some(_) => "application/cloudevents+json",
                    None => content_type::BINARY,
                };
                let given = delivery
                    .message
                    .content_type
                    .clone()
                    .filter(|given| !given.is_empty());
                let entry = Entry {
                    id: cloud_event::new_id(),
                    content_type: given.unwrap_or_else(|| default.to_owned()),
                    delivery,
                    text,
                    event,
                };
                Ok((path, entry))
            }
            Err(end) => Err(Box::new((delivery, end))),
        }
    }

    fn read_text(
        &self,
        message: &Message,
        topic: &str,
    ) -> Result<(String, Box<RawValue>, Option<CloudEvent>), End> {
        let unreadable = |problem: String| {
            tracing::error!(
                target: LOG,
                "error reading one of the messages of a batch in pubsub {} and topic {topic}: {problem}",
                self.pubsub()
            );
            End::Failed
        };
        let unrouted = || {
            tracing::warn!(
                target: LOG,
                "no matching route for event in pubsub {} and topic {topic}; skipping",
                self.pubsub()
            );
            End::Drop
        };
        if self.subscription.raw.clone().map_err(unreadable)? {
            let text = || Ok(String::from_utf8_lossy(&message.data).into_owned().into());
            let path = self.subscription.route(text).map_err(unreadable)?;
            let path = path.ok_or_else(unrouted)?.to_owned();
            let encoded = json::raw(json::quote(&STANDARD.encode(&message.data)));
            return Ok((path, encoded, None));
        }
        let event = CloudEvent::parse(&message.data, &message.metadata).map_err(unreadable)?;
        if event.has_expired(self.core.clock.now()) {
            tracing::warn!(target: LOG, "dropping an expired pub/sub event of topic {topic}");
            return Err(End::Drop);
        }
        let path = self
            .subscription
            .route(|| event.to_value())
            .map_err(unreadable)?;
        let path = path.ok_or_else(unrouted)?.to_owned();
        Ok((path, json::raw(event.to_json()), Some(event)))
    }
}
