//! A single server that is gone, was exchanged, or cannot be heard any more.

use component::ErrorKind;
use component_conformance::proxy::Proxy;

use crate::{
    broker, item, publish, receive, refused, server::Server, server::until, set, store, subscribe,
};

#[tokio::test]
async fn nobody_listening_is_told_with_the_address() {
    for kind in ["node", "cluster"] {
        let fields = [
            ("redisHost", "127.0.0.1:1"),
            ("redisType", kind),
            ("redisMaxRetries", "-1"),
        ];
        let text = refused(store(&fields).await, ErrorKind::Unavailable, "127.0.0.1:1");
        assert_eq!(text.matches("refused").count(), 1, "{text}");
    }
}

#[tokio::test]
async fn a_connection_that_broke_is_replaced() {
    let server = Server::start(&[]).await;
    let fields = [("redisHost", server.address.as_str())];
    let store = store(&fields).await.unwrap();
    store.set(&set("k", b"v")).await.unwrap();
    server.disconnect_all().await;
    assert!(item(&*store, "k").await.is_some());
}

#[tokio::test]
async fn a_connection_that_fell_silent_is_left() {
    let server = Server::start(&[]).await;
    let proxy = Proxy::start(&server.address).await;
    let fields = [
        ("redisHost", proxy.address.as_str()),
        ("readTimeout", "200ms"),
    ];
    let store = store(&fields).await.unwrap();
    let broker = broker(&fields).await.unwrap();
    let mut deliveries = subscribe(&*broker, "t").await;
    proxy.fall_silent();
    // It may have been carried out, so it is not sent again.
    let error = store.set(&set("k", b"v")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    store.set(&set("k", b"v")).await.unwrap();
    until("the broker is back", async || {
        publish(&*broker, "t", b"m").await.is_ok()
    })
    .await;
    assert_eq!(receive(&mut deliveries).await, &b"m"[..]);
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_is_followed() {
    let (old, new) = (Server::start(&[]).await, Server::start(&[]).await);
    let proxy = Proxy::start(&old.address).await;
    let fields = [("redisHost", proxy.address.as_str())];
    let store = store(&fields).await.unwrap();
    let broker = broker(&fields).await.unwrap();
    store.set(&set("before", b"v")).await.unwrap();
    proxy.lead_to(&new.address);
    old.ask(&["REPLICAOF", "127.0.0.1", &new.port.to_string()])
        .await;
    // The old server keeps the connection, and refuses what comes over it.
    store.set(&set("after", b"v")).await.unwrap();
    publish(&*broker, "t", b"m").await.unwrap();
    assert_eq!(new.ask(&["HGET", "after", "data"]).await, "v");
    assert_eq!(new.ask(&["XLEN", "t"]).await, "1");
}

#[tokio::test]
async fn a_server_that_starts_again_is_waited_for() {
    let server = Server::start(&[]).await;
    let proxy = Proxy::start(&server.address).await;
    let fields = [("redisHost", proxy.address.as_str())];
    let broker = broker(&fields).await.unwrap();
    drop(server);
    let before = proxy.attempts();
    let again = async {
        let more = "more attempts than a request has retries";
        until(more, async || proxy.attempts() > before + 4).await;
        let server = Server::start(&[]).await;
        proxy.lead_to(&server.address);
        server
    };
    let (published, server) = tokio::join!(publish(&*broker, "t", b"m"), again);
    published.unwrap();
    assert_eq!(server.ask(&["XLEN", "t"]).await, "1");
}
