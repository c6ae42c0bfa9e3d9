//! A replica of a cluster that takes over from its server, which died or fell silent.

use crate::{
    broker,
    cluster::{Cluster, member},
    publish, receive,
    server::{Server, until},
    set, store, subscribe,
};

/// A replica of the first server, which has the key `b`.
async fn follower(cluster: &Cluster) -> Server {
    let master = &cluster.servers[0];
    let replica = member(&[]).await;
    let (port, bus) = (master.port.to_string(), master.bus.to_string());
    let meet = ["CLUSTER", "MEET", "127.0.0.1", &port, &bus];
    replica.ask(&meet).await;
    let id = master.ask(&["CLUSTER", "MYID"]).await;
    let own = replica.ask(&["CLUSTER", "MYID"]).await;
    until("the replica knows its server", async || {
        let known = replica.ask(&["CLUSTER", "NODES"]).await;
        known.contains(&id) && known.lines().count() == cluster.servers.len() + 1
    })
    .await;
    replica.ask(&["CLUSTER", "REPLICATE", &id]).await;
    until("the replica follows", async || {
        let state = replica.ask(&["INFO", "replication"]).await;
        state.contains("master_link_status:up")
    })
    .await;
    for server in &cluster.servers {
        until("everybody knows the replica", async || {
            let known = server.ask(&["CLUSTER", "NODES"]).await;
            known
                .lines()
                .any(|line| line.starts_with(&own) && line.contains("slave"))
        })
        .await;
    }
    replica
}

/// Goes on after `end` has made an end of the first server.
async fn a_replica_takes_over(end: impl AsyncFnOnce(Server) -> Option<Server>) {
    let mut cluster = Cluster::start(&[]).await;
    let replica = follower(&cluster).await;
    let patience = [("readTimeout", "300ms"), ("dialTimeout", "300ms")];
    let fields = [&cluster.fields()[..], &patience].concat();
    let store = store(&fields).await.expect("a store");
    let broker = broker(&fields).await.expect("a broker");
    let mut deliveries = subscribe(&*broker, "{b}").await;
    publish(&*broker, "{b}", b"before")
        .await
        .expect("is published");
    assert_eq!(receive(&mut deliveries).await, &b"before"[..]);
    let _ended = end(cluster.servers.remove(0)).await;
    until("the store follows", async || {
        store.set(set("b", b"v")).await.is_ok()
    })
    .await;
    until("the broker follows", async || {
        publish(&*broker, "{b}", b"after").await.is_ok()
    })
    .await;
    assert_eq!(receive(&mut deliveries).await, &b"after"[..]);
    assert_eq!(replica.ask(&["HGET", "b", "data"]).await, "v");
}

#[tokio::test]
async fn a_dead_member_is_left() {
    a_replica_takes_over(async |server| {
        drop(server);
        None
    })
    .await;
}

#[tokio::test]
async fn a_silent_member_is_left() {
    a_replica_takes_over(async |server| {
        server.stop().await;
        Some(server)
    })
    .await;
}
