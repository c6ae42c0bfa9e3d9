//! The few OTLP messages that traces need. Field numbers are those of
//! `opentelemetry/proto/trace/v1/trace.proto`, which is stable.

use std::time::SystemTime;

use super::{Record, Resource as ResourceAttributes};
use crate::trace::span::{Event as SpanEvent, Kind, Status as SpanStatus, Value};

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<Span>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Scope {
    #[prost(string, tag = "1")]
    pub name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Span {
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    pub trace_state: String,
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub name: String,
    #[prost(int32, tag = "6")]
    pub kind: i32,
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    #[prost(message, repeated, tag = "11")]
    pub events: Vec<Event>,
    #[prost(message, optional, tag = "15")]
    pub status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    pub flags: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Event {
    #[prost(fixed64, tag = "1")]
    pub time_unix_nano: u64,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, repeated, tag = "3")]
    pub attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Status {
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(int32, tag = "3")]
    pub code: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct KeyValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// Of the alternatives at most one is ever set.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AnyValue {
    #[prost(string, optional, tag = "1")]
    pub string_value: Option<String>,
    #[prost(int64, optional, tag = "3")]
    pub int_value: Option<i64>,
    #[prost(message, optional, tag = "5")]
    pub array_value: Option<ArrayValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ArrayValue {
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<AnyValue>,
}

/// The message for a batch.
pub(super) fn request(batch: &[Record], resource: &ResourceAttributes) -> ExportRequest {
    let attributes = resource
        .iter()
        .map(|(key, value)| key_value(key, &Value::Text(value.clone())))
        .collect();
    ExportRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes }),
            scope_spans: vec![ScopeSpans {
                scope: Some(Scope {
                    name: "dapr-diagnostics".into(),
                }),
                spans: batch.iter().map(span).collect(),
            }],
        }],
    }
}

fn span(record: &Record) -> Span {
    let status = match &record.status {
        SpanStatus::Unset => Status::default(),
        SpanStatus::Error(message) => Status {
            message: message.clone(),
            code: 2,
        },
    };
    Span {
        trace_id: record.context.trace_id_bytes().to_vec(),
        span_id: record.context.span_id_bytes().to_vec(),
        trace_state: record.context.tracestate().unwrap_or_default().to_owned(),
        parent_span_id: record.parent.map(Vec::from).unwrap_or_default(),
        name: record.name.to_string(),
        kind: match record.kind {
            Kind::Internal => 1,
            Kind::Server => 2,
            Kind::Client => 3,
            Kind::Producer => 4,
            Kind::Consumer => 5,
        },
        start_time_unix_nano: nanos(record.start),
        end_time_unix_nano: nanos(record.end),
        attributes: record
            .attributes
            .iter()
            .map(|(key, value)| key_value(key, value))
            .collect(),
        events: record.events.iter().map(event).collect(),
        status: Some(status),
        flags: u32::from(record.context.flags()),
    }
}

fn event(event: &SpanEvent) -> Event {
    let attributes = event.attributes.iter();
    Event {
        time_unix_nano: nanos(event.at),
        name: event.name.to_string(),
        attributes: attributes
            .map(|(key, value)| key_value(key, value))
            .collect(),
    }
}

fn key_value(key: &str, value: &Value) -> KeyValue {
    let text = |text: &str| AnyValue {
        string_value: Some(text.to_owned()),
        ..AnyValue::default()
    };
    let value = match value {
        Value::Text(value) => text(value),
        Value::Integer(number) => AnyValue {
            int_value: Some(*number),
            ..AnyValue::default()
        },
        Value::List(list) => AnyValue {
            array_value: Some(ArrayValue {
                values: list.iter().map(|one| text(one)).collect(),
            }),
            ..AnyValue::default()
        },
    };
    KeyValue {
        key: key.to_owned(),
        value: Some(value),
    }
}

fn nanos(at: SystemTime) -> u64 {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
