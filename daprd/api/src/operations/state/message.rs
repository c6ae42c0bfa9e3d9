//! Messages of the API as requests to a store, and its items as messages.

use std::collections::BTreeMap;

use component::state::{Concurrency, Consistency, DeleteRequest, Item, SetRequest};
use proto::{
    common::v1::{Etag, StateItem, StateOptions, state_options},
    runtime::v1::{BulkStateItem, QueryStateItem},
};
use serde_json::value::RawValue;
use values::json;

use crate::{Api, ApiError, CallContext, Transport, reason::state as reason};

const JSON: &str = "application/json";

impl Api {
    /// A write as the store gets it.
    pub(super) fn set_request(
        &self,
        call: &CallContext,
        store: &str,
        item: StateItem,
    ) -> Result<SetRequest, ApiError> {
        let (concurrency, consistency) = options(item.options);
        let mut request = SetRequest {
            content_type: item.metadata.get("contentType").cloned(),
            key: item.key,
            value: item.value,
            etag: etag(item.etag),
            metadata: item.metadata,
            concurrency,
            consistency,
        };
        let is_json = request.content_type.as_deref() == Some(JSON);
        if call.transport == Transport::Grpc && is_json {
            // Compat: Q-state-grpc-json: what says that it is JSON has to be, and is stored in the form of the HTTP API.
            let value: &RawValue = serde_json::from_slice(&request.value)
                .map_err(|problem| ApiError::new(&reason::VALUE, problem.to_string()))?;
            if !self.options.state.is_encrypted(store) {
                request.value = json::canonical(value).into();
            }
        }
        if call.transport == Transport::Http {
            // Values of the HTTP API are JSON; bytes that came over gRPC may be anything.
            let content_type = &mut request.content_type;
            content_type.get_or_insert_with(|| JSON.to_owned());
            // Compat: Q-state-encrypted-text: encrypted stores keep the text of a JSON string without its quotes. Other values
            // keep their JSON.
            if self.options.state.is_encrypted(store)
                && let Ok(value) = serde_json::from_slice::<&RawValue>(&request.value)
                && let Some(text) = json::string(value)
            {
                request.value = text.into_owned().into();
            }
        }
        Ok(request)
    }
}

pub(super) fn delete_request(item: StateItem) -> DeleteRequest {
    let (concurrency, consistency) = options(item.options);
    DeleteRequest {
        key: item.key,
        etag: etag(item.etag),
        metadata: item.metadata,
        concurrency,
        consistency,
    }
}

/// A present but empty entity tag is none.
pub(super) fn etag(etag: Option<Etag>) -> Option<String> {
    etag.map(|etag| etag.value)
        .filter(|value| !value.is_empty())
}

pub(super) fn options(options: Option<StateOptions>) -> (Concurrency, Consistency) {
    let options = options.unwrap_or_default();
    let concurrency = match options.concurrency() {
        state_options::StateConcurrency::ConcurrencyFirstWrite => Concurrency::FirstWrite,
        state_options::StateConcurrency::ConcurrencyLastWrite => Concurrency::LastWrite,
        state_options::StateConcurrency::ConcurrencyUnspecified => Concurrency::Unspecified,
    };
    (concurrency, consistency(options.consistency))
}

pub(super) fn consistency(number: i32) -> Consistency {
    match state_options::StateConsistency::try_from(number) {
        Ok(state_options::StateConsistency::ConsistencyEventual) => Consistency::Eventual,
        Ok(state_options::StateConsistency::ConsistencyStrong) => Consistency::Strong,
        _ => Consistency::Unspecified,
    }
}

pub(super) fn bulk_item(key: String, result: component::Result<Option<Item>>) -> BulkStateItem {
    match result {
        Ok(item) => {
            let item = item.unwrap_or_default();
            BulkStateItem {
                key,
                data: item.value,
                etag: item.etag.unwrap_or_default(),
                error: String::new(),
                metadata: item.metadata,
            }
        }
        Err(error) => BulkStateItem {
            key,
            error: component::error::chain(&error),
            metadata: BTreeMap::new(),
            ..BulkStateItem::default()
        },
    }
}

pub(super) fn query_item(key: String, result: component::Result<Option<Item>>) -> QueryStateItem {
    let row = bulk_item(key, result);
    QueryStateItem {
        key: row.key,
        data: row.data,
        etag: row.etag,
        error: row.error,
    }
}
