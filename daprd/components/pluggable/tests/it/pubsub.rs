//! A broker in a process of its own.

use std::{sync::Arc, time::Duration};

use component::{
    ErrorKind, PubSub,
    pubsub::{
        BulkEntry, BulkPublishRequest, Capability, Deliveries, Delivery, Ended, Outcome,
        PublishRequest, SubscribeRequest,
    },
};
use component_conformance::{open, pubsub};
use futures::FutureExt;
use proto::components::v1 as pb;

use crate::{
    queue::{self, Queue},
    server::{NAME, Served},
};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

async fn broker(served: &Served<Queue>) -> Arc<dyn PubSub> {
    let catalog = served.catalog().await;
    let open = open("mypubsub", &[("host", "there")]);
    let opened = catalog.pubsub.open(NAME, "v1", open).await;
    opened.expect("it opens")
}

fn serve() -> Served<Queue> {
    queue::serve(&[], |_| {})
}

fn publish(data: &'static str) -> PublishRequest {
    PublishRequest {
        topic: "t".to_owned(),
        data: data.into(),
        ..PublishRequest::default()
    }
}

async fn subscribe(broker: &dyn PubSub, topic: &str) -> component::Result<Deliveries> {
    let request = SubscribeRequest {
        topic: topic.to_owned(),
        ..SubscribeRequest::default()
    };
    broker.subscribe(request).await
}

async fn next(deliveries: &mut Deliveries) -> Result<Delivery, Ended> {
    let next = tokio::time::timeout(PATIENCE, deliveries.next()).await;
    next.expect("something comes")
}

fn error(ended: Result<Delivery, Ended>) -> component::Error {
    match ended.err().expect("it has ended") {
        Ended::Failed(error) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn it_keeps_what_brokers_promise() {
    let traits = pubsub::Traits {
        durable: true,
        metadata: true,
        one_at_a_time: true,
        ..pubsub::Traits::default()
    };
    for (features, table) in [
        (&["BULK_PUBSUB", "?"][..], &[Capability::BulkPublish][..]),
        (&[], &[]),
    ] {
        for pausable in [true, false] {
            let served = queue::serve(features, |queue| queue.pausable = pausable);
            let broker = broker(&served).await;
            pubsub::suite(broker.as_ref(), table, traits).await;
        }
    }
}

#[tokio::test]
async fn it_is_told_its_metadata_and_who_publishes() {
    let served = serve();
    let broker = broker(&served).await;
    broker.publish(&publish("m")).await.unwrap();
    let told = served.shared.told();
    assert_eq!(told.inits[0]["host"], "there");
    assert_eq!(told.publisher, "mypubsub");
}

#[tokio::test]
async fn its_errors_keep_their_code() {
    let served = serve();
    let broker = broker(&served).await;
    let request = PublishRequest {
        topic: "forbidden".to_owned(),
        ..publish("m")
    };
    let error = broker.publish(&request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert_eq!(error.grpc_code(), Some(7));
    assert_eq!(
        error.to_string(),
        "rpc error: code = PermissionDenied desc = not this topic"
    );
    // Whether at once or as the subscription's end.
    let refused = match subscribe(broker.as_ref(), "forbidden").await {
        Ok(mut deliveries) => self::error(next(&mut deliveries).await),
        Err(error) => error,
    };
    assert_eq!(refused.kind(), ErrorKind::Unauthorized);
}

#[tokio::test]
async fn a_bulk_publish_says_what_has_failed() {
    let served = queue::serve(&["bulk_pubsub"], |_| {});
    let broker = broker(&served).await;
    let entries = ["good", "bad"].map(|id| BulkEntry {
        entry_id: id.to_owned(),
        data: id.into(),
        ..BulkEntry::default()
    });
    let request = BulkPublishRequest {
        topic: "t".to_owned(),
        entries: entries.into(),
        ..BulkPublishRequest::default()
    };
    let results = broker.bulk_publish(&request).await.unwrap();
    assert!(results[0].result.is_ok());
    let problem = results[1].result.as_ref().unwrap_err();
    assert_eq!(problem.to_string(), "it is bad");
}

#[tokio::test]
async fn a_message_that_is_wanted_again_is_acknowledged_with_an_error() {
    let served = serve();
    let broker = broker(&served).await;
    let mut deliveries = subscribe(broker.as_ref(), "t").await.unwrap();
    broker.publish(&publish("m")).await.unwrap();
    for outcome in [Outcome::Retry, Outcome::Drop] {
        let delivery = next(&mut deliveries).await.unwrap();
        delivery.ack.settle(outcome).await.unwrap();
    }
    let queue = &served.shared;
    queue.wait("two answers", |told| told.acks.len() == 2).await;
    let problems: Vec<_> = queue
        .told()
        .acks
        .iter()
        .map(|(_, problem)| problem.is_some())
        .collect();
    assert_eq!(problems, [true, false]);
}

#[tokio::test]
async fn batches_are_more_than_one_message() {
    let served = serve();
    let broker = broker(&served).await;
    let request = SubscribeRequest {
        topic: "t".to_owned(),
        batch: Some(component::pubsub::Batching {
            most: 2,
            wait: Duration::from_secs(1),
        }),
        ..SubscribeRequest::default()
    };
    let mut deliveries = broker.subscribe(request).await.unwrap();
    for data in ["a", "b"] {
        broker.publish(&publish(data)).await.unwrap();
    }
    let first = next(&mut deliveries).await.unwrap();
    let second = next(&mut deliveries).await.unwrap();
    assert_eq!(
        (&*first.message.data, &*second.message.data),
        (&b"a"[..], &b"b"[..])
    );
}

#[tokio::test]
async fn a_message_that_is_given_back_comes_again_with_another_subscription() {
    let served = serve();
    let broker = broker(&served).await;
    let mut deliveries = subscribe(broker.as_ref(), "t").await.unwrap();
    broker.publish(&publish("m")).await.unwrap();
    drop(next(&mut deliveries).await.unwrap());
    let reason = error(next(&mut deliveries).await);
    assert!(reason.kind().is_transient());
    let mut deliveries = subscribe(broker.as_ref(), "t").await.unwrap();
    let delivery = next(&mut deliveries).await.unwrap();
    assert_eq!(delivery.message.data, "m");
    assert!(served.shared.told().acks.is_empty(), "without a word");
}

#[tokio::test]
async fn a_process_that_is_killed_in_the_middle_of_a_delivery_gets_it_anew() {
    let mut served = serve();
    let broker = broker(&served).await;
    let mut deliveries = subscribe(broker.as_ref(), "t").await.unwrap();
    broker.publish(&publish("m")).await.unwrap();
    let under_way = next(&mut deliveries).await.unwrap();
    served.kill();
    served.shared.forget();
    let reason = error(next(&mut deliveries).await);
    assert!(reason.kind().is_transient(), "{reason}");
    let lost = under_way.ack.settle(Outcome::Ok).await;
    assert_eq!(lost.unwrap_err().kind(), ErrorKind::Unavailable);
    let away = subscribe(broker.as_ref(), "t").await.err().unwrap();
    assert!(away.kind().is_transient(), "{away}");
    let away = broker.publish(&publish("n")).await.unwrap_err();
    assert!(away.kind().is_transient(), "{away}");

    served.come_back();
    let mut deliveries = subscribe(broker.as_ref(), "t").await.unwrap();
    let again = next(&mut deliveries).await.unwrap();
    assert_eq!(again.message.data, "m");
    again.ack.settle(Outcome::Ok).await.unwrap();
    let inits = served.shared.told().inits.clone();
    assert_eq!(inits.len(), 2, "it has its metadata again");
    assert_eq!(inits[0], inits[1]);
}

#[tokio::test]
async fn what_is_settled_is_told_before_a_subscription_ends() {
    let served = serve();
    let broker = broker(&served).await;
    let mut deliveries = subscribe(broker.as_ref(), "t").await.unwrap();
    for data in ["a", "b"] {
        broker.publish(&publish(data)).await.unwrap();
    }
    let first = next(&mut deliveries).await.unwrap();
    deliveries.pause(true);
    first.ack.settle(Outcome::Ok).await.unwrap();
    drop(deliveries);
    broker.close().await;
    let told = served.shared.told();
    assert_eq!(told.open, 0, "closed once the call is over");
    let acks = told.acks.clone();
    assert_eq!(acks, [("1".to_owned(), None)], "and nothing of the second");
}

#[tokio::test]
async fn a_pause_is_told_once_all_subscriptions_pause_and_taken_back_at_their_end() {
    let served = serve();
    let broker = broker(&served).await;
    let queue = &served.shared;
    let one = subscribe(broker.as_ref(), "one").await.unwrap();
    let other = subscribe(broker.as_ref(), "other").await.unwrap();
    queue.wait("both are open", |told| told.open == 2).await;
    one.pause(true);
    drop(subscribe(broker.as_ref(), "third").await.unwrap());
    queue.wait("the third is over", |told| told.open == 2).await;
    assert_eq!(queue.told().pauses, 0, "one of two");
    other.pause(true);
    queue.wait("a pause", |told| told.pauses == 1).await;
    drop((one, other));
    queue.wait("its end", |told| told.resumes == 1).await;
}

#[tokio::test]
async fn a_process_that_never_answers_its_metadata_can_be_given_up() {
    let served = queue::serve(&[], |queue| queue.silent = true);
    let catalog = served.catalog().await;
    let opening = catalog.pubsub.open(NAME, "v1", open("mypubsub", &[]));
    let queue = &served.shared;
    tokio::select! {
        _ = opening => panic!("it has opened"),
        () = queue.wait("its metadata", |told| told.initialising == 1) => {}
    }
    queue
        .wait("that it is given up", |told| told.initialising == 0)
        .await;
    assert!(queue.told().inits.is_empty());
}

#[tokio::test]
async fn odd_metadata_and_a_missing_topic_do_no_harm() {
    let served = serve();
    let broker = broker(&served).await;
    let mut deliveries = subscribe(broker.as_ref(), "t").await.unwrap();
    let odd = [
        ("", "\u{0}"),
        ("a\r\nb: c", "\u{7f}ü"),
        ("content-type", ""),
    ];
    let metadata = odd.map(|(key, value)| (key.to_owned(), value.to_owned()));
    served.shared.push(pb::PublishRequest {
        topic: "t".to_owned(),
        metadata: metadata.clone().into(),
        ..pb::PublishRequest::default()
    });
    let delivery = next(&mut deliveries).await.unwrap();
    assert_eq!(delivery.message.topic, "t");
    assert_eq!(delivery.message.metadata, metadata.into());
    assert_eq!(delivery.message.content_type, None);
}

#[tokio::test]
async fn a_closed_component_ends_its_subscriptions_and_refuses_calls() {
    let served = serve();
    let broker = broker(&served).await;
    let mut deliveries = subscribe(broker.as_ref(), "t").await.unwrap();
    broker.close().await;
    let ended = next(&mut deliveries).await.err();
    assert!(matches!(ended, Some(Ended::Closed)), "{ended:?}");
    let refused = broker.publish(&publish("m")).now_or_never().unwrap();
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unavailable);
    let queue = &served.shared;
    queue.wait("the end", |told| told.open == 0).await;
}
