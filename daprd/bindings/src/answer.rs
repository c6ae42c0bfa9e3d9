//! What an app may ask for when it answers an event: state to be saved, and output bindings to be called with data
//! (contract 2.4). Q-binding-answer

use std::collections::BTreeMap;

use bytes::Bytes;
use component::{
    bindings::InvokeRequest,
    state::{Concurrency, Consistency, SetRequest},
};
use futures::future::join_all;
use proto::{
    common::v1::{StateItem, state_options},
    runtime::v1::{BindingEventResponse, binding_event_response::BindingEventConcurrency},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use values::json;

use crate::engine::{Inner, LOG};

/// Most outputs that one answer calls.
const MOST_OUTPUTS: usize = 1000;

/// Outputs that are called at a time where the app asks for that.
const AT_ONCE: usize = 16;

/// The operation of outputs that an answer calls.
const CREATE: &str = "create";

/// An answer, and what it asks for.
#[derive(Debug, Default)]
pub struct Answer {
    /// As it is, for the source.
    pub data: Bytes,
    store: String,
    state: Vec<SetRequest>,
    to: Vec<String>,
    /// What the outputs are called with.
    output: Bytes,
    parallel: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Wire<'a> {
    store_name: String,
    #[serde(borrow)]
    state: Option<Vec<WireItem<'a>>>,
    to: Option<Vec<String>>,
    concurrency: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireItem<'a> {
    key: String,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    etag: Option<String>,
    metadata: Option<BTreeMap<String, String>>,
}

impl Answer {
    /// Of an HTTP app. A body that is no such object asks for nothing.
    pub fn from_http(body: Bytes) -> Self {
        let wire = std::str::from_utf8(&body).ok().and_then(|text| {
            // What asks for something is an object; anything else need not be read.
            let is_object = text.trim_start().starts_with('{');
            is_object.then(|| json::read::<Wire<'_>>(text).ok())?
        });
        let wire = wire.unwrap_or_default();
        let null = RawValue::NULL;
        let item = |item: WireItem<'_>| SetRequest {
            key: item.key,
            value: json::canonical(item.value.unwrap_or(null)).into(),
            content_type: Some("application/json".to_owned()),
            etag: item.etag,
            metadata: item.metadata.unwrap_or_default(),
            concurrency: Concurrency::LastWrite,
            consistency: Consistency::Eventual,
        };
        Self {
            store: wire.store_name,
            state: wire
                .state
                .unwrap_or_default()
                .into_iter()
                .map(item)
                .collect(),
            to: wire.to.unwrap_or_default(),
            output: json::canonical(wire.data.unwrap_or(null)).into(),
            parallel: wire.concurrency == "parallel",
            data: body,
        }
    }

    /// Of a gRPC app.
    pub fn from_grpc(answer: BindingEventResponse) -> Self {
        let concurrency = answer.concurrency();
        let text = std::str::from_utf8(&answer.data).ok();
        let canonical = text.and_then(|text| json::first_value(text).ok().map(json::canonical));
        Self {
            store: answer.store_name,
            state: answer.states.into_iter().map(set_request).collect(),
            to: answer.to,
            output: canonical.map_or_else(|| answer.data.clone(), Bytes::from),
            parallel: concurrency == BindingEventConcurrency::Parallel,
            data: answer.data,
        }
    }
}

fn set_request(item: StateItem) -> SetRequest {
    let options = item.options.unwrap_or_default();
    SetRequest {
        content_type: item.metadata.get("contentType").cloned(),
        key: item.key,
        value: item.value,
        etag: item.etag.map(|etag| etag.value),
        metadata: item.metadata,
        concurrency: match options.concurrency() {
            state_options::StateConcurrency::ConcurrencyFirstWrite => Concurrency::FirstWrite,
            _ => Concurrency::LastWrite,
        },
        consistency: match options.consistency() {
            state_options::StateConsistency::ConsistencyStrong => Consistency::Strong,
            _ => Consistency::Eventual,
        },
    }
}

impl Inner {
    /// Does what the answer to an event of a binding asks for. What fails of it is logged: the event has been taken.
    pub async fn carry_out(&self, name: &str, answer: Answer) {
        if !answer.state.is_empty() {
            let saved = self.state.save(&answer.store, answer.state).await;
            if let Err(error) = saved {
                tracing::error!(target: LOG, "error saving state from app response of binding {name}: {error}");
            }
        }
        if answer.to.len() > MOST_OUTPUTS {
            tracing::error!(target: LOG, "the app's answer to binding {name} calls more than {MOST_OUTPUTS} bindings: none is called");
            return;
        }
        let request = InvokeRequest {
            operation: CREATE.to_owned(),
            data: answer.output,
            metadata: BTreeMap::new(),
        };
        let at_once = if answer.parallel { AT_ONCE } else { 1 };
        for part in answer.to.chunks(at_once) {
            let mut calls = Vec::with_capacity(part.len());
            for to in part {
                calls.push(self.outputs.invoke(to, &request));
            }
            for called in join_all(calls).await {
                let Err(error) = called else { continue };
                tracing::error!(target: LOG, "error executing app response of binding {name}: {error}");
                // In order, one that fails keeps those behind it from being called.
                if !answer.parallel {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_an_http_app_asks_for_state_and_outputs() {
        let body = r#"{"storeName": "s", "state": [{"key": "k", "value": {"b": 1, "a": 2}}],
            "to": ["x", "y"], "concurrency": "parallel", "data": [1]}"#;
        let answer = Answer::from_http(Bytes::from(body));
        assert_eq!((&*answer.store, answer.parallel), ("s", true));
        assert_eq!(answer.to, ["x", "y"]);
        assert_eq!(answer.output, "[1]");
        assert_eq!(answer.state[0].key, "k");
        assert_eq!(answer.state[0].value, r#"{"a":2,"b":1}"#);
        assert_eq!(answer.data, body);
    }

    #[test]
    fn other_answers_ask_for_nothing() {
        for body in ["", "OK", "[1]", "{", r#"{"to": "x"}"#, "{}"] {
            let answer = Answer::from_http(Bytes::from(body));
            assert!(answer.to.is_empty() && answer.state.is_empty(), "{body}");
            assert_eq!(answer.data, body);
        }
    }

    #[test]
    fn an_answer_of_a_grpc_app_asks_for_the_same() {
        let answer = Answer::from_grpc(BindingEventResponse {
            store_name: "s".to_owned(),
            states: vec![StateItem {
                key: "k".to_owned(),
                value: Bytes::from_static(b"v"),
                ..StateItem::default()
            }],
            to: vec!["x".to_owned()],
            data: Bytes::from_static(b"{ \"a\": 1 }"),
            ..BindingEventResponse::default()
        });
        assert_eq!(
            (&*answer.state[0].value, &*answer.output),
            (&b"v"[..], &b"{\"a\":1}"[..])
        );
        assert!(!answer.parallel);
    }
}
