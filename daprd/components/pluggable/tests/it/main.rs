//! A state store in a server of its own on a socket, found by reflection and driven through the catalog.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod server;

use std::{future::Future, pin::Pin, sync::Arc};

use component::{
    Catalog, Error, ErrorKind, Fields, Instance, Lent, Metadata, Open, Registration, Spawn,
    StateStore,
    catalog::Entry,
    state::{
        Capability, DeleteRequest, GetRequest, Operation, QueryRequest, RequestMetadata, SetRequest,
    },
};
use server::{Served, serve};

struct NoTasks;

impl Spawn for NoTasks {
    fn spawn(&self, name: &str, _task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        panic!("{name} wants to run");
    }
}

fn open(name: &str) -> Open {
    let metadata = Metadata::from_iter([("redisHost", "there")]);
    let instance = Arc::new(Instance::default());
    Open::new(name, metadata, instance, Arc::new(NoTasks), Lent::default())
}

fn types(catalog: &Catalog) -> Vec<String> {
    catalog.entries().map(Entry::full_type).collect()
}

async fn catalog(served: &Served) -> Catalog {
    let mut catalog = Catalog::default();
    component_pluggable::discover(served.folder.path(), &mut catalog).await;
    catalog
}

async fn store(served: &Served) -> Arc<dyn StateStore> {
    let catalog = catalog(served).await;
    let opened = catalog.state.open("memory", "v1", open("mystore")).await;
    opened.unwrap()
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
    let served = serve(&["ETAG"]).await;
    let store = store(&served).await;
    assert_eq!(
        store.capabilities(),
        [Capability::Etag, Capability::QueryApi].into()
    );
    let seen = served.seen.lock().unwrap().clone();
    assert_eq!(seen.properties["redisHost"], "there");
    assert_eq!(seen.instances, ["mystore"]);
}

#[tokio::test]
async fn values_and_entity_tags() {
    let served = serve(&["ETAG"]).await;
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
    let served = serve(&[]).await;
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
    let served = serve(&["TRANSACTIONAL"]).await;
    let store = store(&served).await;
    assert_eq!(served.seen.lock().unwrap().size_questions, 0);
    for _ in 0..2 {
        assert_eq!(store.max_transaction_operations().await, Some(2));
    }
    assert_eq!(served.seen.lock().unwrap().size_questions, 1);
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
    let served = serve(&[]).await;
    let store = store(&served).await;
    assert_eq!(store.max_transaction_operations().await, None);
}

#[tokio::test]
async fn errors_are_shown_as_the_component_wants() {
    let served = serve(&[]).await;
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

#[tokio::test]
async fn what_is_no_component_is_left_out() {
    let served = serve(&[]).await;
    std::fs::write(served.folder.path().join("notes.txt"), "x").unwrap();
    let dead = served.folder.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(dead).unwrap());
    let catalog = catalog(&served).await;
    assert_eq!(types(&catalog), ["state.memory"]);

    let mut empty = Catalog::default();
    let absent = served.folder.path().join("absent");
    component_pluggable::discover(&absent, &mut empty).await;
    assert_eq!(empty.entries().count(), 0);
}

/// Waits for the limit itself: paused time would not wait for the socket.
#[tokio::test]
async fn a_socket_that_says_nothing_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let silent = folder.path().join("silent.sock");
    let _listening = std::os::unix::net::UnixListener::bind(silent).unwrap();
    let mut catalog = Catalog::default();
    component_pluggable::discover(folder.path(), &mut catalog).await;
    assert_eq!(catalog.entries().count(), 0);
}

#[tokio::test]
async fn what_is_built_in_stays() {
    let served = serve(&[]).await;
    let mut catalog = Catalog::default();
    let own = Registration::new("own", "Memory", Fields::default());
    let added = catalog
        .state
        .add(own, |_| async { Err(Error::unsupported("being opened")) });
    added.unwrap();
    component_pluggable::discover(served.folder.path(), &mut catalog).await;
    let families: Vec<_> = catalog.entries().map(|entry| entry.family).collect();
    assert_eq!(families, ["own"]);
    let error = catalog.state.open("memory", "v1", open("mystore")).await;
    assert_eq!(error.err().unwrap().kind(), ErrorKind::Unsupported);
}
