//! A state store in a process of its own.

use std::sync::{Arc, Mutex};

use component::{
    ErrorKind, StateStore,
    state::{
        Capability, DeleteRequest, GetRequest, Operation, QueryRequest, RequestMetadata, SetRequest,
    },
};
use component_conformance::open;

use crate::{
    server::{NAME, Served},
    store::{Seen, serve},
};

async fn store(served: &Served<Mutex<Seen>>) -> Arc<dyn StateStore> {
    let catalog = served.catalog().await;
    let open = open("mystore", &[("redisHost", "there")]);
    catalog
        .state
        .open(NAME, "v1", open)
        .await
        .expect("it opens")
}

fn read(key: &str) -> GetRequest {
    GetRequest {
        key: key.to_owned(),
        ..GetRequest::default()
    }
}

fn set(key: &str, value: &'static str, etag: Option<&str>) -> SetRequest {
    SetRequest {
        key: key.to_owned(),
        value: value.into(),
        etag: etag.map(str::to_owned),
        ..SetRequest::default()
    }
}

fn delete(key: &str) -> DeleteRequest {
    DeleteRequest {
        key: key.to_owned(),
        ..DeleteRequest::default()
    }
}

#[tokio::test]
async fn the_socket_names_the_type_and_the_component_the_instance() {
    let served = serve(&["ETAG"]);
    let store = store(&served).await;
    assert_eq!(
        store.capabilities(),
        [Capability::Etag, Capability::QueryApi].into()
    );
    let seen = served.shared.lock().unwrap().clone();
    assert_eq!(seen.properties["redisHost"], "there");
    assert_eq!(seen.instances, ["mystore"]);
}

#[tokio::test]
async fn values_and_entity_tags() {
    let served = serve(&["ETAG"]);
    let store = store(&served).await;
    assert_eq!(store.get(&read("a")).await.unwrap(), None);
    store.set(&set("a", "1", None)).await.unwrap();
    let item = store.get(&read("a")).await.unwrap().unwrap();
    assert_eq!((&*item.value, item.etag.as_deref()), (&b"1"[..], Some("1")));
    store.set(&set("a", "2", Some("1"))).await.unwrap();
    let error = store.set(&set("a", "3", Some("1"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::EtagMismatch);
    store.delete(&delete("a")).await.unwrap();
    assert_eq!(store.get(&read("a")).await.unwrap(), None);
}

#[tokio::test]
async fn several_keys_at_once() {
    let served = serve(&[]);
    let store = store(&served).await;
    store
        .bulk_set(&[set("a", "1", None), set("b", "2", None)])
        .await
        .unwrap();
    let keys = ["b", "absent", "a"].map(read);
    let rows = store.bulk_get(&keys, 0).await.unwrap();
    let values: Vec<_> = rows
        .into_iter()
        .map(|row| (row.key, row.result.unwrap().map(|item| item.value)))
        .collect();
    assert_eq!(
        values,
        [
            ("b".to_owned(), Some("2".into())),
            ("absent".to_owned(), None),
            ("a".to_owned(), Some("1".into())),
        ]
    );
    store
        .bulk_delete(&[delete("a"), delete("b")])
        .await
        .unwrap();
    assert_eq!(store.get(&read("a")).await.unwrap(), None);
}

#[tokio::test]
async fn transactions_and_their_size() {
    let served = serve(&["TRANSACTIONAL"]);
    let store = store(&served).await;
    assert_eq!(served.shared.lock().unwrap().size_questions, 0);
    for _ in 0..2 {
        assert_eq!(store.max_transaction_operations().await, Some(2));
    }
    assert_eq!(served.shared.lock().unwrap().size_questions, 1);
    let steps = vec![
        Operation::Upsert(set("a", "1", None)),
        Operation::Delete(delete("b")),
    ];
    store
        .transact(&steps, &RequestMetadata::default())
        .await
        .unwrap();
    let item = store.get(&read("a")).await.unwrap().unwrap();
    assert_eq!(item.value, "1");
}

#[tokio::test]
async fn a_store_that_declares_no_transactions_is_not_asked_for_their_size() {
    let served = serve(&[]);
    let store = store(&served).await;
    assert_eq!(store.max_transaction_operations().await, None);
}

#[tokio::test]
async fn errors_are_shown_as_the_component_wants() {
    let served = serve(&[]);
    let store = store(&served).await;
    let error = store.get(&read("broken")).await.unwrap_err();
    let presented = error.presented().unwrap();
    assert_eq!((presented.http, &*presented.tag), (506, "get-tag"));
    assert_eq!(
        error.to_string(),
        "api error: code = DataLoss desc = get-error"
    );
    // The server does not serve queries: they are passed on all the same.
    let error = store.query(&QueryRequest::default()).await.unwrap_err();
    assert_eq!(error.presented(), None);
    let text = error.to_string();
    assert!(
        text.starts_with("rpc error: code = Unimplemented desc = "),
        "{text}"
    );
}
