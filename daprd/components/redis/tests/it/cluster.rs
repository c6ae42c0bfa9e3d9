//! Servers that share the keys: every key on its own server, and whatever touches several.

use std::collections::BTreeMap;

use component::{
    ErrorKind,
    state::{GetRequest, KeysLikeRequest, Operation},
};

use crate::server::{Server, until};
use crate::usage::{conform, saves_and_deletes, works_over_tls};
use crate::{
    authority::Authority, broker, item, one_slot::OneSlot, publish, receive, refused, set, store,
    subscribe,
};

/// Keys that three servers share: one each.
const KEYS: [&str; 3] = ["a", "b", "c"];

pub struct Cluster {
    pub servers: Vec<Server>,
    /// All their addresses.
    pub hosts: String,
}

impl Cluster {
    pub async fn start(arguments: &[&str]) -> Self {
        let mut servers = Vec::new();
        for _ in KEYS {
            servers.push(member(arguments).await);
        }
        let hosts: Vec<_> = servers.iter().map(|server| &*server.address).collect();
        let mut create = tokio::process::Command::new("redis-cli");
        create
            .args(["--cluster-yes", "--cluster", "create"])
            .args(&hosts);
        if let Some(password) = &servers[0].password {
            create.env("REDISCLI_AUTH", password);
        }
        let output = create.output().await.expect("redis-cli is on the PATH");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        let cluster = Self {
            hosts: hosts.join(","),
            servers,
        };
        for server in &cluster.servers {
            until("the cluster stands", async || {
                let state = server.ask(&["CLUSTER", "INFO"]).await;
                state.contains("cluster_state:ok") && state.contains("cluster_known_nodes:3")
            })
            .await;
        }
        cluster
    }

    pub fn fields(&self) -> [(&str, &str); 2] {
        [("redisHost", &self.hosts), ("redisType", "cluster")]
    }

    async fn sizes(&self) -> Vec<String> {
        let mut sizes = Vec::new();
        for server in &self.servers {
            sizes.push(server.ask(&["DBSIZE"]).await);
        }
        sizes
    }
}

pub async fn member(arguments: &[&str]) -> Server {
    let member = ["--cluster-enabled", "yes", "--cluster-node-timeout", "500"];
    Server::start(&[&member[..], arguments].concat()).await
}

fn read(key: &str) -> GetRequest {
    GetRequest {
        key: key.to_owned(),
        ..GetRequest::default()
    }
}

fn upsert(key: &str, etag: &str) -> Operation {
    let mut request = set(key, b"2");
    request.etag = Some(etag.to_owned());
    Operation::Upsert(request)
}

#[tokio::test]
async fn keys_of_every_server_are_reached() {
    let cluster = Cluster::start(&[]).await;
    let store = store(&cluster.fields()).await.unwrap();
    saves_and_deletes(&*store).await;
    let all = KEYS.map(|key| set(key, b"1")).to_vec();
    store.bulk_set(&all).await.unwrap();
    assert_eq!(cluster.sizes().await, ["1", "1", "1"]);
    for row in store.bulk_get(&KEYS.map(read), 2).await.unwrap() {
        assert_eq!(&row.result.unwrap().unwrap().value[..], b"1", "{}", row.key);
    }

    let writes = KEYS.map(|key| upsert(key, "1")).to_vec();
    store.transact(&writes, &BTreeMap::new()).await.unwrap();
    for key in KEYS {
        let item = item(&*store, key).await.unwrap();
        assert_eq!(
            (&item.value[..], item.etag.as_deref()),
            (&b"2"[..], Some("2"))
        );
    }
    let writes = vec![upsert("a", "1"), upsert("{a}2", "")];
    let error = store.transact(&writes, &BTreeMap::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::EtagMismatch);
    assert!(item(&*store, "{a}2").await.is_none(), "one slot, one unit");

    // Keys that are no text cannot be a sidecar's; more of them than one step of a listing looks at.
    let mut foreign = redis::pipe();
    for number in 0..2000_u16 {
        let key = [&b"{b}\xff"[..], &number.to_be_bytes()].concat();
        foreign.cmd("SET").arg(key).arg(1).ignore();
    }
    let mut other = cluster.servers[0].connection().await;
    let () = foreign.query_async(&mut other).await.unwrap();
    let request = KeysLikeRequest {
        pattern: "%".into(),
        page_size: Some(2),
        continuation: None,
    };
    let first = store.keys_like(&request).await.unwrap();
    assert_eq!(first.keys, ["a", "b"]);
    let continuation = first.continuation;
    let last = store
        .keys_like(&KeysLikeRequest {
            continuation,
            ..request
        })
        .await
        .unwrap();
    assert_eq!((last.keys, last.continuation), (vec!["c".to_owned()], None));
    let gone = KEYS.map(|key| component::state::DeleteRequest {
        key: key.into(),
        ..Default::default()
    });
    store.bulk_delete(&gone).await.unwrap();
    for key in KEYS {
        assert!(item(&*store, key).await.is_none());
    }
}

#[tokio::test]
async fn state_and_pubsub_conform() {
    let cluster = Cluster::start(&[]).await;
    let store = OneSlot(store(&cluster.fields()).await.unwrap());
    let fields = [&cluster.fields()[..], &[("readTimeout", "-1")]].concat();
    let broker = broker(&fields).await.unwrap();
    for topic in KEYS {
        let mut deliveries = subscribe(&*broker, topic).await;
        publish(&*broker, topic, b"m").await.unwrap();
        assert_eq!(receive(&mut deliveries).await, &b"m"[..]);
    }
    conform(&store, &fields).await;
}

#[tokio::test]
async fn broken_connections_and_moved_slots_are_followed() {
    let cluster = Cluster::start(&[]).await;
    // One of several addresses is enough.
    let hosts = format!("127.0.0.1:1,{}", cluster.servers[2].address);
    let fields = [("redisHost", hosts.as_str()), ("redisType", "cluster")];
    let store = store(&fields).await.unwrap();
    let broker = broker(&fields).await.unwrap();
    let mut deliveries = subscribe(&*broker, "topic").await;
    for server in &cluster.servers {
        server.disconnect_all().await;
    }
    for key in KEYS {
        store.set(&set(key, b"v")).await.unwrap();
    }
    publish(&*broker, "topic", b"m").await.unwrap();
    assert_eq!(receive(&mut deliveries).await, &b"m"[..]);

    // A redirection is none of the retries that a component can do without.
    let fields = [&fields[..], &[("redisMaxRetries", "-1")]].concat();
    let store = crate::store(&fields).await.unwrap();
    // A slot of the first server.
    let slot = cluster.servers[0]
        .ask(&["CLUSTER", "KEYSLOT", "moved"])
        .await;
    let target = &cluster.servers[2];
    let id = target.ask(&["CLUSTER", "MYID"]).await;
    // Who gives it away has to be the last to hear of it.
    for server in cluster.servers.iter().rev() {
        server
            .ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &id])
            .await;
    }
    store.set(&set("moved", b"v")).await.unwrap();
    assert_eq!(target.ask(&["HGET", "moved", "data"]).await, "v");
}

#[tokio::test]
async fn a_server_alone_is_no_cluster() {
    let server = Server::start(&[]).await;
    let fields = [
        ("redisHost", server.address.as_str()),
        ("redisType", "cluster"),
        ("redisMaxRetries", "-1"),
    ];
    let text = refused(store(&fields).await, ErrorKind::Internal, &server.address);
    assert!(text.contains("cluster support disabled"), "{text}");
}

#[tokio::test]
async fn members_may_speak_tls() {
    let Some(authority) = Authority::trusted("cluster::members_may_speak_tls").await else {
        return;
    };
    let alone = ["--cluster-enabled", "yes"];
    let server = Server::start_tls(&authority.issue(), &alone).await;
    server
        .ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"])
        .await;
    until("the cluster stands", async || {
        let state = server.ask(&["CLUSTER", "INFO"]).await;
        state.contains("cluster_state:ok")
    })
    .await;
    let own = authority.issue();
    let reach = [
        ("redisHost", server.address.as_str()),
        ("redisType", "cluster"),
        ("enableTLS", "true"),
        ("clientCert", &own.certificate),
        ("clientKey", &own.key),
    ];
    works_over_tls(&reach).await;
    let fields = [&reach[..3], &[("redisMaxRetries", "-1")]].concat();
    refused(
        store(&fields).await,
        ErrorKind::Unavailable,
        &server.address,
    );
}
