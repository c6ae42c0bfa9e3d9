//! The state API over gRPC (contract 1): the same operations, with codes and error details.

use bytes::Bytes;
use e2e::Daprd;
use proto::common::v1::state_options::StateConcurrency;
use proto::common::v1::{Etag, StateItem, StateOptions};
use proto::runtime::v1::dapr_client::DaprClient;
use proto::runtime::v1::{
    DeleteBulkStateRequest, DeleteStateRequest, ExecuteStateTransactionRequest,
    GetBulkStateRequest, GetStateRequest, GetStateResponse, QueryStateRequest, SaveStateRequest,
    TransactionalStateOperation,
};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::resources::STATE;

const STORE: &str = "statestore";

fn item(key: &str, value: &'static str) -> StateItem {
    StateItem {
        key: key.into(),
        value: Bytes::from_static(value.as_bytes()),
        ..Default::default()
    }
}

async fn save(grpc: &mut DaprClient<Channel>, states: Vec<StateItem>) -> Result<(), Status> {
    grpc.save_state(SaveStateRequest {
        store_name: STORE.into(),
        states,
    })
    .await
    .map(drop)
}

async fn get(grpc: &mut DaprClient<Channel>, key: &str) -> GetStateResponse {
    let request = GetStateRequest {
        store_name: STORE.into(),
        key: key.into(),
        ..Default::default()
    };
    grpc.get_state(request)
        .await
        .expect("the store is there")
        .into_inner()
}

fn delete(key: &str, etag: Option<&str>) -> DeleteStateRequest {
    DeleteStateRequest {
        store_name: STORE.into(),
        key: key.into(),
        etag: etag.map(|value| Etag {
            value: value.into(),
        }),
        options: etag.map(|_| first_write()),
        ..Default::default()
    }
}

fn first_write() -> StateOptions {
    StateOptions {
        concurrency: StateConcurrency::ConcurrencyFirstWrite.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn save_get_delete() {
    let daprd = Daprd::builder("app").resources(STATE).start().await;
    let mut grpc = daprd.grpc();
    assert_eq!(get(&mut grpc, "k").await, GetStateResponse::default());
    save(
        &mut grpc,
        vec![item("k", "\u{0}raw bytes"), item("l", "more")],
    )
    .await
    .expect("both are saved");
    let state = get(&mut grpc, "k").await;
    assert_eq!(state.data, "\u{0}raw bytes");
    assert!(!state.etag.is_empty());
    grpc.delete_state(delete("k", None))
        .await
        .expect("it is deleted");
    assert!(get(&mut grpc, "k").await.data.is_empty());
    let states = vec![item("l", ""), item("none", "")];
    grpc.delete_bulk_state(DeleteBulkStateRequest {
        store_name: STORE.into(),
        states,
    })
    .await
    .expect("all are deleted");
    assert!(get(&mut grpc, "l").await.data.is_empty());
    daprd.stop().await;
}

#[tokio::test]
async fn what_grpc_saves_http_reads() {
    let daprd = Daprd::builder("app").resources(STATE).start().await;
    save(&mut daprd.grpc(), vec![item("k", r#"{"a":1}"#)])
        .await
        .expect("it is saved");
    let reply = daprd
        .http()
        .get("/v1.0/state/statestore/k")
        .await
        .expect_status(200);
    assert_eq!(reply.text(), r#"{"a":1}"#);
    assert_eq!(reply.header("etag"), get(&mut daprd.grpc(), "k").await.etag);
    daprd.stop().await;
}

#[tokio::test]
async fn etags_guard_writes_and_deletes() {
    let daprd = Daprd::builder("app").resources(STATE).start().await;
    let mut grpc = daprd.grpc();
    save(&mut grpc, vec![item("k", "1")])
        .await
        .expect("it is saved");
    let guarded = |etag: &str| StateItem {
        etag: Some(Etag { value: etag.into() }),
        options: Some(first_write()),
        ..item("k", "2")
    };
    let error = save(&mut grpc, vec![guarded("not-it")])
        .await
        .expect_err("the tag differs");
    assert_eq!(error.code(), Code::Aborted, "{error}");
    let etag = get(&mut grpc, "k").await.etag;
    save(&mut grpc, vec![guarded(&etag)])
        .await
        .expect("the tag fits");
    let error = grpc
        .delete_state(delete("k", Some(&etag)))
        .await
        .expect_err("the tag is old");
    assert_eq!(error.code(), Code::Aborted, "{error}");
    let several = DeleteBulkStateRequest {
        store_name: STORE.into(),
        states: vec![guarded("old"), item("none", "")],
    };
    let error = grpc
        .delete_bulk_state(several)
        .await
        .expect_err("the tag is old");
    reason(&error, Code::Aborted, "ERR_STATE_BULK_DELETE");
    let etag = get(&mut grpc, "k").await.etag;
    grpc.delete_state(delete("k", Some(&etag)))
        .await
        .expect("the tag fits");
    daprd.stop().await;
}

#[tokio::test]
async fn what_says_that_it_is_json_has_to_be() {
    let daprd = Daprd::builder("app").resources(STATE).start().await;
    let mut grpc = daprd.grpc();
    let json = |value| {
        let mut item = item("k", value);
        let metadata = &mut item.metadata;
        metadata.insert("contentType".into(), "application/json".into());
        item
    };
    save(&mut grpc, vec![json(r#"{"b": 1, "a": 2}"#)])
        .await
        .expect("it is JSON");
    assert_eq!(get(&mut grpc, "k").await.data, r#"{"a":2,"b":1}"#);
    let error = save(&mut grpc, vec![json("{bad")])
        .await
        .expect_err("it is no JSON");
    assert_eq!(error.code(), Code::Unknown, "{error}");
    daprd.stop().await;
}

#[tokio::test]
async fn bulk_and_transaction() {
    let daprd = Daprd::builder("app").resources(STATE).start().await;
    let mut grpc = daprd.grpc();
    let operation = |kind: &str, item| TransactionalStateOperation {
        operation_type: kind.into(),
        request: Some(item),
    };
    let transaction = ExecuteStateTransactionRequest {
        store_name: STORE.into(),
        operations: vec![
            operation("upsert", item("a", "1")),
            operation("upsert", item("b", "2")),
            operation("delete", item("a", "")),
        ],
        ..Default::default()
    };
    grpc.execute_state_transaction(transaction)
        .await
        .expect("the store knows transactions");
    let keys = vec!["a".to_owned(), "b".to_owned()];
    let request = GetBulkStateRequest {
        store_name: STORE.into(),
        keys,
        parallelism: 10,
        ..Default::default()
    };
    let mut items = grpc
        .get_bulk_state(request)
        .await
        .expect("bulk get works")
        .into_inner()
        .items;
    items.sort_by(|a, b| a.key.cmp(&b.key));
    let seen: Vec<_> = items
        .iter()
        .map(|item| (item.key.as_str(), &item.data[..]))
        .collect();
    assert_eq!(seen, [("a", &b""[..]), ("b", &b"2"[..])]);
    daprd.stop().await;
}

#[tokio::test]
async fn errors_carry_reasons() {
    let _alone = e2e::wait::alone().await;
    let daprd = Daprd::builder("app").resources(STATE).start().await;
    let mut grpc = daprd.grpc();
    let request = GetStateRequest {
        store_name: "nostore".into(),
        key: "k".into(),
        ..Default::default()
    };
    let error = grpc
        .get_state(request.clone())
        .await
        .expect_err("no such store");
    reason(&error, Code::InvalidArgument, "DAPR_STATE_NOT_FOUND");
    assert_eq!(error.message(), "state store nostore is not found");

    let error = save(&mut grpc, vec![item("a||b", "1")])
        .await
        .expect_err("the key is illegal");
    reason(&error, Code::InvalidArgument, "DAPR_STATE_ILLEGAL_KEY");

    let query = QueryStateRequest {
        store_name: STORE.into(),
        query: "{}".into(),
        ..Default::default()
    };
    let error = grpc
        .query_state_alpha1(query)
        .await
        .expect_err("no queries in memory");
    reason(&error, Code::Internal, "DAPR_STATE_QUERYING_NOT_SUPPORTED");
    daprd.stop().await;

    let daprd = Daprd::builder("app").start().await;
    let error = daprd
        .grpc()
        .get_state(request)
        .await
        .expect_err("no store at all");
    reason(
        &error,
        Code::FailedPrecondition,
        "DAPR_STATE_NOT_CONFIGURED",
    );
    daprd.stop().await;
}

#[track_caller]
fn reason(status: &Status, code: Code, reason: &str) {
    assert_eq!(status.code(), code, "{status}");
    let info = status
        .get_details_error_info()
        .unwrap_or_else(|| panic!("no ErrorInfo: {status}"));
    assert_eq!(
        (info.reason.as_str(), info.domain.as_str()),
        (reason, "dapr.io")
    );
}
