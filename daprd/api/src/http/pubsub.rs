//! Publish over HTTP: the body is the event, or for bulk a JSON array of entries.

use std::collections::BTreeMap;

use ::pubsub::content_type;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use component::Body;
use http::{Response, StatusCode};
use proto::runtime::v1::{BulkPublishRequest, BulkPublishRequestEntry, PublishEventRequest};
use serde::Deserialize;
use serde_json::value::RawValue;
use values::json;

use super::{Call, json_reply as respond, no_content};
use crate::{Api, ApiError, reason::pubsub as reason};

/// POST `/v1.0/publish/{pubsub}/{topic...}`
pub async fn publish(api: &Api, mut call: Call) -> Result<Response<Body>, ApiError> {
    let metadata = call.metadata();
    let pubsub_name = call.param("pubsub").to_owned();
    let topic = call.param("topic").to_owned();
    api.check_pubsub(&call.context, &pubsub_name, &topic, &metadata)?;
    let request = PublishEventRequest {
        data: call.bytes().await?,
        data_content_type: call
            .context
            .header("content-type")
            .unwrap_or_default()
            .to_owned(),
        pubsub_name,
        topic,
        metadata,
    };
    api.publish_event(&call.context, request).await?;
    Ok(no_content())
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Entry<'a> {
    entry_id: String,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    content_type: String,
    metadata: BTreeMap<String, String>,
}

/// POST `/v1.0/publish/bulk/{pubsub}/{topic...}`
pub async fn bulk_publish(api: &Api, mut call: Call) -> Result<Response<Body>, ApiError> {
    let metadata = call.metadata();
    let pubsub_name = call.param("pubsub").to_owned();
    let topic = call.param("topic").to_owned();
    api.check_pubsub(&call.context, &pubsub_name, &topic, &metadata)?;
    let body = call.text().await?;
    let unreadable = |cause: &str| api.unreadable_events(&pubsub_name, &topic, cause);
    let value = json::first_value(&body).map_err(|cause| unreadable(&cause))?;
    if value.get().starts_with('{') {
        // Compat: Q-bulk-object: callers compare the text that upstream's decoder gives here.
        return Err(unreadable(
            "json: cannot unmarshal object into Go value of type []http.bulkPublishMessageEntry",
        ));
    }
    let entries: Vec<Entry<'_>> =
        json::read(value.get()).map_err(|error| unreadable(&error.to_string()))?;
    let entries = entries
        .into_iter()
        .map(|entry| {
            let event = event_bytes(entry.event.unwrap_or(RawValue::NULL), &entry.content_type);
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
    let failed: Vec<String> = reply
        .failed_entries
        .iter()
        .map(|entry| {
            let (id, error) = (json::quote(&entry.entry_id), json::quote(&entry.error));
            format!("{{\"entryId\":{id},\"error\":{error}}}")
        })
        .collect();
    let (failed, code) = (failed.join(","), reason::PUBLISH.name());
    let answer = format!("{{\"failedEntries\":[{failed}],\"errorCode\":\"{code}\"}}");
    let mut response = respond(answer);
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    Ok(response)
}

/// The bytes of an event: its JSON for JSON types, its text for texts, base64 decoded for binary types.
///
/// # Errors
/// Where the event is not what its content type says.
fn event_bytes(event: &RawValue, content_type: &str) -> Result<Bytes, String> {
    if content_type::is_json(content_type) || content_type::is_cloud_event(content_type) {
        return Ok(json::canonical(event).into());
    }
    match json::string(event) {
        Some(text) if content_type::is_text(content_type) => Ok(text.into_owned().into()),
        Some(text) if content_type::is_binary(content_type) => {
            STANDARD.decode(&*text).map(Bytes::from).map_err(|problem| {
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
        let bytes = |event: &str, content_type| {
            event_bytes(json::first_value(event).unwrap(), content_type)
        };
        for (event, content_type, expected) in [
            (r#""hi""#, "text/plain", "hi"),
            (r#""aGk=""#, "application/octet-stream", "hi"),
            (r#""hi""#, "application/json", r#""hi""#),
            (
                r#"{"b": 1.10, "a": 1}"#,
                "application/json",
                r#"{"a":1,"b":1.10}"#,
            ),
        ] {
            assert_eq!(bytes(event, content_type).unwrap(), expected);
        }
        for (event, content_type) in [
            (r#""!""#, "application/octet-stream"),
            ("5", "text/plain"),
            (r#""text""#, ""),
        ] {
            assert!(bytes(event, content_type).is_err(), "{content_type}");
        }
    }

    #[test]
    fn entries_have_their_names_in_any_case() {
        let entries: Vec<Entry<'_>> =
            json::read(r#"[{"entryID": "1", "Event": 2, "contenttype": "text/plain"}]"#).unwrap();
        assert_eq!(entries[0].entry_id, "1");
        assert_eq!(entries[0].event.unwrap().get(), "2");
        assert_eq!(entries[0].content_type, "text/plain");
    }
}
