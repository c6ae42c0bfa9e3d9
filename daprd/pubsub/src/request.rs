//! Events in the shapes that apps take them: HTTP headers, gRPC messages, the body of a batch. Pure.

use std::collections::BTreeMap;

use app_channel::event_headers;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use proto::runtime::v1::{TopicEventCeRequest, TopicEventRequest};
use serde_json::{Value, value::RawValue};

use crate::{
    cloud_event::{BULK_TYPE, CloudEvent, field},
    content_type, json,
    outcome::Failure,
};

/// Key under which a message's metadata names its component.
pub const PUBSUB_NAME: &str = "pubsubName";

/// What a gRPC message of an event is filled with.
struct Attributes {
    id: String,
    source: String,
    event_type: String,
    spec_version: String,
    data_content_type: String,
    data: Bytes,
    extensions: prost_types::Struct,
}

impl Attributes {
    fn of(event: &CloudEvent) -> Result<Self, Failure> {
        let text = |name| event.text(name).unwrap_or_default().into_owned();
        let data_content_type = text(field::DATA_CONTENT_TYPE);
        Ok(Self {
            id: text(field::ID),
            source: text(field::SOURCE),
            event_type: text(field::TYPE),
            spec_version: text(field::SPEC_VERSION),
            data: data(event, &data_content_type)?,
            data_content_type,
            extensions: extensions(event)?,
        })
    }
}

/// The message of a single delivery.
pub fn single(
    event: &CloudEvent,
    pubsub: &str,
    topic: &str,
    path: &str,
) -> Result<TopicEventRequest, Failure> {
    let of = Attributes::of(event)?;
    Ok(TopicEventRequest {
        id: of.id,
        source: of.source,
        r#type: of.event_type,
        spec_version: of.spec_version,
        data_content_type: of.data_content_type,
        data: of.data,
        topic: topic.to_owned(),
        pubsub_name: pubsub.to_owned(),
        path: path.to_owned(),
        extensions: Some(of.extensions),
    })
}

/// The event of an entry of a batch.
pub fn entry(event: &CloudEvent) -> Result<TopicEventCeRequest, Failure> {
    let of = Attributes::of(event)?;
    Ok(TopicEventCeRequest {
        id: of.id,
        source: of.source,
        r#type: of.event_type,
        spec_version: of.spec_version,
        data_content_type: of.data_content_type,
        data: of.data,
        extensions: Some(of.extensions),
    })
}

/// The data of an event of any content type, Q-grpc-event-data.
fn data(event: &CloudEvent, data_content_type: &str) -> Result<Bytes, Failure> {
    if let Some(bytes) = event.binary_data() {
        return Ok(bytes.clone());
    }
    if let Some(encoded) = event.value(field::DATA_BASE64) {
        let text = json::string(encoded).ok_or_else(unexpected)?;
        return STANDARD
            .decode(&*text)
            .map(Bytes::from)
            .map_err(|error| Failure::new(format!("data_base64 of the event: {error}")));
    }
    let Some(value) = event.value(field::DATA) else {
        return Ok(Bytes::new());
    };
    if content_type::is_json(data_content_type) || content_type::is_cloud_event(data_content_type) {
        return Ok(value.get().to_owned().into());
    }
    match json::string(value) {
        Some(text) => Ok(text.into_owned().into()),
        None if content_type::is_text(data_content_type) => Err(unexpected()),
        None => Ok(value.get().to_owned().into()),
    }
}

fn unexpected() -> Failure {
    Failure::new("unexpected data type encountered in envelope")
}

/// The attributes that have no field of their own.
fn extensions(event: &CloudEvent) -> Result<prost_types::Struct, Failure> {
    const OWN_FIELD: [&str; 7] = [
        field::ID,
        field::SOURCE,
        field::DATA_CONTENT_TYPE,
        field::TYPE,
        field::SPEC_VERSION,
        field::DATA,
        field::DATA_BASE64,
    ];
    let fields = event
        .fields()
        .filter(|(name, _)| !OWN_FIELD.contains(name))
        .map(|(name, value)| {
            let value: Value = serde_json::from_str(value.get())
                .map_err(|error| Failure::new(format!("attribute {name} of the event: {error}")))?;
            Ok((name.to_owned(), struct_value(value)))
        })
        .collect::<Result<_, Failure>>()?;
    Ok(prost_types::Struct { fields })
}

/// Depth is bounded by serde_json, which refuses to parse more than 128 levels.
fn struct_value(value: Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(flag),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(items) => Kind::ListValue(prost_types::ListValue {
            values: items.into_iter().map(struct_value).collect(),
        }),
        Value::Object(members) => Kind::StructValue(prost_types::Struct {
            fields: members
                .into_iter()
                .map(|(key, value)| (key, struct_value(value)))
                .collect(),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}

/// An entry of a batch for an HTTP app.
pub struct BatchEntry<'a> {
    pub entry_id: &'a str,
    /// JSON text.
    pub event: &'a RawValue,
    pub metadata: &'a BTreeMap<String, String>,
    pub content_type: &'a str,
}

/// The body of a batch for an HTTP app.
pub fn batch_body(id: &str, pubsub: &str, topic: &str, entries: &[BatchEntry<'_>]) -> String {
    let mut out = String::from("{\"entries\":[");
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str("{\"entryId\":");
        out.push_str(&json::quote(entry.entry_id));
        out.push_str(",\"event\":");
        out.push_str(entry.event.get());
        out.push_str(",\"metadata\":");
        write_texts(&mut out, entry.metadata);
        if !entry.content_type.is_empty() {
            out.push_str(",\"contentType\":");
            out.push_str(&json::quote(entry.content_type));
        }
        out.push('}');
    }
    out.push_str("],");
    let rest = [
        ("id", json::quote(id)),
        (
            "metadata",
            format!("{{\"{PUBSUB_NAME}\":{}}}", json::quote(pubsub)),
        ),
        ("pubsubname", json::quote(pubsub)),
        ("topic", json::quote(topic)),
        ("type", json::quote(BULK_TYPE)),
    ];
    for (index, (key, value)) in rest.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(&json::quote(key));
        out.push(':');
        out.push_str(value);
    }
    out.push('}');
    out
}

fn write_texts(out: &mut String, texts: &BTreeMap<String, String>) {
    out.push('{');
    for (index, (key, value)) in texts.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(&json::quote(key));
        out.push(':');
        out.push_str(&json::quote(value));
    }
    out.push('}');
}

/// The metadata of a message as gRPC metadata: binary keys carry base64.
pub fn grpc_headers(metadata: &BTreeMap<String, String>) -> HeaderMap {
    let mut headers = event_headers(metadata);
    for (name, value) in &mut headers {
        if name.as_str().ends_with("-bin")
            && let Ok(encoded) = HeaderValue::from_str(&STANDARD.encode(value.as_bytes()))
        {
            *value = encoded;
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> CloudEvent {
        CloudEvent::parse(text.as_bytes(), &BTreeMap::new()).unwrap()
    }

    fn metadata(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn data_follows_its_content_type() {
        for (text, expected) in [
            (
                r#"{"datacontenttype":"application/json","data":{"a":1.0}}"#,
                Ok(&b"{\"a\":1.0}"[..]),
            ),
            (
                r#"{"datacontenttype":"application/json","data":"x"}"#,
                Ok(b"\"x\""),
            ),
            (
                r#"{"datacontenttype":"text/plain","data":"a\nb"}"#,
                Ok(b"a\nb"),
            ),
            (r#"{"datacontenttype":"text/plain","data":7}"#, Err(())),
            (r#"{"datacontenttype":"foo/bar","data":"x"}"#, Ok(b"x")),
            (r#"{"data_base64":"aGk=","data":"no"}"#, Ok(b"hi")),
            (r#"{"data_base64":"?"}"#, Err(())),
            (r#"{"data_base64":7}"#, Err(())),
            (r#"{"data":null}"#, Ok(b"")),
            ("{}", Ok(b"")),
        ] {
            let message = single(&event(text), "bus", "t", "/p");
            let data = message.as_ref().map(|message| &message.data[..]);
            assert_eq!(data.map_err(drop), expected, "{text}");
        }
    }

    #[test]
    fn extensions_are_what_is_left() {
        let text = r#"{"id":"1","source":"s","type":"t","specversion":"1.0","x":{"y":[1,null]},"topic":"orig","n":7}"#;
        let message = single(&event(text), "bus", "t", "/p").unwrap();
        assert_eq!((message.id.as_str(), message.source.as_str()), ("1", "s"));
        assert_eq!((message.topic.as_str(), message.path.as_str()), ("t", "/p"));
        let extensions = message.extensions.unwrap().fields;
        let names: Vec<&str> = extensions.keys().map(String::as_str).collect();
        assert_eq!(names, ["n", "topic", "x"]);
    }

    #[test]
    fn attributes_of_a_wrong_type_are_left_empty() {
        assert_eq!(entry(&event(r#"{"id":7}"#)).unwrap().id, "");
    }

    #[test]
    fn headers_leave_the_transports_own_alone() {
        let headers = event_headers(&metadata(&[
            ("Content-Length", "123"),
            ("content-type", "x"),
            ("pubsubName", "bus"),
            ("bad key", "x"),
            ("bad-value", "a\nb"),
        ]));
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["pubsubname"], "bus");
        assert_eq!(grpc_headers(&metadata(&[("x-bin", "hi")]))["x-bin"], "aGk=");
    }

    #[test]
    fn a_batch_lists_its_entries() {
        let (first, none) = (json::raw("{\"id\":\"1\"}".into()), BTreeMap::new());
        let entries = [
            BatchEntry {
                entry_id: "a",
                event: &first,
                metadata: &none,
                content_type: "t",
            },
            BatchEntry {
                entry_id: "b",
                event: &first,
                metadata: &metadata(&[("k", "<")]),
                content_type: "",
            },
        ];
        assert_eq!(
            batch_body("7", "bus", "orders", &entries),
            concat!(
                r#"{"entries":[{"entryId":"a","event":{"id":"1"},"metadata":{},"contentType":"t"},"#,
                r#"{"entryId":"b","event":{"id":"1"},"metadata":{"k":"\u003c"}}],"id":"7","#,
                r#""metadata":{"pubsubName":"bus"},"pubsubname":"bus","topic":"orders","type":"com.dapr.event.sent.bulk"}"#
            )
        );
    }
}
