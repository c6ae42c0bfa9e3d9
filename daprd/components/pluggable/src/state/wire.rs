//! Requests and answers of state stores as messages of the protocol.

use std::collections::BTreeMap;

use bytes::Bytes;
use component::{
    Error, ErrorKind,
    query::Query,
    state::{
        BulkItem, Concurrency, Consistency, DeleteRequest, GetRequest, Item, Operation,
        QueryRequest, QueryResponse, SetRequest,
    },
};
use prost_types::Any;
use proto::components::v1::{
    self as pb, sorting,
    state_options::{StateConcurrency, StateConsistency},
    transactional_state_operation::Request as Step,
};

pub fn get(request: &GetRequest) -> pb::GetRequest {
    pb::GetRequest {
        key: request.key.clone(),
        metadata: request.metadata.clone(),
        consistency: consistency(request.consistency).into(),
    }
}

pub fn set(request: &SetRequest) -> pb::SetRequest {
    pb::SetRequest {
        key: request.key.clone(),
        value: request.value.clone(),
        etag: etag(request.etag.as_ref()),
        metadata: request.metadata.clone(),
        options: options(request.concurrency, request.consistency),
        content_type: request.content_type.clone().unwrap_or_default(),
    }
}

pub fn delete(request: &DeleteRequest) -> pb::DeleteRequest {
    pb::DeleteRequest {
        key: request.key.clone(),
        etag: etag(request.etag.as_ref()),
        metadata: request.metadata.clone(),
        options: options(request.concurrency, request.consistency),
    }
}

fn etag(etag: Option<&String>) -> Option<pb::Etag> {
    etag.cloned().map(|value| pb::Etag { value })
}

pub fn operation(operation: &Operation) -> pb::TransactionalStateOperation {
    let request = match operation {
        Operation::Upsert(request) => Step::Set(set(request)),
        Operation::Delete(request) => Step::Delete(delete(request)),
    };
    pb::TransactionalStateOperation {
        request: Some(request),
    }
}

fn options(concurrency: Concurrency, how: Consistency) -> Option<pb::StateOptions> {
    let concurrency = match concurrency {
        Concurrency::Unspecified => StateConcurrency::ConcurrencyUnspecified,
        Concurrency::FirstWrite => StateConcurrency::ConcurrencyFirstWrite,
        Concurrency::LastWrite => StateConcurrency::ConcurrencyLastWrite,
    };
    Some(pb::StateOptions {
        concurrency: concurrency.into(),
        consistency: consistency(how).into(),
    })
}

fn consistency(how: Consistency) -> StateConsistency {
    match how {
        Consistency::Unspecified => StateConsistency::ConsistencyUnspecified,
        Consistency::Eventual => StateConsistency::ConsistencyEventual,
        Consistency::Strong => StateConsistency::ConsistencyStrong,
    }
}

/// An answer with neither value nor entity tag is what stores give for an absent key.
pub fn item(
    value: Bytes,
    etag: Option<pb::Etag>,
    metadata: BTreeMap<String, String>,
) -> Option<Item> {
    let etag = etag.map(|etag| etag.value);
    if value.is_empty() && etag.is_none() && metadata.is_empty() {
        return None;
    }
    Some(Item {
        value,
        etag,
        metadata,
    })
}

fn failed(error: String) -> Error {
    Error::new(ErrorKind::Internal, error)
}

/// The rows in the order asked for, which the store need not keep; a key without a row is absent.
pub fn rows(keys: Vec<String>, found: Vec<pb::BulkStateItem>) -> Vec<BulkItem> {
    let found: BTreeMap<String, pb::BulkStateItem> = found
        .into_iter()
        .map(|row| (row.key.clone(), row))
        .collect();
    let row = |key: String| {
        let result = match found.get(&key).cloned() {
            Some(row) if !row.error.is_empty() => Err(failed(row.error)),
            Some(row) => Ok(item(row.data, row.etag, row.metadata)),
            None => Ok(None),
        };
        BulkItem { key, result }
    };
    keys.into_iter().map(row).collect()
}

/// A filter goes as the JSON text of its operand, below the name of its operator.
pub fn query(request: &QueryRequest) -> pb::QueryRequest {
    let Query { filter, sort, page } = &request.query;
    let filter = filter.iter().map(|filter| {
        let (operator, operand) = filter.to_json();
        let operand = Any {
            type_url: String::new(),
            value: operand.to_string().into_bytes(),
        };
        (operator.to_owned(), operand)
    });
    let sort = sort.iter().map(|sort| {
        let order = match sort.descending {
            true => sorting::Order::Desc,
            false => sorting::Order::Asc,
        };
        pb::Sorting {
            key: sort.key.clone(),
            order: order.into(),
        }
    });
    pb::QueryRequest {
        query: Some(pb::Query {
            filter: filter.collect(),
            sort: sort.collect(),
            pagination: Some(pb::Pagination {
                limit: page.limit.unwrap_or_default().into(),
                token: page.token.clone().unwrap_or_default(),
            }),
        }),
        metadata: request.metadata.clone(),
    }
}

pub fn answer(answer: pb::QueryResponse) -> QueryResponse {
    let rows = answer.items.into_iter().map(|row| {
        let result = if row.error.is_empty() {
            Ok(item(row.data, row.etag, BTreeMap::new()))
        } else {
            Err(failed(row.error))
        };
        BulkItem {
            key: row.key,
            result,
        }
    });
    QueryResponse {
        items: rows.collect(),
        token: Some(answer.token).filter(|token| !token.is_empty()),
        metadata: answer.metadata,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_query_goes_by_its_parts() {
        let text = json!({
            "filter": {"EQ": {"a": 1}},
            "sort": [{"key": "a", "order": "DESC"}, {"key": "b"}],
            "page": {"limit": 2, "token": "t"},
        });
        let request = QueryRequest {
            query: text.to_string().parse().unwrap(),
            ..QueryRequest::default()
        };
        let sent = query(&request).query.unwrap();
        assert_eq!(sent.filter["EQ"].value, br#"{"a":1}"#);
        assert_eq!(sent.sort[0].order(), sorting::Order::Desc);
        assert_eq!(sent.sort[1].order(), sorting::Order::Asc);
        assert_eq!(sent.pagination.unwrap().limit, 2);
    }

    #[test]
    fn rows_come_in_the_order_asked_for() {
        let row = |key: &str, error: &str| pb::BulkStateItem {
            key: key.to_owned(),
            data: Bytes::from_static(b"1"),
            error: error.to_owned(),
            ..pb::BulkStateItem::default()
        };
        let keys = ["a", "b", "c"].map(str::to_owned).to_vec();
        let rows = rows(keys, vec![row("c", ""), row("a", "no")]);
        assert_eq!(rows[0].result.as_ref().unwrap_err().to_string(), "no");
        assert!(rows[1].result.as_ref().unwrap().is_none());
        assert_eq!(
            rows[2].result.as_ref().unwrap().as_ref().unwrap().value,
            "1"
        );
    }
}
