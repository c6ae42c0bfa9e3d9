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
use serde::Deserialize;
use serde_json::value::RawValue;
use values::json;

use super::{Call, add_metadata, json_reply as respond, no_content};
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

/// An item of a save, or the request of a transaction's step.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Item<'a> {
    key: String,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    etag: Option<String>,
    metadata: BTreeMap<String, String>,
    options: Option<Options>,
}

/// What an item says of concurrency and consistency.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Options {
    concurrency: String,
    consistency: String,
}

/// POST `/v1.0/state/{store}`
pub async fn save(api: &Api, mut call: Call) -> Result<Response<Body>, ApiError> {
    let store_name = call.param("store").to_owned();
    api.check_state_store(&call.context, &store_name)?;
    let body = call.text().await?;
    let items: Vec<Item<'_>> =
        json::read_first(&body).map_err(|error| malformed(error.to_string()))?;
    // Items without a key are refused first: what else they say does not matter.
    if items.iter().all(|item| !item.key.is_empty())
        && let Err(problem) = items.iter().try_for_each(Item::check_options)
    {
        return Err(ApiError::new(
            &reason::SAVE,
            format!("failed saving state in state store {store_name}: {problem}"),
        ));
    }
    let query = call.metadata();
    let request = SaveStateRequest {
        store_name,
        states: items.into_iter().map(|item| item.decode(&query)).collect(),
    };
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
        etag: call.context.header("if-match").map(|value| Etag {
            value: value.to_owned(),
        }),
        options: Some(options),
        metadata: call.metadata(),
    };
    api.delete_state(&call.context, request).await?;
    Ok(no_content())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct BulkGet {
    keys: Vec<String>,
    parallelism: i64,
    metadata: BTreeMap<String, String>,
}

/// POST `/v1.0/state/{store}/bulk`
pub async fn bulk_get(api: &Api, mut call: Call) -> Result<Response<Body>, ApiError> {
    let store_name = call.param("store").to_owned();
    api.check_state_store(&call.context, &store_name)?;
    let body = call.text().await?;
    let asked: BulkGet = json::read_first(&body).map_err(undecodable)?;
    let request = GetBulkStateRequest {
        store_name,
        keys: asked.keys,
        parallelism: i32::try_from(asked.parallelism).unwrap_or_default(),
        metadata: merged(asked.metadata, &call.metadata()),
    };
    let reply = api.get_bulk_state(&call.context, request).await?;
    let rows: Vec<_> = reply
        .items
        .into_iter()
        .map(|item| {
            let mut row = vec![member("key", &item.key)];
            row.extend(raw("data", &item.data));
            row.extend(filled("etag", &item.etag));
            row.extend(filled_map("metadata", &item.metadata));
            row.extend(filled("error", &item.error));
            object(row)
        })
        .collect();
    Ok(respond(format!("[{}]", rows.join(","))))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Transaction<'a> {
    #[serde(borrow)]
    operations: Vec<Step<'a>>,
    metadata: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Step<'a> {
    operation: String,
    #[serde(borrow)]
    request: Item<'a>,
}

/// POST `/v1.0/state/{store}/transaction`
pub async fn transact(api: &Api, mut call: Call) -> Result<Response<Body>, ApiError> {
    let store_name = call.param("store").to_owned();
    api.check_transactions(&call.context, &store_name)?;
    let body = call.text().await?;
    let asked: Transaction<'_> = json::read_first(&body).map_err(undecodable)?;
    if asked.operations.is_empty() {
        return Ok(no_content());
    }
    let query = call.metadata();
    let mut operations = Vec::with_capacity(asked.operations.len());
    for step in asked.operations {
        step.request.check_options().map_err(|problem| {
            let message = format!("error while executing state transaction: {problem}");
            ApiError::new(&reason::TRANSACTION, message)
        })?;
        operations.push(TransactionalStateOperation {
            operation_type: step.operation,
            request: Some(step.request.decode(&query)),
        });
    }
    let request = ExecuteStateTransactionRequest {
        store_name,
        operations,
        metadata: merged(asked.metadata, &query),
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
    answer.extend(filled_map("metadata", &reply.metadata));
    Ok(respond(object(answer)))
}

impl Item<'_> {
    /// The item of the gRPC API; metadata of the query win over its own.
    fn decode(self, query: &BTreeMap<String, String>) -> StateItem {
        let options = self.options.map(|said| {
            let (concurrency, consistency) = (&*said.concurrency, &*said.consistency);
            options(Some(concurrency), Some(consistency))
        });
        StateItem {
            key: self.key,
            value: json::canonical(self.value.unwrap_or(RawValue::NULL)).into(),
            etag: self.etag.map(|value| Etag { value }),
            metadata: merged(self.metadata, query),
            options,
        }
    }

    fn check_options(&self) -> Result<(), String> {
        let said = self.options.as_ref();
        check_words(
            said.map(|said| said.concurrency.as_str()),
            said.map(|said| said.consistency.as_str()),
        )
    }
}

/// Metadata of a body, with the query's over it.
fn merged(
    mut own: BTreeMap<String, String>,
    query: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    own.extend(query.clone());
    own
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

fn member(name: &str, text: &str) -> String {
    format!("\"{name}\":{}", json::quote(text))
}

fn filled(name: &str, text: &str) -> Option<String> {
    (!text.is_empty()).then(|| member(name, text))
}

fn filled_map(name: &str, map: &BTreeMap<String, String>) -> Option<String> {
    (!map.is_empty()).then(|| format!("\"{name}\":{}", json::string_map(map)))
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

fn undecodable(error: json::Error) -> ApiError {
    malformed(format!("failed deserializing HTTP body: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(text: &str) -> Result<StateItem, String> {
        let query = BTreeMap::from([("ttlInSeconds".to_owned(), "9".to_owned())]);
        let item: Item<'_> = json::read_first(text).map_err(|error| error.to_string())?;
        Ok(item.decode(&query))
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
        let problem = |text: &str| {
            let item: Item<'_> = json::read_first(text).unwrap();
            item.check_options().unwrap_err()
        };
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
    fn fields_have_any_case_and_numbers_all_their_digits() {
        let item =
            item(r#"{"Key": "k", "VALUE": [31.245270191439438, 1.0], "ETag": "1"}"#).unwrap();
        assert_eq!(item.key, "k");
        assert_eq!(item.value, "[31.245270191439438,1.0]");
        assert_eq!(item.etag.unwrap().value, "1");
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
