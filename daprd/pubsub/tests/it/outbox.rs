//! Transactions with an outbox: what is committed is published, and nothing else.

use std::{collections::BTreeMap, time::Duration};

use blocks::{Intake, Owner};
use component::{
    pubsub::{Backoff, Outcome, PublishRequest, Redelivery},
    state::{GetRequest, Operation, SetRequest},
};
use pubsub::{Transaction, outbox::Error};

use crate::{REDELIVERIES, World, declared, soon};

const STORE: [(&str, &str); 2] = [
    ("outboxPublishPubsub", "bus"),
    ("outboxPublishTopic", "orders"),
];
const INTERNAL: &str = "nsappordersoutbox";

/// An event whose transaction has failed.
const UNCOMMITTED: &str = r#"{"id":"outbox-none","data":"v"}"#;

async fn world(metadata: &[(&str, &str)]) -> World {
    over(Redelivery::Broker(Backoff::NONE), metadata).await
}

/// A world whose internal topic is subscribed to.
async fn over(redelivery: Redelivery, metadata: &[(&str, &str)]) -> World {
    let world = World::over(redelivery, "[]").await;
    let store = declared("store", "state.absent", metadata);
    world.state.apply(store).await.unwrap();
    soon(async {
        while metadata == STORE && !world.bus.topics().contains(&INTERNAL.to_owned()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    world
}

/// Lets time pass that otherwise stands still.
async fn pass(time: Duration) {
    let step = Duration::from_millis(100);
    for _ in 0..time.as_millis() / step.as_millis() {
        tokio::time::advance(step).await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
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
async fn of_no_commit(redelivery: Redelivery, metadata: &[(&str, &str)]) -> Option<Outcome> {
    let world = over(redelivery, metadata).await;
    soon(async {
        while !world.bus.topics().contains(&INTERNAL.to_owned()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    tokio::time::pause();
    world.bus.send(INTERNAL, "one", UNCOMMITTED, None).await;
    pass(Duration::from_secs(12)).await;
    let end = world.bus.end_now().await;
    tokio::time::resume();
    world.end().await;
    end.and_then(|(_, outcome)| outcome)
}

#[tokio::test]
async fn what_was_not_committed_is_discarded_where_the_store_says_so() {
    let [pubsub, topic] = STORE;
    let discards = ("outboxDiscardWhenMissingState", "true");
    for redelivery in REDELIVERIES {
        let outcome = of_no_commit(redelivery, &[pubsub, topic, discards]).await;
        assert_eq!(outcome, Some(Outcome::Drop), "{redelivery:?}");
        let kept = match redelivery {
            Redelivery::Broker(_) => Some(Outcome::Retry),
            _ => None,
        };
        let outcome = of_no_commit(redelivery, &STORE).await;
        assert_eq!(outcome, kept, "{redelivery:?}");
    }
}

/// What is committed is published once `absent` says so of nobody any more. Whoever delivers again: a broker that rejects what
/// it is told has failed, or that has none of its own, is told nothing.
async fn outlives(absent: impl Fn(&World, bool)) {
    for redelivery in REDELIVERIES {
        let world = over(redelivery, &STORE).await;
        transact(&world, vec![write("k", "v")]).await.unwrap();
        let first = world.bus.published().await;
        absent(&world, true);
        tokio::time::pause();
        world.bus.send(INTERNAL, "one", &text(&first), None).await;
        pass(Duration::from_secs(60)).await;
        let end = world.bus.end_now().await;
        absent(&world, false);
        if matches!(redelivery, Redelivery::Broker(_)) {
            assert_eq!(end, Some(("one".to_owned(), Some(Outcome::Retry))));
        } else {
            assert_eq!(end, None, "{redelivery:?}");
            pass(Duration::from_secs(31)).await;
            assert_eq!(world.bus.published().await.topic, "orders");
            let ended = world.bus.end().await;
            assert_eq!(ended, ("one".to_owned(), Some(Outcome::Ok)));
        }
        tokio::time::resume();
        world.end().await;
    }
}

#[tokio::test]
async fn what_is_committed_outlives_the_absence_of_its_broker() {
    outlives(|world, absent| world.bus.refuses("orders", absent)).await;
}

#[tokio::test]
async fn what_is_committed_outlives_the_absence_of_its_store() {
    outlives(|world, absent| world.absence.set(absent)).await;
}

/// The event of a transaction that failed waits for nothing, and nobody waits for it; what is committed keeps its order.
#[tokio::test]
async fn a_failed_transaction_holds_nobody_up() {
    for redelivery in REDELIVERIES {
        let world = over(redelivery, &STORE).await;
        let mut events = Vec::new();
        for value in ["1", "2", "3"] {
            transact(&world, vec![write("k", value)]).await.unwrap();
            events.push(text(&world.bus.published().await));
        }
        let mut deliveries = vec![("none", UNCOMMITTED)];
        deliveries.extend(
            ["1", "2", "3"]
                .into_iter()
                .zip(events.iter().map(|text| &**text)),
        );
        world
            .bus
            .send_ordered(INTERNAL, &deliveries, Some("k"))
            .await;
        for value in ["1", "2", "3"] {
            let published = world.bus.published().await;
            assert_eq!(published.topic, "orders");
            assert_eq!(field(&published, "data"), value, "{redelivery:?}");
            let ended = world.bus.end().await;
            assert_eq!(ended, (value.to_owned(), Some(Outcome::Ok)));
        }
        world.end().await;
    }
}

/// What nobody takes back takes up room, of which others need some.
#[tokio::test]
async fn of_many_failed_transactions_the_first_are_given_up() {
    let world = over(Redelivery::InPlace(Backoff::DEFAULT), &STORE).await;
    let names: Vec<String> = (0..12).map(|number| number.to_string()).collect();
    let deliveries: Vec<_> = names.iter().map(|name| (&**name, UNCOMMITTED)).collect();
    tokio::time::pause();
    world
        .bus
        .send_ordered(INTERNAL, &deliveries, Some("k"))
        .await;
    pass(Duration::from_secs(40)).await;
    for name in ["0", "1"] {
        let ended = world.bus.end_now().await;
        assert_eq!(ended, Some((name.to_owned(), Some(Outcome::Drop))));
    }
    assert_eq!(world.bus.end_now().await, None, "ten may wait");
    tokio::time::resume();
    world.end().await;
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
    world.bus.send(INTERNAL, "one", UNCOMMITTED, None).await;
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
