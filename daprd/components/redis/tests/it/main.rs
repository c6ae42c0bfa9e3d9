//! The components of Redis against the suites that every family runs, and what is their own: layout, streams, and the ways
//! in which servers are reached and belong together.

mod access;
mod authority;
mod cluster;
mod keys;
mod one_slot;
mod outage;
mod quiet;
mod sentinel;
mod server;
mod several;
mod takeover;
mod tls;
mod usage;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use component::{
    Catalog, ErrorKind, PubSub, StateStore,
    pubsub::{Deliveries, Outcome, PublishRequest, SubscribeRequest},
    state::{Concurrency, GetRequest, SetRequest},
};
use component_conformance::{fields, open, pubsub, state, table};
use redis::AsyncCommands;
use server::Server;
use usage::{QUICK, TRAITS};

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    component_redis::register(&mut catalog).expect("no name is taken twice");
    catalog
}

async fn store(fields: &[(&str, &str)]) -> component::Result<Arc<dyn StateStore>> {
    catalog()
        .state
        .open("redis", "", open("store", fields))
        .await
}

async fn broker(fields: &[(&str, &str)]) -> component::Result<Arc<dyn PubSub>> {
    catalog()
        .pubsub
        .open("redis", "", open("broker", fields))
        .await
}

fn set(key: &str, value: &'static [u8]) -> SetRequest {
    SetRequest {
        key: key.to_owned(),
        value: Bytes::from_static(value),
        ..SetRequest::default()
    }
}

async fn item(store: &dyn StateStore, key: &str) -> Option<component::state::Item> {
    let request = GetRequest {
        key: key.to_owned(),
        ..GetRequest::default()
    };
    store.get(&request).await.expect("a key is read")
}

async fn subscribe(broker: &dyn PubSub, topic: &str) -> Deliveries {
    let request = SubscribeRequest {
        topic: topic.to_owned(),
        ..SubscribeRequest::default()
    };
    broker.subscribe(request).await.expect("a subscription")
}

async fn publish(broker: &dyn PubSub, topic: &str, data: &'static [u8]) -> component::Result<()> {
    let request = PublishRequest {
        topic: topic.to_owned(),
        data: Bytes::from_static(data),
        ..PublishRequest::default()
    };
    broker.publish(&request).await
}

/// The next message, settled.
async fn receive(deliveries: &mut Deliveries) -> Bytes {
    let delivery = tokio::time::timeout(Duration::from_secs(20), deliveries.next()).await;
    let delivery = delivery.expect("in time").expect("a message");
    delivery.ack.settle(Outcome::Ok).await.expect("is settled");
    delivery.message.data
}

/// An error of a component that could not be opened: of this kind, about this server.
fn refused<T>(opened: component::Result<T>, kind: ErrorKind, server: &str) -> String {
    let error = opened.err().expect("is refused");
    let text = component::error::chain(&error);
    assert_eq!(error.kind(), kind, "{text}");
    let names = error.to_string();
    assert!(names.contains("redis") && names.contains(server), "{names}");
    text
}

#[test]
fn fields_are_declared_as_the_reference_lists_them() {
    fields::suite(&catalog());
}

#[tokio::test]
async fn state_conforms() {
    let server = Server::start(&[]).await;
    let store = store(&[("redisHost", &server.address)]).await.unwrap();
    state::suite(&*store, table::row(table::STATE, "redis")).await;
}

#[tokio::test]
async fn pubsub_conforms() {
    let server = Server::start(&[]).await;
    let own = [
        ("redisHost", server.address.as_str()),
        ("consumerID", "group"),
    ];
    let broker = broker(&[&own[..], &QUICK].concat()).await.unwrap();
    pubsub::suite(&*broker, table::row(table::PUBSUB, "redis"), TRAITS).await;
    let closed = broker
        .publish(&PublishRequest::default())
        .await
        .unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn hashes_are_laid_out_as_other_sidecars_know_them() {
    let server = Server::start(&[]).await;
    let mut other = server.connection().await;
    let store = store(&[("redisHost", &server.address)]).await.unwrap();
    let mut first = set("new", b"\x00\xff");
    first.concurrency = Concurrency::FirstWrite;
    store.set(&first).await.unwrap();
    let fields: HashMap<String, Vec<u8>> = other.hgetall("new").await.unwrap();
    assert_eq!(fields["data"], b"\x00\xff");
    assert_eq!(fields["version"], b"1");
    assert_eq!(fields["first-write"], b"0");

    let () = other
        .hset_multiple("old", &[("data", "v"), ("version", "41")])
        .await
        .unwrap();
    assert_eq!(
        item(&*store, "old").await.unwrap().etag.as_deref(),
        Some("41")
    );
    let mut update = set("old", b"w");
    update.etag = Some("41".into());
    store.set(&update).await.unwrap();
    assert_eq!(
        item(&*store, "old").await.unwrap().etag.as_deref(),
        Some("42")
    );

    let () = other.set("plain", "text").await.unwrap();
    let plain = item(&*store, "plain").await.unwrap();
    assert_eq!((&plain.value[..], plain.etag), (&b"text"[..], None));
    store.set(&set("plain", b"hash")).await.unwrap();
    assert_eq!(&item(&*store, "plain").await.unwrap().value[..], b"hash");
}

#[tokio::test]
async fn keys_live_as_long_as_the_store_says() {
    let server = Server::start(&[]).await;
    let fields = [
        ("redisHost", server.address.as_str()),
        ("ttlInSeconds", "100"),
    ];
    let store = store(&fields).await.unwrap();
    store.set(&set("k", b"v")).await.unwrap();
    let item = item(&*store, "k").await.unwrap();
    assert!(item.metadata.contains_key("ttlExpireTime"));
}

/// What is given back, by an outcome or without a word, is pending like anything else: not before it has been for as long as
/// the metadata say is it delivered again, whoever had it.
#[tokio::test]
async fn a_message_given_back_is_pending_for_its_time() {
    let server = Server::start(&[]).await;
    let fields = [
        ("redisHost", server.address.as_str()),
        ("processingTimeout", "1s"),
        ("redeliverInterval", "50ms"),
    ];
    let broker = broker(&fields).await.unwrap();
    let mut deliveries = subscribe(&*broker, "t").await;
    publish(&*broker, "t", b"m").await.unwrap();
    let mut delivery = deliveries.next().await.unwrap();
    for give_back in [true, false] {
        let since = Instant::now();
        match give_back {
            true => delivery.ack.settle(Outcome::Retry).await.unwrap(),
            false => drop(delivery),
        }
        let again = tokio::time::timeout(Duration::from_secs(20), deliveries.next()).await;
        delivery = again.expect("in time").expect("a message");
        // It became pending a little before we had it.
        let pending = since.elapsed();
        assert!(pending > Duration::from_millis(800), "{pending:?}");
    }
    delivery.ack.settle(Outcome::Ok).await.unwrap();
}

async fn length(server: &Server, topic: &str) -> usize {
    server
        .connection()
        .await
        .xlen(topic)
        .await
        .expect("a length")
}

#[tokio::test]
async fn streams_are_laid_out_and_trimmed_as_configured() {
    let server = Server::start(&["--stream-node-max-entries", "10"]).await;
    let fields = [
        ("redisHost", server.address.as_str()),
        ("consumerID", "group"),
        ("maxLenApprox", "10"),
    ];
    let broker = broker(&fields).await.unwrap();
    for _ in 0..200 {
        let request = PublishRequest {
            topic: "t".into(),
            data: Bytes::from_static(b"d"),
            metadata: [("a".to_owned(), "b".to_owned())].into(),
            ..PublishRequest::default()
        };
        broker.publish(&request).await.unwrap();
    }
    let left = length(&server, "t").await;
    assert!((10..100).contains(&left), "{left}");
    let entries: redis::streams::StreamRangeReply = server
        .connection()
        .await
        .xrange_count("t", "-", "+", 1)
        .await
        .unwrap();
    let entry = &entries.ids[0];
    assert_eq!(entry.get::<String>("data").unwrap(), "d");
    assert_eq!(entry.get::<String>("metadata").unwrap(), "{\"a\":\"b\"}");
}

#[tokio::test]
async fn pending_messages_that_left_the_stream_are_forgotten() {
    let server = Server::start(&[]).await;
    let mut other = server.connection().await;
    let () = other
        .xgroup_create_mkstream("t", "group", "0")
        .await
        .unwrap();
    let id: String = other.xadd("t", "*", &[("data", "d")]).await.unwrap();
    let read = redis::streams::StreamReadOptions::default().group("group", "dead");
    let _: redis::Value = other.xread_options(&["t"], &[">"], &read).await.unwrap();
    let _: i64 = other.xdel("t", &[id]).await.unwrap();
    let fields = [
        ("redisHost", server.address.as_str()),
        ("consumerID", "group"),
        ("processingTimeout", "1ms"),
        ("redeliverInterval", "50ms"),
    ];
    let broker = broker(&fields).await.unwrap();
    let request = SubscribeRequest {
        topic: "t".into(),
        ..SubscribeRequest::default()
    };
    let _deliveries = broker.subscribe(request).await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let pending: redis::streams::StreamPendingReply =
            other.xpending("t", "group").await.unwrap();
        if pending.count() == 0 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "still pending");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn no_more_messages_are_handled_than_allowed() {
    let server = Server::start(&[]).await;
    let fields = [
        ("redisHost", server.address.as_str()),
        ("consumerID", "group"),
        ("concurrency", "2"),
    ];
    let broker = broker(&fields).await.unwrap();
    let request = SubscribeRequest {
        topic: "t".into(),
        ..SubscribeRequest::default()
    };
    let mut deliveries = broker.subscribe(request).await.unwrap();
    for _ in 0..3 {
        let request = PublishRequest {
            topic: "t".into(),
            ..PublishRequest::default()
        };
        broker.publish(&request).await.unwrap();
    }
    let first = deliveries.next().await.unwrap();
    let _second = deliveries.next().await.unwrap();
    let third = tokio::time::timeout(Duration::from_millis(200), deliveries.next()).await;
    assert!(third.is_err(), "a third message came");
    first.ack.settle(Outcome::Ok).await.unwrap();
    deliveries.next().await.unwrap();
}
