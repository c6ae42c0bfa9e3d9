//! The envelope around what is published. Its fields are borrowed as far as they can be, and written once, into one buffer.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::value::RawValue;

use super::{OVERRIDE, SOURCE, SPEC_VERSION, TEXT, TYPE, field, new_id, rfc3339};
use crate::{content_type, json};

/// What an envelope is made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parts<'a> {
    pub app_id: &'a str,
    pub pubsub: &'a str,
    pub topic: &'a str,
    pub content_type: &'a str,
    pub trace_parent: &'a str,
    pub trace_state: &'a str,
}

/// The JSON of the event for what an app publishes: its own CloudEvent, or an envelope around its data. With `ttl` it
/// expires.
///
/// # Errors
/// Where the data claims to be a CloudEvent and is none.
pub fn envelope(
    parts: Parts<'_>,
    data: &[u8],
    metadata: &BTreeMap<String, String>,
    now: Timestamp,
    ttl: Option<Duration>,
) -> Result<String, String> {
    let text = if content_type::needs_base64(parts.content_type) {
        Cow::Borrowed("")
    } else {
        String::from_utf8_lossy(data)
    };
    let mut envelope = if content_type::is_cloud_event(parts.content_type) {
        Envelope::adopt(parts, &text, now)?
    } else {
        Envelope::wrap(parts, data, &text, metadata, now)
    };
    if let Some(ttl) = ttl {
        let end = now.checked_add(ttl).unwrap_or(Timestamp::MAX);
        envelope.set(field::EXPIRATION, rfc3339(end));
    }
    Ok(envelope.write(data.len()))
}

/// The JSON of the event `id` for a write to a state store, with a field for each metadata entry of the write.
pub fn event_of_write(
    parts: Parts<'_>,
    id: &str,
    data: &[u8],
    metadata: &BTreeMap<String, String>,
    now: Timestamp,
) -> String {
    let text = if content_type::needs_base64(parts.content_type) {
        Cow::Borrowed("")
    } else {
        String::from_utf8_lossy(data)
    };
    let no_overrides = BTreeMap::new();
    let mut event = Envelope::wrap(parts, data, &text, &no_overrides, now);
    event.set(field::ID, id);
    // Compat: Q-outbox-fields: names are taken as they are, and only id and data stay the event's own.
    for (name, value) in metadata {
        if name != field::ID && name != field::DATA {
            let value = Value::Text(Cow::Borrowed(value));
            event.fields.insert(Cow::Borrowed(name), value);
        }
    }
    event.write(data.len())
}

/// A field's value before it is written.
enum Value<'a> {
    Text(Cow<'a, str>),
    Json(&'a RawValue),
    Base64(&'a [u8]),
}

#[derive(Default)]
struct Envelope<'a> {
    fields: BTreeMap<Cow<'a, str>, Value<'a>>,
}

impl<'a> Envelope<'a> {
    fn set(&mut self, name: &'static str, text: impl Into<Cow<'a, str>>) {
        let value = Value::Text(text.into());
        self.fields.insert(Cow::Borrowed(name), value);
    }

    fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    fn is_null(&self, name: &str) -> bool {
        match self.fields.get(name) {
            None => true,
            Some(Value::Json(value)) => json::is_null(value),
            Some(_) => false,
        }
    }

    /// An app's own CloudEvent: completed, with topic and component always overwritten.
    fn adopt(parts: Parts<'a>, text: &'a str, now: Timestamp) -> Result<Self, String> {
        let value = json::first_value(text)?;
        let fields: BTreeMap<String, &RawValue> =
            serde_json::from_str(value.get()).map_err(|error| error.to_string())?;
        let fields = fields.into_iter();
        let mut event = Self {
            fields: fields
                .map(|(key, value)| (Cow::Owned(key), Value::Json(value)))
                .collect(),
        };
        if !event.has(field::TIME) {
            event.set(field::TIME, rfc3339(now));
        }
        if !event.has(field::TRACE_ID) {
            event.set(field::TRACE_ID, parts.trace_parent);
            event.set(field::TRACE_PARENT, parts.trace_parent);
        }
        if !event.has(field::TRACE_STATE) {
            event.set(field::TRACE_STATE, parts.trace_state);
        }
        event.set(field::TOPIC, parts.topic);
        event.set(field::PUBSUB, parts.pubsub);
        for (name, default) in [
            (field::SOURCE, SOURCE),
            (field::TYPE, TYPE),
            (field::SPEC_VERSION, SPEC_VERSION),
        ] {
            if event.is_null(name) {
                event.set(name, default);
            }
        }
        Ok(event)
    }

    fn wrap(
        parts: Parts<'a>,
        data: &'a [u8],
        text: &'a str,
        metadata: &'a BTreeMap<String, String>,
        now: Timestamp,
    ) -> Self {
        let given = |name: &str| {
            metadata
                .iter()
                .find(|(key, _)| {
                    let prefix = key.get(..OVERRIDE.len());
                    prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(OVERRIDE))
                        && key[OVERRIDE.len()..].eq_ignore_ascii_case(name)
                })
                .map(|(_, value)| value.as_str())
        };
        let or_if_empty = |text: &'a str, default: &'a str| match text {
            "" => default,
            text => text,
        };
        let trace_id = or_if_empty(
            given(field::TRACE_PARENT).unwrap_or_default(),
            given(field::TRACE_ID).unwrap_or(parts.trace_parent),
        );
        let content_type = or_if_empty(parts.content_type, TEXT);
        let source = or_if_empty(given(field::SOURCE).unwrap_or(parts.app_id), SOURCE);
        let event_type = or_if_empty(given(field::TYPE).unwrap_or_default(), TYPE);

        let mut event = Self::default();
        match given(field::ID).unwrap_or_default() {
            "" => event.set(field::ID, new_id()),
            id => event.set(field::ID, id),
        }
        event.set(field::SPEC_VERSION, SPEC_VERSION);
        event.set(field::DATA_CONTENT_TYPE, content_type);
        event.set(field::SOURCE, source);
        event.set(field::TYPE, event_type);
        event.set(field::TOPIC, parts.topic);
        event.set(field::PUBSUB, parts.pubsub);
        event.set(field::TRACE_ID, trace_id);
        event.set(field::TRACE_PARENT, trace_id);
        let trace_state = given(field::TRACE_STATE).unwrap_or(parts.trace_state);
        event.set(field::TRACE_STATE, trace_state);
        event.set(field::TIME, rfc3339(now));
        if let Some(subject) = given(field::SUBJECT).filter(|subject| !subject.is_empty()) {
            event.set(field::SUBJECT, subject);
        }
        event.set_data(content_type, data, text);
        event
    }

    fn set_data(&mut self, content_type: &str, data: &'a [u8], text: &'a str) {
        let (name, value) = if content_type::needs_base64(content_type) {
            (field::DATA_BASE64, Value::Base64(data))
        } else if content_type::is_json(content_type)
            && let Ok(value) = json::first_value(text)
        {
            (field::DATA, Value::Json(value))
        } else {
            (field::DATA, Value::Text(Cow::Borrowed(text)))
        };
        self.fields.insert(Cow::Borrowed(name), value);
    }

    fn write(&self, data: usize) -> String {
        let mut out = String::with_capacity(data + data / 3 + ATTRIBUTES);
        for (name, value) in &self.fields {
            out.push(if out.is_empty() { '{' } else { ',' });
            json::write_string(&mut out, name);
            out.push(':');
            match value {
                Value::Text(text) => json::write_string(&mut out, text),
                Value::Json(value) => json::write_canonical(&mut out, value),
                Value::Base64(bytes) => {
                    out.push('"');
                    STANDARD.encode_string(bytes, &mut out);
                    out.push('"');
                }
            }
        }
        out.push('}');
        out
    }
}

/// What the attributes of an event mostly take, in bytes.
const ATTRIBUTES: usize = 640;
