//! What a server does when nothing happens: readers wait, and keys go.

use std::time::Duration;

use component::state::Consistency;

use crate::{broker, item, publish, receive, server::Server, server::until, set, store, subscribe};

/// A wait that only the client gave up would hand the next entry to nobody.
#[tokio::test]
async fn a_message_after_a_long_silence_arrives_once() {
    let server = Server::start(&[]).await;
    let fields = [
        ("redisHost", server.address.as_str()),
        ("consumerID", "group"),
    ];
    let broker = broker(&fields).await.unwrap();
    let mut deliveries = subscribe(&*broker, "t").await;
    // Longer than the client library waits for an answer unless it is told otherwise.
    until("the reader has waited for a second", async || {
        let clients = server.ask(&["CLIENT", "LIST"]).await;
        let mut readers = clients
            .lines()
            .filter(|line| line.contains("cmd=xreadgroup"));
        readers.any(|line| !line.contains(" idle=0 "))
    })
    .await;
    publish(&*broker, "t", b"m").await.unwrap();
    assert_eq!(receive(&mut deliveries).await, &b"m"[..]);
    let again = tokio::time::timeout(Duration::from_millis(300), deliveries.next()).await;
    assert!(again.is_err(), "it came twice");
}

/// In whole seconds it would be none.
#[tokio::test]
async fn a_lifetime_below_a_second_is_told() {
    let server = Server::start(&[]).await;
    let store = store(&[("redisHost", &server.address)]).await.unwrap();
    store.set(&set("k", b"v")).await.unwrap();
    server.ask(&["PEXPIRE", "k", "900"]).await;
    let found = item(&*store, "k").await.unwrap();
    assert!(found.metadata.contains_key("ttlExpireTime"), "{found:?}");
}

/// The server answers nothing else on a connection that waits.
#[tokio::test]
async fn a_write_that_waits_for_a_replica_keeps_nobody_else_waiting() {
    let server = Server::start(&[]).await;
    let port = server.port.to_string();
    let follow = ["--replicaof", "127.0.0.1", &port];
    let replica = Server::start(&follow).await;
    until("the replica follows", async || {
        let state = replica.ask(&["INFO", "replication"]).await;
        state.contains("master_link_status:up")
    })
    .await;
    let store = store(&[("redisHost", &server.address)]).await.unwrap();
    store.set(&set("k", b"v")).await.unwrap();

    replica.stop().await;
    let mut strong = set("strong", b"v");
    strong.consistency = Consistency::Strong;
    let writes = futures::future::join(store.set(&strong), store.set(&strong));
    let reads = async {
        until("a write waits for the replica", async || {
            let clients = server.ask(&["CLIENT", "LIST"]).await;
            clients.contains("cmd=wait")
        })
        .await;
        item(&*store, "k").await
    };
    tokio::select! {
        biased;
        _ = writes => panic!("the writes have not waited"),
        read = reads => assert!(read.is_some()),
    }
}
