//! Messages under way: order, batches, limits, pauses, and ends in the middle.

use std::collections::BTreeSet;

use component::{
    PubSub,
    pubsub::{Delivery, Limits, Outcome, Redelivery, SubscribeRequest},
};
use futures::{FutureExt, future::join};

use super::{Traits, message, next, publish, settle, silent, subscribe, topic};

pub async fn cases(broker: &dyn PubSub, traits: Traits) {
    keeps_order(broker).await;
    if traits.one_at_a_time {
        waits_for_the_one_before(broker).await;
    } else {
        settles_in_parts(broker, traits).await;
        waits_for_room(broker).await;
    }
    pauses(broker).await;
    survives_a_cut(broker).await;
    if traits.durable {
        loses_nothing_at_shutdown(broker, traits).await;
    }
}

async fn publish_all(broker: &dyn PubSub, topic: &str, all: &[&'static str]) {
    for data in all {
        publish(broker, message(topic, data.as_bytes())).await;
    }
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.message.data).into_owned()
}

/// Where a broker gives an order, a message that it delivers again comes before the ones behind it.
async fn keeps_order(broker: &dyn PubSub) {
    let topic = topic("order");
    let mut deliveries = subscribe(broker, &topic).await;
    let broker_redelivers = matches!(deliveries.redelivery(), Redelivery::Broker(_));
    let receive = async {
        let first = next(&mut deliveries, "order").await;
        let ordered = first.order_key.is_some();
        assert_eq!(text(&first), "a", "order: as published");
        if ordered && broker_redelivers {
            settle(first, Outcome::Retry).await;
            let again = next(&mut deliveries, "order: after a retry").await;
            assert_eq!(text(&again), "a", "order: again before the next");
            settle(again, Outcome::Ok).await;
        } else {
            settle(first, Outcome::Ok).await;
        }
        let second = next(&mut deliveries, "order: the next").await;
        assert_eq!(text(&second), "b", "order: the next");
        settle(second, Outcome::Ok).await;
    };
    join(publish_all(broker, &topic, &["a", "b"]), receive).await;
    silent(&mut deliveries, "order: all settled").await;
}

/// The next message comes once the one before it is settled, and not before.
async fn waits_for_the_one_before(broker: &dyn PubSub) {
    let topic = topic("one");
    let mut deliveries = subscribe(broker, &topic).await;
    let receive = async {
        let first = next(&mut deliveries, "one: the first").await;
        silent(&mut deliveries, "one: the first is under way").await;
        settle(first, Outcome::Ok).await;
        let second = next(&mut deliveries, "one: the second").await;
        settle(second, Outcome::Ok).await;
    };
    join(publish_all(broker, &topic, &["a", "b"]), receive).await;
}

/// Of several messages at once, each has its own outcome.
async fn settles_in_parts(broker: &dyn PubSub, traits: Traits) {
    let topic = topic("parts");
    let mut deliveries = subscribe(broker, &topic).await;
    let broker_redelivers = matches!(deliveries.redelivery(), Redelivery::Broker(_));
    let receive = async {
        let mut taken: Vec<Delivery> = Vec::new();
        while taken.len() < 3 {
            taken.push(next(&mut deliveries, "parts").await);
        }
        for delivery in taken {
            match &*text(&delivery) {
                "a" => settle(delivery, Outcome::Ok).await,
                "b" if broker_redelivers => settle(delivery, Outcome::Retry).await,
                "c" if broker_redelivers && traits.durable => drop(delivery),
                _ => settle(delivery, Outcome::Drop).await,
            }
        }
        let mut expected = BTreeSet::new();
        if broker_redelivers {
            expected.insert("b".to_owned());
        }
        if broker_redelivers && traits.durable {
            expected.insert("c".to_owned());
        }
        while !expected.is_empty() {
            let again = next(&mut deliveries, "parts: what is left").await;
            let text = text(&again);
            assert!(expected.remove(&text), "parts: {text} came again");
            settle(again, Outcome::Ok).await;
        }
    };
    join(publish_all(broker, &topic, &["a", "b", "c"]), receive).await;
    silent(&mut deliveries, "parts: all settled").await;
}

/// A slow subscriber gets as many bytes as it allows, and more once there is room.
async fn waits_for_room(broker: &dyn PubSub) {
    const LARGE: &[u8] = &[b'x'; 10_000];
    let topic = topic("room");
    let request = SubscribeRequest {
        topic: topic.clone(),
        limits: Limits {
            bytes: LARGE.len() * 5 / 2,
            ..Limits::default()
        },
        ..SubscribeRequest::default()
    };
    let mut deliveries = broker.subscribe(request).await.expect("room: subscribes");
    let send = async {
        for _ in 0..4 {
            publish(broker, message(&topic, LARGE)).await;
        }
    };
    let receive = async {
        let first = next(&mut deliveries, "room: first").await;
        let second = next(&mut deliveries, "room: second").await;
        silent(&mut deliveries, "room: a third does not fit").await;
        settle(first, Outcome::Ok).await;
        let third = next(&mut deliveries, "room: third").await;
        silent(&mut deliveries, "room: a fourth does not fit").await;
        settle(second, Outcome::Ok).await;
        settle(third, Outcome::Ok).await;
        let fourth = next(&mut deliveries, "room: fourth").await;
        settle(fourth, Outcome::Ok).await;
    };
    join(send, receive).await;
}

/// Nothing comes while paused, and nothing is missed.
async fn pauses(broker: &dyn PubSub) {
    let topic = topic("pause");
    let mut deliveries = subscribe(broker, &topic).await;
    deliveries.pause(true);
    publish(broker, message(&topic, b"m")).await;
    silent(&mut deliveries, "pause").await;
    deliveries.pause(false);
    let delivery = next(&mut deliveries, "pause: over").await;
    settle(delivery, Outcome::Ok).await;
}

/// A settling that is given up halfway leaves a message that is settled or comes again, and a subscription that goes on.
async fn survives_a_cut(broker: &dyn PubSub) {
    let topic = topic("cut");
    let mut deliveries = subscribe(broker, &topic).await;
    publish(broker, message(&topic, b"cut")).await;
    let cut = next(&mut deliveries, "cut").await;
    let _ = cut.ack.settle(Outcome::Ok).now_or_never();
    publish(broker, message(&topic, b"whole")).await;
    loop {
        let delivery = next(&mut deliveries, "cut: the next").await;
        let text = text(&delivery);
        settle(delivery, Outcome::Ok).await;
        if text == "whole" {
            break;
        }
        assert_eq!(text, "cut", "cut: only this may come again");
    }
}

/// What a subscriber has taken or was about to take when it ends is there for the next one, all of it, not dead-lettered.
async fn loses_nothing_at_shutdown(broker: &dyn PubSub, traits: Traits) {
    const ALL: [&str; 6] = ["0", "1", "2", "3", "4", "5"];
    let topic = topic("shutdown");
    let mut deliveries = subscribe(broker, &topic).await;
    publish_all(broker, &topic, &ALL).await;
    let mut taken = vec![next(&mut deliveries, "shutdown: first").await];
    if !traits.one_at_a_time {
        taken.push(next(&mut deliveries, "shutdown: second").await);
    }
    drop(deliveries);
    drop(taken);
    let mut deliveries = subscribe(broker, &topic).await;
    let mut missing = BTreeSet::from(ALL);
    while !missing.is_empty() {
        let delivery = next(&mut deliveries, "shutdown: given back").await;
        let text = text(&delivery);
        assert!(missing.remove(&*text), "shutdown: {text} came twice");
        settle(delivery, Outcome::Ok).await;
    }
    silent(&mut deliveries, "shutdown: all settled").await;
}
