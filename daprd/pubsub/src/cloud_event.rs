//! CloudEvents (contract 2.9): the envelope around what is published, and the event that a received message holds. Pure:
//! time comes in from outside.

mod envelope;

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::value::RawValue;

use crate::{content_type, json};

pub use envelope::{Parts, envelope, event_of_write};

pub mod field {
    pub const ID: &str = "id";
    pub const SOURCE: &str = "source";
    pub const TYPE: &str = "type";
    pub const SPEC_VERSION: &str = "specversion";
    pub const DATA_CONTENT_TYPE: &str = "datacontenttype";
    pub const DATA: &str = "data";
    pub const DATA_BASE64: &str = "data_base64";
    pub const SUBJECT: &str = "subject";
    pub const TIME: &str = "time";
    pub const TOPIC: &str = "topic";
    pub const PUBSUB: &str = "pubsubname";
    pub const TRACE_ID: &str = "traceid";
    pub const TRACE_PARENT: &str = "traceparent";
    pub const TRACE_STATE: &str = "tracestate";
    pub const EXPIRATION: &str = "expiration";
}

const SOURCE: &str = "Dapr";
const TYPE: &str = "com.dapr.event.sent";
pub const BULK_TYPE: &str = "com.dapr.event.sent.bulk";
const SPEC_VERSION: &str = "1.0";
const TEXT: &str = "text/plain";

/// Prefix of message metadata that carries the attributes of a binary event.
const BINARY_PREFIX: &str = "ce_";

/// An event. Values are kept as JSON text.
#[derive(Clone, Debug, Default)]
pub struct CloudEvent {
    fields: BTreeMap<String, Box<RawValue>>,
    /// The data of a binary event, which is no JSON.
    binary: Option<Bytes>,
}

impl CloudEvent {
    /// The event of a message that was published without an envelope.
    pub fn raw(
        data: &[u8],
        pubsub: &str,
        topic: &str,
        metadata: &BTreeMap<String, String>,
    ) -> Self {
        let mut event = Self::default();
        event.set(field::ID, &new_id());
        event.set(field::SPEC_VERSION, SPEC_VERSION);
        event.set(field::DATA_CONTENT_TYPE, content_type::BINARY);
        event.set(field::SOURCE, SOURCE);
        event.set(field::TYPE, TYPE);
        event.set(field::TOPIC, topic);
        event.set(field::PUBSUB, pubsub);
        event.set(field::DATA_BASE64, &STANDARD.encode(data));
        for name in [field::TRACE_ID, field::TRACE_STATE] {
            if let Some(value) = metadata.get(name) {
                event.set(name, value);
            }
        }
        if let Some(parent) = metadata.get(field::TRACE_PARENT) {
            event.set(field::TRACE_PARENT, parent);
            event.set(field::TRACE_ID, parent);
        }
        event
    }

    /// A binary event: attributes in the message metadata, data as it is.
    pub fn binary(data: &Bytes, content_type: &str, metadata: &BTreeMap<String, String>) -> Self {
        let mut event = Self::default();
        for (key, value) in metadata {
            if let Some(name) = key.to_ascii_lowercase().strip_prefix(BINARY_PREFIX) {
                event.set(name, value);
            }
        }
        event.set(field::DATA, &STANDARD.encode(data));
        event.set(field::DATA_CONTENT_TYPE, content_type);
        event.binary = Some(data.clone());
        event
    }

    /// The event that a message holds; a trace missing there is taken from the message metadata.
    ///
    /// # Errors
    /// Where the message is no JSON object.
    pub fn parse(data: &[u8], metadata: &BTreeMap<String, String>) -> Result<Self, String> {
        let fields = serde_json::from_slice(data).map_err(|error| error.to_string())?;
        let mut event = Self {
            fields,
            binary: None,
        };
        for name in [field::TRACE_ID, field::TRACE_STATE] {
            if !event.has(name)
                && let Some(value) = metadata.get(name)
            {
                event.set(name, value);
            }
        }
        if !event.has(field::TRACE_PARENT)
            && let Some(parent) = metadata.get(field::TRACE_PARENT)
        {
            event.set(field::TRACE_PARENT, parent);
            event.set(field::TRACE_ID, parent);
        }
        Ok(event)
    }

    fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    fn set(&mut self, name: &str, text: &str) {
        let value = json::raw(json::quote(text));
        self.fields.insert(name.to_owned(), value);
    }

    /// Gives the event another component and topic.
    pub fn address(&mut self, pubsub: &str, topic: &str) {
        self.set(field::PUBSUB, pubsub);
        self.set(field::TOPIC, topic);
    }

    /// A field that is there and not null.
    pub fn value(&self, name: &str) -> Option<&RawValue> {
        let value = self.fields.get(name)?;
        (!json::is_null(value)).then_some(value)
    }

    /// The text of a field; nothing where it is no string.
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.fields.get(name).and_then(|value| json::string(value))
    }

    /// The bytes of a binary event.
    pub fn binary_data(&self) -> Option<&Bytes> {
        self.binary.as_ref()
    }

    pub fn fields(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.fields.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Whether the event's end has passed; an end that is no time does not count.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        let end = self.text(field::EXPIRATION);
        end.and_then(|end| values::period::rfc3339(&end))
            .is_some_and(|end| end < now)
    }

    pub fn to_json(&self) -> String {
        let mut out = String::with_capacity(512);
        json::write_object(&mut out, self.fields());
        out
    }

    /// The event as routing rules see it.
    pub fn to_value(&self) -> Result<serde_json::Value, serde_json::Error> {
        let fields = self.fields.iter();
        let fields = fields.map(|(name, value)| {
            let value = serde_json::from_str(value.get())?;
            Ok((name.clone(), value))
        });
        fields
            .collect::<Result<_, _>>()
            .map(serde_json::Value::Object)
    }
}

/// How long a message lives, by its metadata; a value that is no time counts as none.
pub fn time_to_live(metadata: &BTreeMap<String, String>) -> Option<Duration> {
    let text = ["ttl", "ttlInSeconds"].iter().find_map(|name| {
        let (_, value) = metadata
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    })?;
    if let Ok(duration) = text.parse::<values::GoDuration>() {
        return Some(duration.to_std().unwrap_or_default());
    }
    let seconds: i64 = text.parse().ok()?;
    u64::try_from(seconds)
        .ok()
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
}

/// Whether metadata asks for messages without an envelope.
///
/// # Errors
/// Where the value is no boolean.
pub fn is_raw(metadata: &BTreeMap<String, String>) -> Result<bool, String> {
    match metadata.get("rawPayload").map(String::as_str) {
        None | Some("" | "0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some(other) => Err(format!(
            "rawPayload value must be a valid boolean: actual is '{other}'"
        )),
    }
}

pub fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Prefix of request metadata that overrides attributes of the envelope.
const OVERRIDE: &str = "cloudevent.";

#[cfg(test)]
mod tests;
