//! The suite for brokers. Cases are chosen by what a broker declares: its capabilities, and who delivers messages again.

mod under_way;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use component::{
    PubSub,
    pubsub::{
        BulkEntry, BulkPublishRequest, Capabilities, Capability, Deliveries, Delivery, Outcome,
        PublishRequest, Redelivery, SubscribeRequest,
    },
};
use uuid::Uuid;

/// Longest wait for a message.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longest wait for a message that must not come.
const SILENCE: Duration = Duration::from_millis(300);

/// What differs between brokers beside their capabilities.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traits {
    /// Messages are kept: settled ones do not come again, unsettled ones do, to whoever subscribes next.
    pub durable: bool,
    /// Metadata of a message arrive with it.
    pub metadata: bool,
    /// Wildcards stand for whole levels of a topic: `a/+`, not `a*`.
    pub levels: bool,
    /// A message waits until the one before it is settled.
    pub one_at_a_time: bool,
}

/// Runs the suite on topics of its own.
///
/// # Panics
/// With the name of the case that failed.
pub async fn suite(broker: &dyn PubSub, table: &[Capability], traits: Traits) {
    let table: Capabilities = table.iter().copied().collect();
    assert_eq!(broker.capabilities(), table, "declares what the table says");
    broker.ping().await.expect("answers a ping");
    delivers(broker, traits).await;
    delivers_again(broker).await;
    keeps_topics_apart(broker).await;
    under_way::cases(broker, traits).await;
    if traits.durable {
        gives_back(broker).await;
    }
    let has = |capability| table.contains(capability);
    let supported = has(Capability::SubscribeWildcards);
    wildcards(broker, supported, traits.levels).await;
    bulk(broker).await;
    broker.close().await;
}

fn topic(case: &str) -> String {
    format!("{case}-{}", Uuid::new_v4().simple())
}

fn message(topic: &str, data: &'static [u8]) -> PublishRequest {
    PublishRequest {
        topic: topic.to_owned(),
        data: Bytes::from_static(data),
        metadata: BTreeMap::from([("kind".to_owned(), "test".to_owned())]),
        ..PublishRequest::default()
    }
}

async fn subscribe(broker: &dyn PubSub, topic: &str) -> Deliveries {
    broker
        .subscribe(SubscribeRequest {
            topic: topic.to_owned(),
            ..SubscribeRequest::default()
        })
        .await
        .expect("a topic is subscribed to")
}

async fn next(deliveries: &mut Deliveries, case: &str) -> Delivery {
    tokio::time::timeout(PATIENCE, deliveries.next())
        .await
        .unwrap_or_else(|_| panic!("{case}: no message within {PATIENCE:?}"))
        .unwrap_or_else(|ended| panic!("{case}: the subscription ended: {ended:?}"))
}

async fn silent(deliveries: &mut Deliveries, case: &str) {
    let came = tokio::time::timeout(SILENCE, deliveries.next()).await;
    assert!(came.is_err(), "{case}: a message came that must not");
}

async fn settle(delivery: Delivery, outcome: Outcome) {
    delivery
        .ack
        .settle(outcome)
        .await
        .expect("a message is settled");
}

/// Publishing may wait for room at the subscriber, so both run side by side.
async fn publish(broker: &dyn PubSub, request: PublishRequest) {
    broker
        .publish(&request)
        .await
        .expect("a message is published");
}

async fn delivers(broker: &dyn PubSub, traits: Traits) {
    let topic = topic("delivers");
    let mut deliveries = subscribe(broker, &topic).await;
    let receive = async {
        for expected in [&b"\x00one\xff"[..], b"two", b""] {
            let delivery = next(&mut deliveries, "delivers").await;
            assert_eq!(delivery.message.topic, topic, "delivers: the topic");
            assert_eq!(
                delivery.message.data, expected,
                "delivers: the bytes, in order"
            );
            if traits.metadata {
                assert_eq!(
                    delivery.message.metadata["kind"], "test",
                    "delivers: metadata"
                );
            }
            settle(delivery, Outcome::Ok).await;
        }
    };
    let send = async {
        for data in [&b"\x00one\xff"[..], b"two", b""] {
            publish(broker, message(&topic, data)).await;
        }
    };
    futures::future::join(send, receive).await;
    silent(&mut deliveries, "delivers").await;
}

/// A message that is wanted again comes again, where that is the broker's part.
async fn delivers_again(broker: &dyn PubSub) {
    let topic = topic("again");
    let mut deliveries = subscribe(broker, &topic).await;
    let redelivery = deliveries.redelivery();
    let receive = async {
        let first = next(&mut deliveries, "again: first").await;
        match redelivery {
            Redelivery::InPlace(_) => return settle(first, Outcome::Drop).await,
            Redelivery::Never => return settle(first, Outcome::Retry).await,
            Redelivery::Reject => drop(first),
            Redelivery::Broker(_) => settle(first, Outcome::Retry).await,
        }
        let second = next(&mut deliveries, "again: after a retry or a release").await;
        assert_eq!(second.message.data, &b"m"[..], "again: the same message");
        let last = match redelivery {
            Redelivery::Reject => Outcome::Retry,
            _ => Outcome::Drop,
        };
        settle(second, last).await;
    };
    futures::future::join(publish(broker, message(&topic, b"m")), receive).await;
    silent(&mut deliveries, "again: after the last outcome").await;
}

async fn keeps_topics_apart(broker: &dyn PubSub) {
    let (one, other) = (topic("one"), topic("other"));
    let mut deliveries = subscribe(broker, &one).await;
    let mut others = subscribe(broker, &other).await;
    let receive = async {
        let delivery = next(&mut deliveries, "apart").await;
        settle(delivery, Outcome::Ok).await;
    };
    futures::future::join(publish(broker, message(&one, b"m")), receive).await;
    silent(&mut others, "apart").await;
}

/// A message that is dropped without a word, or was published while nobody listened, is there for the next subscriber.
async fn gives_back(broker: &dyn PubSub) {
    let topic = topic("kept");
    drop(subscribe(broker, &topic).await);
    publish(broker, message(&topic, b"m")).await;
    let mut deliveries = subscribe(broker, &topic).await;
    drop(next(&mut deliveries, "kept: published while nobody listened").await);
    drop(deliveries);
    let mut deliveries = subscribe(broker, &topic).await;
    let delivery = next(&mut deliveries, "kept: released").await;
    settle(delivery, Outcome::Ok).await;
    silent(&mut deliveries, "kept: settled").await;
}

async fn wildcards(broker: &dyn PubSub, supported: bool, levels: bool) {
    let topic = topic("wild");
    let (wildcard, rest) = match levels {
        true => ("/+", "/card"),
        false => ("*", "card"),
    };
    let mut deliveries = subscribe(broker, &format!("{topic}{wildcard}")).await;
    let name = format!("{topic}{rest}");
    if supported {
        let receive = async {
            let delivery = next(&mut deliveries, "wildcards").await;
            assert_eq!(
                delivery.message.topic, name,
                "wildcards: the topic published to"
            );
            settle(delivery, Outcome::Ok).await;
        };
        futures::future::join(publish(broker, message(&name, b"m")), receive).await;
    } else {
        publish(broker, message(&name, b"m")).await;
        silent(&mut deliveries, "wildcards: not declared").await;
    }
}

async fn bulk(broker: &dyn PubSub) {
    let topic = topic("bulk");
    let mut deliveries = subscribe(broker, &topic).await;
    let entries = ["a", "b"].map(|id| BulkEntry {
        entry_id: id.to_owned(),
        data: Bytes::from_static(id.as_bytes()),
        ..BulkEntry::default()
    });
    let request = BulkPublishRequest {
        topic,
        entries: entries.into(),
        ..BulkPublishRequest::default()
    };
    let receive = async {
        for _ in 0..2 {
            let delivery = next(&mut deliveries, "bulk").await;
            settle(delivery, Outcome::Ok).await;
        }
    };
    let (results, ()) = futures::future::join(broker.bulk_publish(&request), receive).await;
    let results = results.expect("bulk: is published");
    let ids: Vec<_> = results.iter().map(|row| &*row.entry_id).collect();
    assert_eq!(ids, ["a", "b"], "bulk: a result per entry, in order");
    assert!(
        results.iter().all(|row| row.result.is_ok()),
        "bulk: all succeed"
    );
}
