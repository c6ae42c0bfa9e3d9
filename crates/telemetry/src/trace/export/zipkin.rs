//! Zipkin's JSON, version 2.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::{Record, Refused, Resource, client, refused};
use crate::Error;
use crate::trace::options::SERVICE_NAME;
use crate::trace::span::{Kind, Status};

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
        tags.insert(key.to_string(), value.as_str().into());
    }
    if let Status::Error(text) = &record.status {
        tags.insert("otel.status_code".into(), "ERROR".into());
        tags.insert("error".into(), text.as_str().into());
    }
    let mut span = json!({
        "traceId": record.context.trace_id(),
        "id": record.context.span_id(),
        "name": record.name,
        "kind": match record.kind {
            Kind::Server => "SERVER",
            Kind::Client => "CLIENT",
            Kind::Producer => "PRODUCER",
            Kind::Consumer => "CONSUMER",
        },
        "timestamp": micros(record.start),
        // Zipkin reads 0 as unknown.
        "duration": record.end.duration_since(record.start).unwrap_or_default().as_micros().max(1) as u64,
        "localEndpoint": { "serviceName": service.unwrap_or_default() },
        "tags": tags,
    });
    if let (Some(parent), Some(span)) = (record.parent, span.as_object_mut()) {
        span.insert("parentId".into(), hex::encode(parent).into());
    }
    span
}

fn micros(at: SystemTime) -> u64 {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

const TIMEOUT: Duration = Duration::from_secs(5);
