//! Several keys at once: one round trip, and what becomes of each is its own.

use component::{
    ErrorKind,
    state::{DeleteRequest, GetRequest, SetRequest},
};
use component_conformance::proxy::Proxy;
use redis::AsyncCommands;

use crate::{item, server::Server, set, store};

const KEYS: usize = 20;

fn reads(keys: &[&str]) -> Vec<GetRequest> {
    keys.iter()
        .map(|key| GetRequest {
            key: (*key).to_owned(),
            ..GetRequest::default()
        })
        .collect()
}

#[tokio::test]
async fn several_keys_take_one_round_trip() {
    let server = Server::start(&[]).await;
    let proxy = Proxy::start(&server.address).await;
    let store = store(&[("redisHost", &proxy.address)]).await.unwrap();
    let keys: Vec<String> = (0..KEYS).map(|number| format!("k{number}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();

    let before = proxy.turns();
    let writes: Vec<SetRequest> = keys.iter().map(|key| set(key, b"v")).collect();
    store.bulk_set(&writes).await.unwrap();
    assert_eq!(proxy.turns() - before, 1, "written");
    let rows = store.bulk_get(&reads(&keys), 0).await.unwrap();
    assert_eq!(proxy.turns() - before, 2, "read");
    for row in rows {
        let found = row.result.unwrap().unwrap();
        assert_eq!(
            (&found.value[..], found.etag.as_deref()),
            (&b"v"[..], Some("1"))
        );
    }
    let gone: Vec<DeleteRequest> = keys
        .iter()
        .map(|key| DeleteRequest {
            key: (*key).to_owned(),
            etag: Some("1".to_owned()),
            ..DeleteRequest::default()
        })
        .collect();
    store.bulk_delete(&gone).await.unwrap();
    assert_eq!(proxy.turns() - before, 3, "deleted");
    assert_eq!(server.ask(&["DBSIZE"]).await, "0");
    store.set(&writes[0]).await.unwrap();
    assert_eq!(proxy.turns() - before, 4, "a single one counts as one");
}

#[tokio::test]
async fn what_becomes_of_each_key_is_its_own() {
    let server = Server::start(&[]).await;
    let store = store(&[("redisHost", &server.address)]).await.unwrap();
    let mut other = server.connection().await;
    let () = other.set("plain", "text").await.unwrap();
    let () = other.lpush("list", "text").await.unwrap();
    store.set(&set("a", b"1")).await.unwrap();
    // The server may forget the script at any time.
    server.ask(&["SCRIPT", "FLUSH"]).await;

    let mut stale = set("a", b"2");
    stale.etag = Some("7".to_owned());
    let mut foreign = set("b", b"2");
    foreign.etag = Some("no number".to_owned());
    let writes = [
        stale,
        foreign,
        set("", b"2"),
        set("c", b"1"),
        set("c", b"2"),
    ];
    let error = store.bulk_set(&writes).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::EtagMismatch);
    assert_eq!(error.message().lines().count(), 3, "{error}");
    assert_eq!(&item(&*store, "a").await.unwrap().value[..], b"1");
    let last = item(&*store, "c").await.unwrap();
    assert_eq!(
        (&last.value[..], last.etag.as_deref()),
        (&b"2"[..], Some("2"))
    );

    let keys = ["plain", "list", "absent", "c"];
    let rows = store.bulk_get(&reads(&keys), 0).await.unwrap();
    let [plain, list, absent, last] = &rows[..] else {
        panic!("{rows:?}");
    };
    let plain = plain.result.as_ref().unwrap().as_ref().unwrap();
    assert_eq!(&plain.value[..], b"text");
    assert!(list.result.is_err());
    assert!(absent.result.as_ref().unwrap().is_none());
    assert_eq!(last.key, "c");
}
