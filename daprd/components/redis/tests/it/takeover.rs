//! A replica of a cluster that takes over from its server, which died or fell silent.

use crate::{
    cluster::{Cluster, member},
    server::{Server, until},
    usage::InUse,
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
    let mut used = InUse::open(&fields, "{b}").await;
    used.delivers().await;
    let _ended = end(cluster.servers.remove(0)).await;
    used.goes_on_at(&replica, "b").await;
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
