//! State over HTTP: JSON that is older than the proto.

use std::collections::BTreeMap;

use component::Body;
use http::{Response, header};
use proto::{
    common::v1::{Etag, StateItem, StateOptions, state_options},
    runtime::v1::{
        DeleteStateRequest, ExecuteStateTransactionRequest, GetBulkStateRequest, GetStateRequest,
        QueryStateRequest, SaveStateRequest, TransactionalStateOperation,
    },
};
use serde_json::{Map, Value, json, value::RawValue};

use super::{Call, add_metadata, json as go_json, json_reply as respond, no_content};
use crate::{
    Api, ApiError,
    reason::{general, state as reason},
};

/// GET `/v1.0/state/{store}/{key}`
pub async fn get(api: &Api, call: Call) -> Result<Response<Body>, ApiError> {
    let request = GetStateRequest {
        store_name: call.param("store").to_owned(),
        key: call.param("key").to_owned(),
        consistency: consistency(call.query("consistency")).into(),
        metadata: call.metadata(),
    };
    let reply = api.get_state(&call.context, request).await?;
    if reply.data.is_empty() {
        return Ok(no_content());
    }
    let mut response = respond(reply.data);
    if let Ok(etag) = header::HeaderValue::from_str(&reply.etag)
        && !reply.etag.is_empty()
    {
        response.headers_mut().insert(header::ETAG, etag);
    }
    add_metadata(&mut response, &reply.metadata);
    Ok(response)
}

/// POST `/v1.0/state/{store}`
pub async fn save(api: &Api, mut call: Call) -> Result<Response<Body>, ApiError> {
    let store_name = call.param("store").to_owned();
    api.check_state_store(&call.context, &store_name)?;
    let body = call.bytes().await?;
    let items = match go_json::first_value(&body).map_err(malformed)? {
        Value::Null => Vec::new(),
        Value::Array(items) => items,
        other => {
            return Err(malformed(format!(
                "an array of items is expected, not {}",
                go_json::kind(&other)
            )));
        }
    };
    let metadata = call.metadata();
    let states: Vec<StateItem> = items
        .iter()
        .map(|item| state_item(item, &metadata).map_err(malformed))
        .collect::<Result<_, _>>()?;
    // Items without a key are refused first: what else they say does not matter.
    if states.iter().all(|item| !item.key.is_empty())
        && let Err(problem) = items.iter().try_for_each(check_options)
    {
        return Err(ApiError::new(
            &reason::SAVE,
            format!("failed saving state in state store {store_name}: {problem}"),
        ));
    }
    let request = SaveStateRequest { store_name, states };
    api.save_state(&call.context, request).await?;
    Ok(no_content())
}

/// DELETE `/v1.0/state/{store}/{key}`
pub async fn delete(api: &Api, call: Call) -> Result<Response<Body>, ApiError> {
    api.check_state_store(&call.context, call.param("store"))?;
    let (concurrency, consistency) = (call.query("concurrency"), call.query("consistency"));
    check_words(concurrency, consistency).map_err(|problem| {
        let key = call.param("key");
        let message = format!("failed deleting state with key {key}: {problem}");
        ApiError::new(&reason::DELETE, message)
    })?;
    let options = options(concurrency, consistency);
    let request = DeleteStateRequest {
        store_name: call.param("store").to_owned(),
        key: call.param("key").to_owned(),
        etag: call.header("if-match").map(|value| Etag {
            value: value.to_owned(),
        }),
        options: Some(options),
        metadata: call.metadata(),
    };
    api.delete_state(&call.context, request).await?;
    Ok(no_content())
}

/// POST `/v1.0/state/{store}/bulk`
pub async fn bulk_get(api: &Api, mut call: Call) -> Result<Response<Body>, ApiError> {
    let store_name = call.param("store").to_owned();
    api.check_state_store(&call.context, &store_name)?;
    let body = call.bytes().await?;
    let value = go_json::first_value(&body).map_err(undecodable)?;
    check_object(&value)?;
    let keys = match go_json::member(&value, "keys") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(keys)) => keys
            .iter()
            .map(|key| key.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or_else(|| undecodable("field keys must hold strings".to_owned()))?,
        Some(_) => return Err(undecodable("field keys must be an array".to_owned())),
    };
    let parallelism = go_json::member(&value, "parallelism").and_then(Value::as_i64);
    let request = GetBulkStateRequest {
        store_name,
        keys,
        parallelism: parallelism
            .and_then(|number| i32::try_from(number).ok())
            .unwrap_or_default(),
        metadata: merged(&value, &call.metadata()).map_err(undecodable)?,
    };
    let reply = api.get_bulk_state(&call.context, request).await?;
    let rows: Vec<_> = reply
        .items
        .into_iter()
        .map(|item| {
            let mut row = vec![member("key", &item.key)];
            row.extend(raw("data", &item.data));
            row.extend(filled("etag", &item.etag));
            if !item.metadata.is_empty() {
                row.push(member("metadata", &item.metadata));
            }
            row.extend(filled("error", &item.error));
            object(row)
        })
        .collect();
    Ok(respond(format!("[{}]", rows.join(","))))
}

/// POST `/v1.0/state/{store}/transaction`
pub async fn transact(api: &Api, mut call: Call) -> Result<Response<Body>, ApiError> {
    let store_name = call.param("store").to_owned();
    api.check_transactions(&call.context, &store_name)?;
    let body = call.bytes().await?;
    let value = go_json::first_value(&body).map_err(undecodable)?;
    check_object(&value)?;
    let empty = Vec::new();
    let steps = match go_json::member(&value, "operations") {
        None | Some(Value::Null) => &empty,
        Some(Value::Array(steps)) => steps,
        Some(_) => return Err(undecodable("field operations must be an array".to_owned())),
    };
    if steps.is_empty() {
        return Ok(no_content());
    }
    let query = call.metadata();
    let mut operations = Vec::with_capacity(steps.len());
    for step in steps {
        let operation_type = go_json::text(step, "operation").map_err(undecodable)?;
        let item = go_json::member(step, "request").unwrap_or(&Value::Null);
        check_options(item).map_err(|problem| {
            let message = format!("error while executing state transaction: {problem}");
            ApiError::new(&reason::TRANSACTION, message)
        })?;
        operations.push(TransactionalStateOperation {
            operation_type: operation_type.unwrap_or_default(),
            request: Some(state_item(item, &query).map_err(undecodable)?),
        });
    }
    let request = ExecuteStateTransactionRequest {
        store_name,
        operations,
        metadata: merged(&value, &query).map_err(undecodable)?,
    };
    api.execute_state_transaction(&call.context, request)
        .await?;
    Ok(no_content())
}

/// POST `/v1.0-alpha1/state/{store}/query`
pub async fn query(api: &Api, mut call: Call) -> Result<Response<Body>, ApiError> {
    let body = call.bytes().await?;
    let request = QueryStateRequest {
        store_name: call.param("store").to_owned(),
        query: String::from_utf8_lossy(&body).into_owned(),
        metadata: call.metadata(),
    };
    let reply = api.query_state(&call.context, request).await?;
    if reply.results.is_empty() {
        return Ok(no_content());
    }
    let rows: Vec<_> = reply
        .results
        .iter()
        .map(|item| {
            let mut row = vec![member("key", &item.key)];
            row.extend(raw("data", &item.data));
            row.extend(filled("etag", &item.etag));
            row.extend(filled("error", &item.error));
            object(row)
        })
        .collect();
    let mut answer = vec![format!("\"results\":[{}]", rows.join(","))];
    answer.extend(filled("token", &reply.token));
    if !reply.metadata.is_empty() {
        answer.push(member("metadata", &reply.metadata));
    }
    Ok(respond(object(answer)))
}

/// An item of a save or a transaction; query metadata wins over the item's own.
fn state_item(item: &Value, query: &BTreeMap<String, String>) -> Result<StateItem, String> {
    if !item.is_object() && !item.is_null() {
        return Err(format!(
            "an item must be an object, not {}",
            go_json::kind(item)
        ));
    }
    let key = match go_json::member(item, "key") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(key)) => key.clone(),
        Some(other) => {
            return Err(format!(
                "field key must be a string, not {}",
                go_json::kind(other)
            ));
        }
    };
    let value = go_json::member(item, "value").unwrap_or(&Value::Null);
    let options = go_json::member(item, "options").map(|_| {
        let (concurrency, consistency) = words(item);
        options(concurrency, consistency)
    });
    Ok(StateItem {
        key,
        value: go_json::to_bytes(value).into(),
        etag: go_json::text(item, "etag")?.map(|value| Etag { value }),
        metadata: merged(item, query)?,
        options,
    })
}

/// The `metadata` member of an object, with the query's metadata over it.
fn merged(
    object: &Value,
    query: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    let mut metadata = BTreeMap::new();
    let empty = Map::new();
    let own = match go_json::member(object, "metadata") {
        None | Some(Value::Null) => &empty,
        Some(Value::Object(own)) => own,
        Some(_) => return Err("field metadata must be an object".to_owned()),
    };
    for (key, value) in own {
        let Value::String(text) = value else {
            return Err(format!("field metadata.{key} must be a string"));
        };
        metadata.insert(key.clone(), text.clone());
    }
    metadata.extend(query.clone());
    Ok(metadata)
}

/// What an item says of concurrency and consistency.
fn words(item: &Value) -> (Option<&str>, Option<&str>) {
    let options = go_json::member(item, "options").unwrap_or(&Value::Null);
    let word = |name| go_json::member(options, name).and_then(Value::as_str);
    (word("concurrency"), word("consistency"))
}

fn check_options(item: &Value) -> Result<(), String> {
    let (concurrency, consistency) = words(item);
    check_words(concurrency, consistency)
}

/// The messages of the gRPC API have no place for words that nobody knows; here they are refused.
fn check_words(concurrency: Option<&str>, consistency: Option<&str>) -> Result<(), String> {
    for (what, word, known) in [
        ("concurrency", concurrency, ["first-write", "last-write"]),
        ("consistency", consistency, ["strong", "eventual"]),
    ] {
        if let Some(word) = word
            && !word.is_empty()
            && !known.contains(&word)
        {
            return Err(format!("unrecognized {what} model '{word}'"));
        }
    }
    Ok(())
}

fn options(concurrency_word: Option<&str>, consistency_word: Option<&str>) -> StateOptions {
    StateOptions {
        concurrency: concurrency(concurrency_word).into(),
        consistency: consistency(consistency_word).into(),
    }
}

fn concurrency(text: Option<&str>) -> state_options::StateConcurrency {
    match text {
        Some("first-write") => state_options::StateConcurrency::ConcurrencyFirstWrite,
        Some("last-write") => state_options::StateConcurrency::ConcurrencyLastWrite,
        _ => state_options::StateConcurrency::ConcurrencyUnspecified,
    }
}

fn consistency(text: Option<&str>) -> state_options::StateConsistency {
    match text {
        Some("eventual") => state_options::StateConsistency::ConsistencyEventual,
        Some("strong") => state_options::StateConsistency::ConsistencyStrong,
        _ => state_options::StateConsistency::ConsistencyUnspecified,
    }
}

/// A JSON object from its members.
fn object(members: Vec<String>) -> String {
    format!("{{{}}}", members.join(","))
}

fn member(name: &str, value: &impl serde::Serialize) -> String {
    format!("\"{name}\":{}", json!(value))
}

fn filled(name: &str, value: &str) -> Option<String> {
    (!value.is_empty()).then(|| member(name, &value))
}

/// A stored value inside a reply: as it is where it is JSON, as text where it is not, left out where it is empty.
fn raw(name: &str, value: &[u8]) -> Option<String> {
    if value.is_empty() {
        return None;
    }
    let text = String::from_utf8_lossy(value);
    match serde_json::from_str::<&RawValue>(&text) {
        Ok(raw) => Some(format!("\"{name}\":{raw}")),
        Err(_) => Some(member(name, &text)),
    }
}

fn malformed(problem: String) -> ApiError {
    ApiError::new(&general::MALFORMED_REQUEST, problem)
}

/// Null counts as an object without members.
fn check_object(value: &Value) -> Result<(), ApiError> {
    if value.is_object() || value.is_null() {
        return Ok(());
    }
    Err(undecodable(format!(
        "an object is expected, not {}",
        go_json::kind(value)
    )))
}

fn undecodable(problem: String) -> ApiError {
    malformed(format!("failed deserializing HTTP body: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(text: &str) -> Result<StateItem, String> {
        state_item(
            &go_json::first_value(text.as_bytes()).unwrap(),
            &BTreeMap::from([("ttlInSeconds".to_owned(), "9".to_owned())]),
        )
    }

    #[test]
    fn an_item_is_decoded() {
        let item = item(
            r#"{"key": "k", "value": {"b": 1, "a": 2}, "etag": "3",
                "metadata": {"ttlInSeconds": "1", "x": "y"},
                "options": {"concurrency": "first-write", "consistency": "strong"}}"#,
        )
        .unwrap();
        assert_eq!(item.key, "k");
        assert_eq!(item.value, r#"{"a":2,"b":1}"#);
        assert_eq!(item.etag.unwrap().value, "3");
        assert_eq!(item.metadata["ttlInSeconds"], "9");
        assert_eq!(item.metadata["x"], "y");
        let options = item.options.unwrap();
        assert_eq!(options.concurrency, 1);
        assert_eq!(options.consistency, 2);
    }

    #[test]
    fn wrong_types_name_the_field() {
        assert!(
            item(r#"{"key": "k", "etag": 123}"#)
                .unwrap_err()
                .contains("etag")
        );
        assert!(item(r#"{"key": 1}"#).unwrap_err().contains("key"));
        assert!(item("[]").is_err());
    }

    #[test]
    fn unknown_words_are_refused() {
        assert_eq!(check_words(Some("first-write"), Some("strong")), Ok(()));
        assert_eq!(check_words(None, Some("")), Ok(()));
        let problem = |text: &str| check_options(&serde_json::from_str(text).unwrap()).unwrap_err();
        assert_eq!(
            problem(r#"{"options": {"concurrency": "bad"}}"#),
            "unrecognized concurrency model 'bad'"
        );
        assert_eq!(
            problem(r#"{"options": {"consistency": "bad"}}"#),
            "unrecognized consistency model 'bad'"
        );
    }

    #[test]
    fn only_an_object_has_members() {
        assert!(check_object(&json!({})).is_ok());
        assert!(check_object(&Value::Null).is_ok());
        assert_eq!(check_object(&json!([])).unwrap_err().reason().http, 400);
    }

    #[test]
    fn an_absent_value_is_null() {
        assert_eq!(item(r#"{"key": "k"}"#).unwrap().value, "null");
    }

    #[test]
    fn stored_values_are_embedded_as_they_are() {
        assert_eq!(raw("data", b"{\"a\": 1}").unwrap(), "\"data\":{\"a\": 1}");
        assert_eq!(raw("data", b"text").unwrap(), "\"data\":\"text\"");
        assert_eq!(raw("data", b""), None);
    }
}
