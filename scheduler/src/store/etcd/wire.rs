//! Requests and answers as etcd has them.

use std::time::Duration;

use bytes::Bytes;
use proto::etcd::rpc::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcd::rpc::request_op::Request;
use proto::etcd::rpc::response_op::Response;
use proto::etcd::{Event, EventType, KeyValue, rpc};

use crate::store::{Change, Compare, End, Entry, Op, Range, Txn};

pub(super) fn range(range: &Range) -> rpc::RangeRequest {
    rpc::RangeRequest {
        key: key(&range.start),
        range_end: end(&range.end),
        limit: range
            .limit
            .map_or(0, |limit| i64::try_from(limit).unwrap_or(i64::MAX)),
        keys_only: range.keys_only,
        ..rpc::RangeRequest::default()
    }
}

pub(super) fn txn(txn: &Txn) -> rpc::TxnRequest {
    let op = |op: &Op| rpc::RequestOp {
        request: Some(match op {
            Op::Put { key, value, lease } => Request::RequestPut(rpc::PutRequest {
                key: key.clone(),
                value: value.clone(),
                lease: *lease,
                ..rpc::PutRequest::default()
            }),
            Op::Delete { start, end: until } => {
                Request::RequestDeleteRange(rpc::DeleteRangeRequest {
                    key: key(start),
                    range_end: end(until),
                    prev_kv: false,
                })
            }
        }),
    };
    rpc::TxnRequest {
        compare: txn.compare.iter().map(compare).collect(),
        success: txn.then.iter().map(op).collect(),
        failure: Vec::new(),
    }
}

fn compare(compare: &Compare) -> rpc::Compare {
    let (key, target, union) = match compare {
        Compare::Absent(key) => (key, CompareTarget::Create, TargetUnion::CreateRevision(0)),
        Compare::Modified(key, revision) => {
            let revision = i64::try_from(*revision).unwrap_or(i64::MAX);
            (key, CompareTarget::Mod, TargetUnion::ModRevision(revision))
        }
    };
    rpc::Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: key.clone(),
        range_end: Bytes::new(),
        target_union: Some(union),
    }
}

/// etcd has no empty key: the least one is a zero byte.
fn key(key: &Bytes) -> Bytes {
    if key.is_empty() {
        return Bytes::from_static(b"\0");
    }
    key.clone()
}

pub(super) fn end(end: &End) -> Bytes {
    match end {
        End::Single => Bytes::new(),
        End::Before(end) => end.clone(),
        End::Open => Bytes::from_static(b"\0"),
    }
}

pub(super) fn entry(pair: KeyValue) -> Entry {
    Entry {
        key: pair.key,
        value: pair.value,
        created: number(pair.create_revision),
        modified: number(pair.mod_revision),
        version: number(pair.version),
        lease: pair.lease,
    }
}

/// `None` for an event of nothing.
pub(super) fn change(event: Event) -> Option<Change> {
    let deleted = event.r#type() == EventType::Delete;
    let pair = event.kv?;
    Some(Change {
        key: pair.key,
        revision: number(pair.mod_revision),
        value: (!deleted).then_some(pair.value),
    })
}

pub(super) fn revision(header: Option<&rpc::ResponseHeader>) -> u64 {
    number(header.map_or(0, |header| header.revision))
}

pub(super) fn deleted(responses: &[rpc::ResponseOp]) -> usize {
    let deleted = responses.iter().map(|response| match &response.response {
        Some(Response::ResponseDeleteRange(range)) => {
            usize::try_from(range.deleted).unwrap_or_default()
        }
        _ => 0,
    });
    deleted.sum()
}

pub(super) fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(number(ttl))
}

fn number(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
