//! Publish over HTTP: the body is the event, or for bulk a JSON array of entries.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use component::Body;
use http::{Response, StatusCode};
use proto::runtime::v1::{BulkPublishRequest, BulkPublishRequestEntry, PublishEventRequest};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Call, json as go_json, json_reply as respond, no_content};
use crate::{Api, ApiError, reason::pubsub as reason};

/// POST `/v1.0/publish/{pubsub}/{topic...}`
pub async fn publish(api: &Api, mut call: Call) -> Result<Response<Body>, ApiError> {
    let metadata = call.metadata();
    let pubsub_name = call.param("pubsub").to_owned();
    let topic = call.param("topic").to_owned();
    api.check_pubsub(&call.context, &pubsub_name, &topic, &metadata)?;
    let request = PublishEventRequest {
        data: call.bytes().await?,
        data_content_type: call.header("content-type").unwrap_or_default().to_owned(),
        pubsub_name,
        topic,
        metadata,
    };
    api.publish_event(&call.context, request).await?;
    Ok(no_content())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    entry_id: String,
    #[serde(default)]
    event: Value,
    #[serde(default)]
    content_type: String,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// POST `/v1.0/publish/bulk/{pubsub}/{topic...}`
pub async fn bulk_publish(api: &Api, mut call: Call) -> Result<Response<Body>, ApiError> {
    let metadata = call.metadata();
    let pubsub_name = call.param("pubsub").to_owned();
    let topic = call.param("topic").to_owned();
    api.check_pubsub(&call.context, &pubsub_name, &topic, &metadata)?;
    let body = call.bytes().await?;
    let unreadable = |cause: &str| api.unreadable_events(&pubsub_name, &topic, cause);
    let value = go_json::first_value(&body).map_err(|cause| unreadable(&cause))?;
    if value.is_object() {
        // Compat: Q-bulk-object: callers compare the text that upstream's decoder gives here.
        return Err(unreadable(
            "json: cannot unmarshal object into Go value of type []http.bulkPublishMessageEntry",
        ));
    }
    let entries: Vec<Entry> =
        serde_json::from_value(value).map_err(|error| unreadable(&error.to_string()))?;
    let entries = entries
        .into_iter()
        .map(|entry| {
            let event =
                event_bytes(entry.event, &entry.content_type).map_err(|c| unreadable(&c))?;
            Ok(BulkPublishRequestEntry {
                entry_id: entry.entry_id,
                event,
                content_type: entry.content_type,
                metadata: entry.metadata,
            })
        })
        .collect::<Result<_, ApiError>>()?;
    let request = BulkPublishRequest {
        pubsub_name: pubsub_name.clone(),
        topic: topic.clone(),
        entries,
        metadata,
    };
    let reply = api.bulk_publish_event(&call.context, request).await?;
    if reply.failed_entries.is_empty() {
        return Ok(no_content());
    }
    let failed: Vec<Value> = reply
        .failed_entries
        .into_iter()
        .map(|entry| json!({ "entryId": entry.entry_id, "error": entry.error }))
        .collect();
    let answer = json!({ "failedEntries": failed, "errorCode": reason::PUBLISH.name() });
    let mut response = respond(answer.to_string());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    Ok(response)
}

/// The bytes of an event: base64 for binary types, the text of a string, the JSON of anything else.
fn event_bytes(event: Value, content_type: &str) -> Result<Bytes, String> {
    let binary = content_type.starts_with("application/octet-stream");
    let is_json = content_type.contains("json");
    match event {
        Value::String(text) if binary => STANDARD
            .decode(text)
            .map(Bytes::from)
            .map_err(|error| error.to_string()),
        Value::String(text) if !is_json => Ok(text.into()),
        other => Ok(go_json::to_bytes(&other).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_become_bytes_by_their_type() {
        let bytes = |event, content_type| event_bytes(event, content_type).unwrap();
        assert_eq!(bytes(json!("hi"), "text/plain"), "hi");
        assert_eq!(bytes(json!("aGk="), "application/octet-stream"), "hi");
        assert_eq!(bytes(json!("hi"), "application/json"), "\"hi\"");
        assert_eq!(bytes(json!({"a": 1}), "application/json"), "{\"a\":1}");
        assert!(event_bytes(json!("!"), "application/octet-stream").is_err());
    }
}
