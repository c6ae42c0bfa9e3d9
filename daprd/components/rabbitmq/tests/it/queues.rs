//! What is declared, what goes with a message, and what becomes of messages.

use std::time::Duration;

use component::{
    ErrorKind,
    pubsub::{Outcome, Redelivery},
};
use lapin::{
    options::{BasicGetOptions, QueueDeclareOptions},
    types::FieldTable,
};

use crate::{
    KEPT, broker, next, publish, receive, request,
    server::{LIMIT, LIMITED, Server, server, until},
    silent, topic,
};

/// Messages that wait in a queue, without those under way.
async fn waiting(server: &Server, queue: &str) -> Option<u32> {
    let (_connection, channel) = server.channel().await;
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel
        .queue_declare(queue.into(), passive, FieldTable::default())
        .await;
    declared.ok().map(|queue| queue.message_count())
}

#[tokio::test]
async fn a_message_carries_what_its_metadata_say() {
    let (server, _turn) = server().await;
    let broker = broker(server, &[&KEPT[..], &[("ttlInSeconds", "70")]].concat()).await;
    let topic = topic("properties");
    drop(
        broker
            .subscribe(request(&topic, &[("maxPriority", "9")]))
            .await
            .expect("a subscription"),
    );
    let own: &[(&str, &str)] = &[
        ("TTLInSeconds", "60"),
        ("priority", "7"),
        ("contenttype", "application/json"),
        ("messageID", "id"),
        ("correlationID", "other"),
        ("type", "kind"),
    ];
    // Longer than the server takes.
    let far: &[(&str, &str)] = &[("ttlInSeconds", "9999999999")];
    let (_connection, channel) = server.channel().await;
    let queue = format!("conformance-{topic}");
    for (metadata, expiration, content_type) in [
        (own, "60000", "application/json"),
        (&[], "70000", "text/plain"),
        (far, "4294967295", "text/plain"),
    ] {
        publish(&*broker, &topic, "m", metadata)
            .await
            .expect("is published");
        let got = channel
            .basic_get(queue.as_str().into(), BasicGetOptions { no_ack: true })
            .await;
        let message = got.unwrap().expect("a message").delivery;
        let properties = message.properties;
        assert_eq!(
            properties.expiration().as_ref().unwrap().as_str(),
            expiration
        );
        assert_eq!(
            properties.content_type().as_ref().unwrap().as_str(),
            content_type
        );
        assert_eq!(*properties.delivery_mode(), Some(2));
        if metadata == own {
            assert_eq!(*properties.priority(), Some(7));
            assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "id");
            assert_eq!(
                properties.correlation_id().as_ref().unwrap().as_str(),
                "other"
            );
            assert_eq!(properties.kind().as_ref().unwrap().as_str(), "kind");
        }
    }
}

#[tokio::test]
async fn messages_expire() {
    let (server, _turn) = server().await;
    let broker = broker(server, &KEPT).await;
    let topic = topic("expire");
    drop(
        broker
            .subscribe(request(&topic, &[]))
            .await
            .expect("a subscription"),
    );
    let queue = format!("conformance-{topic}");
    publish(&*broker, &topic, "short", &[("ttlInSeconds", "300ms")])
        .await
        .expect("is published");
    until("it has expired", async || {
        waiting(server, &queue).await == Some(0)
    })
    .await;
    publish(&*broker, &topic, "long", &[])
        .await
        .expect("is published");
    let mut deliveries = broker
        .subscribe(request(&topic, &[]))
        .await
        .expect("a subscription");
    assert_eq!(receive(&mut deliveries).await, "long");
    silent(&mut deliveries).await;
}

#[tokio::test]
async fn what_is_given_up_is_dead_lettered_and_what_is_given_back_is_not() {
    let (server, _turn) = server().await;
    let fields = [("deletedWhenUnused", "false"), ("enableDeadLetter", "true")];
    let broker = broker(server, &fields).await;
    for kind in ["classic", "quorum"] {
        let topic = topic("dead");
        let mut deliveries = broker
            .subscribe(request(&topic, &[("queueType", kind)]))
            .await
            .expect("a subscription");
        assert_eq!(deliveries.redelivery(), Redelivery::Reject);
        for data in ["released", "failed", "dropped"] {
            publish(&*broker, &topic, data, &[])
                .await
                .expect("is published");
        }
        let mut taken = Vec::new();
        for _ in 0..3 {
            taken.push(next(&mut deliveries).await);
        }
        for (delivery, outcome) in taken.drain(1..).zip([Outcome::Retry, Outcome::Drop]) {
            delivery.ack.settle(outcome).await.expect("is settled");
        }
        drop(taken);
        drop(deliveries);
        let dead = format!("dlq-conformance-{topic}");
        until("two are dead-lettered", async || {
            waiting(server, &dead).await == Some(2)
        })
        .await;
        let mut deliveries = broker
            .subscribe(request(&topic, &[("queueType", kind)]))
            .await
            .expect("a subscription");
        assert_eq!(receive(&mut deliveries).await, "released", "{kind}");
        silent(&mut deliveries).await;
        assert_eq!(waiting(server, &dead).await, Some(2), "{kind}");
    }
}

#[tokio::test]
async fn a_subscription_takes_ahead_what_it_may_and_gives_it_back_when_paused() {
    let (server, _turn) = server().await;
    let broker = broker(server, &[&KEPT[..], &[("prefetchCount", "2")]].concat()).await;
    let topic = topic("ahead");
    let queue = format!("conformance-{topic}");
    let mut deliveries = broker
        .subscribe(request(&topic, &[]))
        .await
        .expect("a subscription");
    for number in 0..5 {
        publish(&*broker, &topic, &number.to_string(), &[])
            .await
            .expect("is published");
    }
    until("two are taken", async || {
        waiting(server, &queue).await == Some(3)
    })
    .await;
    let first = next(&mut deliveries).await;
    let second = next(&mut deliveries).await;
    silent(&mut deliveries).await;
    deliveries.pause(true);
    first.ack.settle(Outcome::Ok).await.expect("is settled");
    drop(second);
    until("the others are back", async || {
        waiting(server, &queue).await == Some(4)
    })
    .await;
    silent(&mut deliveries).await;
    deliveries.pause(false);
    for number in 1..5 {
        assert_eq!(receive(&mut deliveries).await, number.to_string());
    }
}

/// Its queue would go away with the consumer, and the messages with it.
#[tokio::test]
async fn a_pause_keeps_a_queue_that_goes_away_with_its_consumer() {
    let (server, _turn) = server().await;
    let broker = broker(server, &[]).await;
    let topic = topic("pause");
    let mut deliveries = broker
        .subscribe(request(&topic, &[]))
        .await
        .expect("a subscription");
    deliveries.pause(true);
    for data in ["a", "b"] {
        publish(&*broker, &topic, data, &[])
            .await
            .expect("is published");
    }
    silent(&mut deliveries).await;
    deliveries.pause(false);
    assert_eq!(receive(&mut deliveries).await, "a");
    assert_eq!(receive(&mut deliveries).await, "b");
}

#[tokio::test]
async fn routing_keys_choose_and_exchanges_that_were_deleted_are_declared_again() {
    let (server, _turn) = server().await;
    let broker = broker(server, &[("exchangeKind", "topic")]).await;
    let topic = topic("keys");
    for _ in 0..2 {
        let keys = request(&topic, &[("routingKey", "a.*,b.#")]);
        let mut deliveries = broker.subscribe(keys).await.expect("a subscription");
        for key in ["a.1", "c.1", "b.1.2"] {
            publish(&*broker, &topic, key, &[("routingKey", key)])
                .await
                .expect("is published");
        }
        assert_eq!(receive(&mut deliveries).await, "a.1");
        assert_eq!(receive(&mut deliveries).await, "b.1.2");
        silent(&mut deliveries).await;
        drop(deliveries);
        // With its last queue, the exchange goes as well, of which the publisher knows nothing.
        let queue = format!("conformance-{topic}");
        until("the queue is gone", async || {
            waiting(server, &queue).await.is_none()
        })
        .await;
    }
}

#[tokio::test]
async fn attempts_are_counted_where_the_server_counts() {
    let (server, _turn) = server().await;
    let broker = broker(server, &KEPT).await;
    for (kind, counts) in [("classic", [1, 2, 2]), ("quorum", [1, 2, 3])] {
        let topic = topic("attempts");
        let mut deliveries = broker
            .subscribe(request(&topic, &[("queueType", kind)]))
            .await
            .expect("a subscription");
        publish(&*broker, &topic, "m", &[])
            .await
            .expect("is published");
        for expected in counts {
            let delivery = next(&mut deliveries).await;
            assert_eq!(delivery.attempt, expected, "{kind}");
            delivery
                .ack
                .settle(Outcome::Retry)
                .await
                .expect("is settled");
        }
        let Redelivery::Broker(backoff) = deliveries.redelivery() else {
            panic!("{kind}: the server delivers again");
        };
        assert!(
            backoff.pause_after(1).unwrap() >= Duration::from_millis(100),
            "{kind}"
        );
    }
}

/// Q-rabbitmq-limit: the server counts what comes back to a quorum queue.
#[tokio::test]
async fn what_comes_back_too_often_is_given_up_by_the_server() {
    let (server, _turn) = server().await;
    for dead_letter in ["true", "false"] {
        let broker = broker(
            server,
            &[&KEPT[..], &[("enableDeadLetter", dead_letter)]].concat(),
        )
        .await;
        let topic = topic(LIMITED);
        let mut deliveries = broker
            .subscribe(request(&topic, &[("queueType", "quorum")]))
            .await
            .expect("a subscription");
        publish(&*broker, &topic, "poison", &[])
            .await
            .expect("is published");
        for expected in 1..=LIMIT + 1 {
            let delivery = next(&mut deliveries).await;
            assert_eq!(delivery.attempt, expected);
            delivery
                .ack
                .settle(Outcome::Retry)
                .await
                .expect("is settled");
        }
        silent(&mut deliveries).await;
        let dead = format!("dlq-conformance-{topic}");
        let kept = (dead_letter == "true").then_some(1);
        until("it is dead-lettered where that is asked for", async || {
            waiting(server, &dead).await == kept
        })
        .await;
        publish(&*broker, &topic, "next", &[])
            .await
            .expect("is published");
        assert_eq!(receive(&mut deliveries).await, "next");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_told() {
    let (server, _turn) = server().await;
    let broker = broker(server, &KEPT).await;
    let long = "x".repeat(256);
    let error = publish(&*broker, &long, "m", &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    let wrong: [(&str, &str); 2] = [("queueType", "stream"), ("maxLen", "many")];
    for pair in wrong {
        let error = broker
            .subscribe(request(&topic("wrong"), &[pair]))
            .await
            .err()
            .expect("an error");
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{pair:?}");
    }
    // Declared otherwise before; the connection serves others all the same.
    let topic = topic("other");
    let _kept = broker
        .subscribe(request(&topic, &[]))
        .await
        .expect("a subscription");
    let error = broker
        .subscribe(request(&topic, &[("maxLen", "7")]))
        .await
        .err()
        .expect("an error");
    assert_eq!(error.kind(), ErrorKind::InvalidMetadata, "{error:?}");
    publish(&*broker, &topic, "m", &[])
        .await
        .expect("is published");
}
