//! Configuration, locks and the binding: plain keys of a server.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use component::{
    Configuration, ErrorKind, Lock, OutputBinding,
    bindings::{InvokeRequest, InvokeResponse},
    configuration::Request,
};
use component_conformance::{configuration, lock, open};

use crate::{
    catalog,
    cluster::{Cluster, member},
    server::{Server, until},
};

async fn settings(fields: &[(&str, &str)]) -> component::Result<Arc<dyn Configuration>> {
    let open = open("settings", fields);
    catalog().configuration.open("redis", "", open).await
}

async fn locks(fields: &[(&str, &str)]) -> component::Result<Arc<dyn Lock>> {
    catalog()
        .lock
        .open("redis", "", open("locks", fields))
        .await
}

async fn change(server: &Server, key: &str, value: Option<&str>) {
    match value {
        Some(value) => server.ask(&["SET", key, value]).await,
        None => server.ask(&["DEL", key]).await,
    };
}

#[tokio::test]
async fn configuration_conforms() {
    let server = Server::start(&[]).await;
    let store = settings(&[("redisHost", &server.address)]).await.unwrap();
    configuration::suite(&*store, async |key, value| {
        change(&server, key, value).await;
    })
    .await;
}

#[tokio::test]
async fn configuration_conforms_in_another_database() {
    let server = Server::start(&[]).await;
    let fields = [("redisHost", server.address.as_str()), ("redisDB", "3")];
    let store = settings(&fields).await.unwrap();
    let connection = server.connection().await;
    configuration::suite(&*store, async |key, value| {
        let mut both = redis::pipe();
        both.atomic().cmd("SELECT").arg(3);
        match value {
            Some(value) => both.cmd("SET").arg(key).arg(value),
            None => both.cmd("DEL").arg(key),
        };
        let mut connection = connection.clone();
        let () = both.ignore().query_async(&mut connection).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn locks_conform() {
    let server = Server::start(&[]).await;
    let store = locks(&[("redisHost", &server.address)]).await.unwrap();
    lock::suite(&*store).await;
    assert_eq!(server.ask(&["GET", "owned"]).await, "b");
}

#[tokio::test]
async fn locks_are_not_kept_where_they_could_be_forgotten() {
    let member = member(&[]).await;
    let fields = [
        ("redisHost", member.address.as_str()),
        ("redisType", "cluster"),
    ];
    let refused = locks(&fields).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::InvalidMetadata);

    let server = Server::start(&[]).await;
    let port = server.port.to_string();
    let _replica = Server::start(&["--replicaof", "127.0.0.1", &port]).await;
    until("the replica is there", async || {
        let info = server.ask(&["INFO", "replication"]).await;
        info.contains("connected_slaves:1")
    })
    .await;
    let refused = locks(&[("redisHost", &server.address)])
        .await
        .err()
        .unwrap();
    assert_eq!(refused.to_string(), "replication is not supported");
}

#[tokio::test]
async fn versions_stand_behind_values_and_what_is_no_text_is_left_out() {
    let server = Server::start(&[]).await;
    server.ask(&["SET", "k", "v||7"]).await;
    server.ask(&["SET", "empty", ""]).await;
    server.ask(&["RPUSH", "list", "v"]).await;
    let store = settings(&[("redisHost", &server.address)]).await.unwrap();
    let all = store.get(&Request::default()).await.unwrap();
    assert_eq!(all.keys().collect::<Vec<_>>(), ["k"]);
    assert_eq!((&*all["k"].value, &*all["k"].version), ("v", "7"));
}

#[tokio::test]
async fn events_that_others_need_stay_switched_on() {
    let server = Server::start(&["--notify-keyspace-events", "Elx"]).await;
    let store = settings(&[("redisHost", &server.address)]).await.unwrap();
    let _updates = store.subscribe(&Request::default()).await.unwrap();
    let events = server
        .ask(&["CONFIG", "GET", "notify-keyspace-events"])
        .await;
    for event in "EKlg$xe".chars() {
        assert!(events.contains(event), "{event} in {events}");
    }
}

#[tokio::test]
async fn followed_keys_are_told_again_after_a_broken_connection() {
    let server = Server::start(&[]).await;
    let store = settings(&[("redisHost", &server.address)]).await.unwrap();
    let request = Request {
        keys: vec!["k".to_owned()],
        ..Request::default()
    };
    let mut updates = store.subscribe(&request).await.unwrap();
    server.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    server.ask(&["SET", "k", "missed"]).await;
    let patience = Duration::from_secs(20);
    let told = tokio::time::timeout(patience, async {
        while updates.next().await.unwrap()["k"].value != "missed" {}
    });
    told.await.expect("the key is told");

    // What nobody follows any more holds no connection.
    drop(updates);
    until("the connection ends", async || {
        let clients = server.ask(&["CLIENT", "LIST", "TYPE", "pubsub"]).await;
        clients.trim().is_empty()
    })
    .await;
}

#[tokio::test]
async fn whoever_follows_all_keys_is_told_what_a_broken_connection_has_missed() {
    let server = Server::start(&[]).await;
    let store = settings(&[("redisHost", &server.address)]).await.unwrap();
    let mut updates = store.subscribe(&Request::default()).await.unwrap();
    server.ask(&["SET", "gone", "v"]).await;
    let patience = Duration::from_secs(20);
    let told = tokio::time::timeout(patience, updates.next());
    assert_eq!(told.await.unwrap().unwrap()["gone"].value, "v");
    server.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    server.ask(&["MSET", "new", "v"]).await;
    server.ask(&["DEL", "gone"]).await;
    let mut missing = std::collections::BTreeSet::from(["new", "gone"]);
    let told = tokio::time::timeout(patience, async {
        while !missing.is_empty() {
            let items = updates.next().await.unwrap();
            missing.retain(|key| {
                items
                    .get(*key)
                    .is_none_or(|item| item.value.is_empty() != (*key == "gone"))
            });
        }
    });
    told.await.expect("both are told");
}

#[tokio::test]
async fn keys_of_a_cluster_are_followed_on_every_server() {
    let cluster = Cluster::start(&[]).await;
    let store = settings(&cluster.fields()).await.unwrap();
    let mut updates = store.subscribe(&Request::default()).await.unwrap();
    let binding = binding(&cluster.fields()).await;
    let mut missing: Vec<String> = (0..20).map(|number| format!("key {number}")).collect();
    for key in &missing {
        invoke(&*binding, "create", &[("key", key)], "v")
            .await
            .unwrap();
    }
    let patience = Duration::from_secs(20);
    let told = tokio::time::timeout(patience, async {
        while !missing.is_empty() {
            let items = updates.next().await.unwrap();
            missing.retain(|key| !items.contains_key(key));
        }
    });
    told.await.expect("the keys of all servers are told");
}

async fn binding(fields: &[(&str, &str)]) -> Arc<dyn OutputBinding> {
    let open = open("binding", fields);
    let opened = catalog().output_bindings.open("redis", "", open).await;
    opened.expect("a binding")
}

async fn invoke(
    binding: &dyn OutputBinding,
    operation: &str,
    metadata: &[(&str, &str)],
    data: &str,
) -> component::Result<InvokeResponse> {
    let pairs = metadata.iter();
    let request = InvokeRequest {
        operation: operation.to_owned(),
        data: Bytes::copy_from_slice(data.as_bytes()),
        metadata: pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    };
    binding.invoke(&request).await
}

#[tokio::test]
async fn the_binding_writes_reads_counts_and_deletes() {
    let server = Server::start(&[]).await;
    let binding = binding(&[("redisHost", &server.address)]).await;
    let key = [("key", "k")];
    let none = InvokeResponse::default();
    let lived = [("key", "k"), ("ttlInSeconds", "100")];
    let created = invoke(&*binding, "create", &lived, "5").await.unwrap();
    assert_eq!(created, none);
    let left: i64 = server.ask(&["TTL", "k"]).await.parse().unwrap();
    assert!((1..=100).contains(&left), "{left}");

    invoke(&*binding, "increment", &key, "").await.unwrap();
    let read = async |metadata: &[(&str, &str)]| {
        let read = invoke(&*binding, "get", metadata, "").await.unwrap();
        read.data.expect("an answer")
    };
    assert_eq!(read(&key).await, "6");
    assert_eq!(read(&[("key", "k"), ("delete", "true")]).await, "6");
    assert_eq!(read(&key).await, "");

    invoke(&*binding, "increment", &lived, "").await.unwrap();
    assert_eq!(server.ask(&["GET", "k"]).await, "1");
    assert_ne!(server.ask(&["TTL", "k"]).await, "-1");
    invoke(&*binding, "delete", &key, "").await.unwrap();
    assert_eq!(server.ask(&["EXISTS", "k"]).await, "0");

    for (operation, metadata) in [("create", &[][..]), ("list", &key[..])] {
        let refused = invoke(&*binding, operation, metadata, "")
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidRequest, "{operation}");
    }
}
