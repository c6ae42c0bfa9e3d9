//! Events over brokers that are programs of their own, each of which delivers again in its own way.

use std::sync::atomic::{AtomicBool, Ordering};

use component_conformance::servers::{Mosquitto, RabbitMq};
use e2e::app::Answer;
use e2e::redis::Redis;
use e2e::{App, Daprd, wait};
use serde_json::{Value, json};

use crate::resources::{component, orders};

const PUBLISH: &str = "/v1.0/publish/pubsub/orders";

/// An app that does not manage its first order.
async fn clumsy() -> App {
    let has_failed = AtomicBool::new(false);
    App::builder()
        .subscriptions(&orders())
        .respond("/orders", move |_| {
            let status = match has_failed.swap(true, Ordering::SeqCst) {
                true => 200,
                false => 500,
            };
            async move { Answer::status(status) }
        })
        .start()
        .await
}

async fn sidecar(id: &str, broker: &str, app: Option<&App>) -> Daprd {
    let builder = Daprd::builder(id).resources(broker);
    let Some(app) = app else {
        return builder.start().await;
    };
    let daprd = builder.app(app).start().await;
    daprd.subscribed("orders").await;
    daprd
}

async fn publish(daprd: &Daprd, number: u32) {
    let event = json!({ "n": number });
    daprd.http().post(PUBLISH, &event).await.expect_status(204);
}

/// The numbers of the events that the app has got, as soon as there are so many.
async fn numbers(app: &App, count: usize) -> Vec<Value> {
    let calls = app.called("/orders", count).await;
    let numbers = calls.iter().map(|call| call.json()["data"]["n"].clone());
    numbers.collect()
}

#[tokio::test]
async fn mqtt_keeps_events_for_an_app_that_fails_or_is_away() {
    let (server, app) = (Mosquitto::start("").await, clumsy().await);
    let broker = component("pubsub", "pubsub.mqtt3", &[("url", &server.url())]);
    let daprd = sidecar("app", &broker, Some(&app)).await;
    for number in [1, 2] {
        publish(&daprd, number).await;
    }
    assert_eq!(numbers(&app, 3).await, [1, 1, 2], "in place, and in order");
    daprd.stop().await;
    let publisher = sidecar("publisher", &broker, None).await;
    publish(&publisher, 3).await;
    let daprd = sidecar("app", &broker, Some(&app)).await;
    assert_eq!(numbers(&app, 4).await[3], 3);
    daprd.stop().await;
    publisher.stop().await;
}

#[tokio::test]
async fn rabbitmq_rejects_or_requeues_what_fails() {
    let server = RabbitMq::start(|_| String::new()).await;
    for (requeue, expected) in [("false", vec![1, 2]), ("true", vec![1, 1, 2])] {
        let app = clumsy().await;
        let id = format!("app-{requeue}");
        let fields = [
            ("connectionString", &*server.url()),
            ("requeueInFailure", requeue),
        ];
        let broker = component("pubsub", "pubsub.rabbitmq", &fields);
        let daprd = sidecar(&id, &broker, Some(&app)).await;
        publish(&daprd, 1).await;
        assert_eq!(
            numbers(&app, expected.len() - 1).await,
            expected[..expected.len() - 1]
        );
        publish(&daprd, 2).await;
        assert_eq!(numbers(&app, expected.len()).await, expected);
        daprd.stop().await;
    }
}

/// RabbitMQ with its defaults drops what it is told has failed: the outbox must not tell it of what is committed.
#[tokio::test]
async fn what_is_committed_waits_in_rabbitmq_for_its_broker() {
    let server = RabbitMq::start(|_| String::new()).await;
    let mut redis = Redis::start().await;
    let app = App::builder()
        .subscriptions(&orders())
        .route("/orders", Answer::status(200))
        .start()
        .await;
    let store = component(
        "store",
        "state.in-memory",
        &[
            ("outboxPublishPubsub", "pubsub"),
            ("outboxPublishTopic", "orders"),
            ("outboxPubsub", "between"),
        ],
    );
    let between = [("connectionString", &*server.url())];
    let between = component("between", "pubsub.rabbitmq", &between);
    let outside = component("pubsub", "pubsub.redis", &[("redisHost", &redis.address())]);
    let resources = format!("{store}---\n{between}---\n{outside}");
    let daprd = sidecar("app", &resources, Some(&app)).await;
    redis.leave().await;
    let write = json!({"operations": [
        {"operation": "upsert", "request": {"key": "k", "value": {"n": 1}, "metadata": {"contentType": "application/json"}}}
    ]});
    let reply = daprd
        .http()
        .post("/v1.0/state/store/transaction", &write)
        .await;
    reply.expect_status(204);
    // More than once in a while, as it would be told of.
    wait::eventually("several attempts", 2 * wait::DEADLINE, || async {
        daprd.log().matches("is not published").count() >= ATTEMPTS
    })
    .await;
    redis.come_back().await;
    let calls = wait::until("the event", 3 * wait::DEADLINE, || async {
        let calls = app.calls("/orders");
        (!calls.is_empty()).then_some(calls)
    })
    .await;
    assert_eq!(calls[0].json()["data"], json!({"n": 1}));
    daprd.stop().await;
}

/// With an order on the internal topic, and one message after another.
#[tokio::test]
async fn a_transaction_that_fails_holds_up_no_event() {
    let server = Mosquitto::start("").await;
    let url = server.url();
    for (kind, fields) in [
        ("pubsub.in-memory", &[][..]),
        ("pubsub.mqtt3", &[("url", &*url)][..]),
    ] {
        let app = App::builder()
            .subscriptions(&orders())
            .route("/orders", Answer::status(200))
            .start()
            .await;
        let outbox = [
            ("outboxPublishPubsub", "pubsub"),
            ("outboxPublishTopic", "orders"),
        ];
        let store = component("store", "state.in-memory", &outbox);
        let resources = format!("{store}---\n{}", component("pubsub", kind, fields));
        let daprd = sidecar("app", &resources, Some(&app)).await;
        let stale = json!({"etag": "999", "options": {"concurrency": "first-write"}});
        for (more, status) in [(stale, 500), (json!({}), 204)] {
            let mut request = json!({"key": "k", "value": {"n": 1}, "metadata": {"contentType": "application/json"}});
            let fields = more.as_object().expect("an object").clone();
            request.as_object_mut().expect("an object").extend(fields);
            let write = json!({"operations": [{"operation": "upsert", "request": request}]});
            let reply = daprd
                .http()
                .post("/v1.0/state/store/transaction", &write)
                .await;
            assert_eq!(reply.status, status, "{kind}");
        }
        assert_eq!(numbers(&app, 1).await, [1], "{kind}");
        daprd.stop().await;
    }
}

/// Attempts to publish while the broker is away.
const ATTEMPTS: usize = 4;
