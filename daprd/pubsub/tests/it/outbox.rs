//! Transactions with an outbox: what is committed is published, and nothing else.

use std::{collections::BTreeMap, time::Duration};

use blocks::{Intake, Owner};
use component::{
    pubsub::{Outcome, PublishRequest},
    state::{GetRequest, Operation, SetRequest},
};
use pubsub::{Transaction, outbox::Error};

use crate::{World, declared, soon};

const STORE: [(&str, &str); 2] = [
    ("outboxPublishPubsub", "bus"),
    ("outboxPublishTopic", "orders"),
];
const INTERNAL: &str = "nsappordersoutbox";

async fn world(metadata: &[(&str, &str)]) -> World {
    let world = World::new("[]").await;
    let store = declared("store", "state.in-memory", metadata);
    world.state.apply(store).await.unwrap();
    world
}

fn write(key: &str, value: &str) -> Operation {
    Operation::Upsert(SetRequest {
        key: key.to_owned(),
        value: value.to_owned().into(),
        ..SetRequest::default()
    })
}

async fn transact(world: &World, operations: Vec<Operation>) -> Result<(), Error> {
    let transaction = Transaction {
        store: "store".to_owned(),
        operations,
        ..Transaction::default()
    };
    world.engine.outbox().transact(transaction).await
}

async fn read(world: &World, key: &str) -> Option<String> {
    let request = GetRequest {
        key: key.to_owned(),
        ..GetRequest::default()
    };
    let item = world.state.raw("store").get(&request).await.unwrap()?;
    Some(String::from_utf8(item.value.to_vec()).unwrap())
}

fn text(published: &PublishRequest) -> String {
    String::from_utf8(published.data.to_vec()).unwrap()
}

fn field(published: &PublishRequest, name: &str) -> String {
    let event: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&published.data).unwrap();
    event[name].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_is_committed_is_published_and_then_forgotten() {
    let world = world(&STORE).await;
    transact(&world, vec![write("k", "v")]).await.unwrap();
    let first = world.bus.published().await;
    assert_eq!(first.topic, INTERNAL);
    let marker = field(&first, "id");
    assert!(marker.starts_with("outbox-"), "{marker}");
    assert_eq!(read(&world, "app||k").await.as_deref(), Some("v"));
    assert_eq!(read(&world, &marker).await.as_deref(), Some("0"));

    world.bus.send(INTERNAL, "one", &text(&first), None).await;
    let second = world.bus.published().await;
    assert_eq!(second.topic, "orders");
    assert_eq!(field(&second, "id"), marker);
    assert_eq!(field(&second, "data"), "v");
    let ended = world.bus.end().await;
    assert_eq!(ended, ("one".to_owned(), Some(Outcome::Ok)));
    soon(async {
        while read(&world, &marker).await.is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(read(&world, "app||k").await.as_deref(), Some("v"));
    world.end().await;
}

#[tokio::test]
async fn an_event_whose_publish_fails_stays_with_its_marker() {
    let (pubsub, topic) = (STORE[0], ("outboxPublishTopic", "broken"));
    let world = world(&[pubsub, topic]).await;
    transact(&world, vec![write("k", "v")]).await.unwrap();
    let first = world.bus.published().await;
    let internal = first.topic.clone();
    world.bus.send(&internal, "one", &text(&first), None).await;
    let ended = world.bus.end().await;
    assert_eq!(ended, ("one".to_owned(), Some(Outcome::Retry)));
    assert!(read(&world, &field(&first, "id")).await.is_some());
    world.end().await;
}

/// Time stands still but for what the test lets pass.
async fn of_no_commit(metadata: &[(&str, &str)]) -> Option<Outcome> {
    let world = world(metadata).await;
    soon(async {
        while !world.bus.topics().contains(&INTERNAL.to_owned()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    tokio::time::pause();
    let event = r#"{"id":"outbox-none","data":"v"}"#;
    world.bus.send(INTERNAL, "one", event, None).await;
    for _ in 0..20 {
        tokio::time::advance(Duration::from_millis(500)).await;
    }
    let (_, outcome) = world.bus.end().await;
    tokio::time::resume();
    world.end().await;
    outcome
}

#[tokio::test]
async fn what_was_not_committed_is_discarded_where_the_store_says_so() {
    let [pubsub, topic] = STORE;
    let discards = ("outboxDiscardWhenMissingState", "true");
    let outcome = of_no_commit(&[pubsub, topic, discards]).await;
    assert_eq!(outcome, Some(Outcome::Drop));
    assert_eq!(of_no_commit(&STORE).await, Some(Outcome::Retry));
}

#[tokio::test]
async fn nothing_is_committed_that_cannot_be_published() {
    let [pubsub, topic] = STORE;
    let world = world(&[pubsub, topic, ("outboxPubsub", "other")]).await;
    let error = transact(&world, vec![write("k", "v")]).await.unwrap_err();
    assert!(matches!(error, Error::Publish(_)), "{error}");
    assert_eq!(read(&world, "app||k").await, None);
    world.end().await;
}

#[tokio::test]
async fn an_event_goes_back_when_the_sidecar_stops_before_the_commit() {
    let world = world(&STORE).await;
    soon(async {
        while !world.bus.topics().contains(&INTERNAL.to_owned()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let event = r#"{"id":"outbox-none","data":"v"}"#;
    world.bus.send(INTERNAL, "one", event, None).await;
    world.engine.drain().await;
    assert_eq!(world.bus.end().await, ("one".to_owned(), None));
    world.end().await;
}

#[tokio::test]
async fn the_internal_topic_is_no_subscription_of_the_app() {
    let world = world(&STORE).await;
    transact(&world, vec![write("k", "v")]).await.unwrap();
    assert!(world.bus.topics().contains(&INTERNAL.to_owned()));
    assert!(world.engine.subscriptions().is_empty());
    // What is no event of an outbox touches no store.
    transact(&world, vec![write("outbox", "v")]).await.unwrap();
    world
        .bus
        .send(INTERNAL, "one", r#"{"id":"app||outbox"}"#, None)
        .await;
    let ended = world.bus.end().await;
    assert_eq!(ended, ("one".to_owned(), Some(Outcome::Drop)));
    assert!(read(&world, "app||outbox").await.is_some());
    world.state.remove("store").await;
    soon(async {
        while world.bus.topics().contains(&INTERNAL.to_owned()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    world.end().await;
}
