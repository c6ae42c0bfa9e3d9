//! Servers that sentinels watch: found through them, and found again after another one has taken over.

use component::{ErrorKind, state::Consistency};

use crate::server::{Server, until};
use crate::usage::{InUse, conform, saves_and_deletes, works_over_tls};
use crate::{authority::Authority, broker, item, publish, receive, refused, set, store, subscribe};

/// A server, another that follows it, and who watches both.
pub struct Watched {
    pub master: Server,
    pub replica: Server,
    pub sentinel: Server,
}

impl Watched {
    pub async fn start(arguments: &[&str], sentinel: &str) -> Self {
        Self::start_with(&[], arguments, sentinel).await
    }

    /// With further arguments for the first master alone.
    async fn start_with(of_master: &[&str], arguments: &[&str], sentinel: &str) -> Self {
        let master = Server::start(&[arguments, of_master].concat()).await;
        let port = master.port.to_string();
        let follow = ["--replicaof", "127.0.0.1", &port];
        let replica = Server::start(&[arguments, &follow].concat()).await;
        until("the replica follows", async || {
            let state = replica.ask(&["INFO", "replication"]).await;
            state.contains("master_link_status:up")
        })
        .await;
        let sentinel = Server::sentinel(&master, sentinel).await;
        let watched = Self {
            master,
            replica,
            sentinel,
        };
        until("the sentinel knows the replica", async || {
            let state = watched.ask_sentinel("REPLICAS").await;
            state.contains("master-link-status\nok")
        })
        .await;
        watched
    }

    pub fn fields(&self) -> [(&str, &str); 3] {
        [
            ("redisHost", &self.sentinel.address),
            ("failover", "true"),
            ("sentinelMasterName", "main"),
        ]
    }

    async fn ask_sentinel(&self, what: &str) -> String {
        self.sentinel.ask(&["SENTINEL", what, "main"]).await
    }
}

#[tokio::test]
async fn state_and_pubsub_conform() {
    let watched = Watched::start(&[], "").await;
    let store = store(&watched.fields()).await.unwrap();
    let mut strong = set("strong", b"v");
    strong.consistency = Consistency::Strong;
    store.set(&strong).await.unwrap();
    assert_eq!(watched.replica.ask(&["HGET", "strong", "data"]).await, "v");
    conform(&*store, &watched.fields()).await;
}

#[tokio::test]
async fn a_planned_change_is_followed() {
    // The sentinel would make a replica of the old one after some seconds, and break its connections: sooner or later than
    // the component follows by itself, which is the question here.
    let refuses = ["--rename-command", "SLAVEOF", ""];
    let watched = Watched::start_with(&refuses, &[], "").await;
    let store = store(&watched.fields()).await.unwrap();
    let broker = broker(&watched.fields()).await.unwrap();
    let mut deliveries = subscribe(&*broker, "t").await;
    // What a replica has not got yet is lost when it takes over, unless a caller asked to wait for it.
    let mut before = set("before", b"v");
    before.consistency = Consistency::Strong;
    store.set(&before).await.unwrap();
    publish(&*broker, "t", b"before").await.unwrap();
    assert_eq!(receive(&mut deliveries).await, &b"before"[..]);
    until("the replica has the event", async || {
        watched.replica.ask(&["XLEN", "t"]).await == "1"
    })
    .await;
    watched.ask_sentinel("FAILOVER").await;
    until("the replica is in charge", async || {
        let named = watched.ask_sentinel("GET-MASTER-ADDR-BY-NAME").await;
        named.ends_with(&watched.replica.port.to_string())
    })
    .await;
    // The old one goes on taking writes, which nobody sees any more.
    until("the store follows", async || {
        store.set(&set("after", b"v")).await.unwrap();
        watched.replica.ask(&["HGET", "after", "data"]).await == "v"
    })
    .await;
    until("the broker follows", async || {
        publish(&*broker, "t", b"after").await.unwrap();
        watched.replica.ask(&["XLEN", "t"]).await == "2"
    })
    .await;
    assert!(watched.master.ask(&["ROLE"]).await.starts_with("master"));
    assert_eq!(receive(&mut deliveries).await, &b"after"[..]);
    assert!(watched.master.ask(&["ROLE"]).await.starts_with("master"));
    assert!(item(&*store, "before").await.is_some());
}

#[tokio::test]
async fn nobody_listens_for_a_closed_component() {
    let master = Server::start(&[]).await;
    let sentinel = Server::sentinel(&master, "").await;
    let fields = [
        ("redisHost", sentinel.address.as_str()),
        ("failover", "true"),
        ("sentinelMasterName", "main"),
    ];
    let listeners = async || {
        let clients = sentinel.ask(&["CLIENT", "LIST"]).await;
        clients.matches(" sub=1 ").count()
    };
    let store = store(&fields).await.unwrap();
    let broker = broker(&fields).await.unwrap();
    let forgotten = crate::store(&fields).await.unwrap();
    until("all listen", async || listeners().await == 3).await;
    store.close().await;
    broker.close().await;
    drop(forgotten);
    until("nobody listens", async || listeners().await == 0).await;
}

#[tokio::test]
async fn a_dead_server_is_left() {
    let watched = Watched::start(&[], "").await;
    let mut used = InUse::open(&watched.fields(), "t").await;
    used.delivers().await;
    drop(watched.master);
    used.goes_on_at(&watched.replica, "after").await;
}

#[tokio::test]
async fn a_silent_server_is_left() {
    let watched = Watched::start(&[], "").await;
    let patience = [("readTimeout", "300ms"), ("dialTimeout", "300ms")];
    let fields = [&watched.fields()[..], &patience].concat();
    let mut used = InUse::open(&fields, "t").await;
    watched.master.stop().await;
    used.goes_on_at(&watched.replica, "after").await;
}

#[tokio::test]
async fn sentinels_have_passwords_of_their_own() {
    let master = Server::start(&[]).await;
    let lines = "requirepass watch\nuser app on >secret ~* &* +@all";
    let sentinel = Server::sentinel(&master, lines).await;
    let reach = [
        ("redisHost", sentinel.address.as_str()),
        ("failover", "true"),
        ("sentinelMasterName", "main"),
        ("redisMaxRetries", "-1"),
    ];
    for right in [
        &[("sentinelPassword", "watch")][..],
        &[("sentinelUsername", "app"), ("sentinelPassword", "secret")],
    ] {
        let fields = [&reach, right].concat();
        saves_and_deletes(&*store(&fields).await.unwrap()).await;
    }
    for wrong in [
        &[][..],
        &[("sentinelPassword", "wrong")],
        &[("redisPassword", "watch")],
    ] {
        let fields = [&reach, wrong].concat();
        let opened = store(&fields).await;
        refused(opened, ErrorKind::Unauthorized, &sentinel.address);
    }
}

#[tokio::test]
async fn any_sentinel_that_answers_will_do() {
    let master = Server::start(&[]).await;
    let sentinel = Server::sentinel(&master, "").await;
    let hosts = format!("127.0.0.1:1, {}", sentinel.address);
    let reach = [
        ("redisHost", hosts.as_str()),
        ("failover", "true"),
        ("redisMaxRetries", "-1"),
    ];
    let name = |name| [&reach[..], &[("sentinelMasterName", name)]].concat();
    saves_and_deletes(&*store(&name("main")).await.unwrap()).await;
    let text = refused(
        store(&name("other")).await,
        ErrorKind::Unavailable,
        &sentinel.address,
    );
    assert!(text.contains("other"), "{text}");
}

#[tokio::test]
async fn names_that_nobody_knows_are_told() {
    let master = Server::start(&[]).await;
    let sentinel = Server::sentinel(&master, "").await;
    let reach = [
        ("redisHost", sentinel.address.as_str()),
        ("failover", "true"),
        ("redisMaxRetries", "-1"),
    ];
    let other = [&reach[..], &[("sentinelMasterName", "other")]].concat();
    let text = refused(
        store(&other).await,
        ErrorKind::Unavailable,
        &sentinel.address,
    );
    assert!(text.contains("other"), "{text}");
    let error = store(&reach).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidMetadata);
    assert!(error.to_string().contains("sentinelMasterName"), "{error}");
}

#[tokio::test]
async fn sentinels_and_servers_may_speak_tls() {
    let test = "sentinel::sentinels_and_servers_may_speak_tls";
    let Some(authority) = Authority::trusted(test).await else {
        return;
    };
    let identity = authority.issue();
    let master = Server::start_tls(&identity, &[]).await;
    let sentinel = Server::sentinel_tls(&identity, &master).await;
    let own = authority.issue();
    let reach = [
        ("redisHost", sentinel.address.as_str()),
        ("failover", "true"),
        ("sentinelMasterName", "main"),
        ("enableTLS", "true"),
        ("clientCert", &own.certificate),
        ("clientKey", &own.key),
    ];
    works_over_tls(&reach).await;
}
