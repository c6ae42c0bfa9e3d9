//! Publish over HTTP: the body is the event, or for bulk a JSON array of entries.

use std::collections::BTreeMap;

use ::pubsub::content_type;
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
            let event = event_bytes(entry.event, &entry.content_type);
            let event =
                event.map_err(|cause| api.mismatched_event(&pubsub_name, &topic, &cause))?;
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

/// The bytes of an event: its JSON for JSON types, its text for texts, base64 decoded for binary types.
///
/// # Errors
/// Where the event is not what its content type says.
fn event_bytes(event: Value, content_type: &str) -> Result<Bytes, String> {
    if content_type::is_json(content_type) || content_type::is_cloud_event(content_type) {
        return Ok(go_json::to_bytes(&event).into());
    }
    match event {
        Value::String(text) if content_type::is_text(content_type) => Ok(text.into()),
        Value::String(text) if content_type::is_binary(content_type) => {
            STANDARD.decode(text).map(Bytes::from).map_err(|problem| {
                format!("error: unable to decode base64 {content_type} data: {problem}")
            })
        }
        _ => Err("error: mismatch between contentType and event".to_owned()),
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
        for (event, content_type) in [
            (json!("!"), "application/octet-stream"),
            (json!(5), "text/plain"),
            (json!("text"), ""),
        ] {
            assert!(event_bytes(event, content_type).is_err(), "{content_type}");
        }
    }
}
