//! Zipkin's JSON, version 2.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::{Record, Refused, Resource, client, refused};
use crate::Error;
use crate::trace::options::SERVICE_NAME;
use crate::trace::span::{Event, Kind, Status};

/// A Zipkin collector.
pub(super) struct Zipkin {
    client: reqwest::Client,
    endpoint: reqwest::Url,
    resource: Resource,
}

impl Zipkin {
    pub fn new(endpoint: &str, resource: Resource) -> Result<Self, Error> {
        let fail = |reason: String| Error::Exporter {
            exporter: "zipkin",
            reason,
        };
        let url: reqwest::Url = endpoint.parse().map_err(|error| {
            fail(format!(
                "tracing.zipkin.endpointAddress {endpoint:?}: {error}"
            ))
        })?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(fail(format!(
                "tracing.zipkin.endpointAddress {endpoint:?} is not an http URL"
            )));
        }
        let client = client("zipkin", url.scheme() == "https", false, TIMEOUT)?;
        Ok(Zipkin {
            client,
            endpoint: url,
            resource,
        })
    }

    pub async fn send(&self, batch: &[Record]) -> Result<(), Refused> {
        let spans: Vec<Value> = batch
            .iter()
            .map(|record| span(record, &self.resource))
            .collect();
        let request = self.client.post(self.endpoint.clone()).json(&spans);
        let response = request
            .send()
            .await
            .map_err(|error| Refused::Later(error.to_string()))?;
        if response.status().is_success() {
            Ok(())
        } else {
            Err(refused(response.status()))
        }
    }
}

fn span(record: &Record, resource: &Resource) -> Value {
    let service = resource
        .iter()
        .find(|(key, _)| key == SERVICE_NAME)
        .map(|(_, value)| value.as_str());
    let mut tags = Map::new();
    for (key, value) in resource.iter().filter(|(key, _)| key != SERVICE_NAME) {
        tags.insert(key.clone(), value.as_str().into());
    }
    for (key, value) in &record.attributes {
        tags.insert(key.to_string(), value.text().into());
    }
    if let Status::Error(text) = &record.status {
        tags.insert("otel.status_code".into(), "ERROR".into());
        tags.insert("error".into(), text.as_str().into());
    }
    let annotations = record.events.iter();
    let annotations: Vec<Value> = annotations.map(annotation).collect();
    let mut span = json!({
        "traceId": record.context.trace_id(),
        "id": record.context.span_id(),
        "name": record.name,
        "timestamp": micros(record.start),
        // Zipkin reads 0 as unknown.
        "duration": record.end.duration_since(record.start).unwrap_or_default().as_micros().max(1) as u64,
        "localEndpoint": { "serviceName": service.unwrap_or_default() },
        "tags": tags,
    });
    if let (Some(parent), Some(span)) = (record.parent, span.as_object_mut()) {
        span.insert("parentId".into(), hex::encode(parent).into());
    }
    if let (Some(kind), Some(span)) = (kind(record.kind), span.as_object_mut()) {
        span.insert("kind".into(), kind.into());
    }
    if let (false, Some(span)) = (annotations.is_empty(), span.as_object_mut()) {
        span.insert("annotations".into(), annotations.into());
    }
    span
}

/// Zipkin has no word for what is no side of a call.
fn kind(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::Server => "SERVER",
        Kind::Client => "CLIENT",
        Kind::Producer => "PRODUCER",
        Kind::Consumer => "CONSUMER",
        Kind::Internal => return None,
    })
}

/// An event with its attributes as one text, since annotations have no tags.
fn annotation(event: &Event) -> Value {
    let mut text = event.name.to_string();
    for (key, value) in &event.attributes {
        text.push_str(&format!(" {key}={}", value.text()));
    }
    json!({ "timestamp": micros(event.at), "value": text })
}

fn micros(at: SystemTime) -> u64 {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

const TIMEOUT: Duration = Duration::from_secs(5);
