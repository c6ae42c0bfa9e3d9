//! The transactional outbox over a real store and a real broker, which outlive their sidecars.

use std::path::Path;

use e2e::app::Answer;
use e2e::redis::Redis;
use e2e::{App, Daprd, wait};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use http::Method;
use serde_json::{Value, json};

use crate::resources::{PUBSUB, component, orders};

const TRANSACTION: &str = "/v1.0/state/store/transaction";

async fn shop() -> App {
    App::builder()
        .subscriptions(&orders())
        .route("/orders", Answer::status(200))
        .start()
        .await
}

fn upsert(key: &str, value: &Value) -> Value {
    json!({"operations": [{"operation": "upsert", "request": {"key": key, "value": value}}]})
}

/// A store with an outbox, of that type.
fn store(kind: &str, more: &[(&str, &str)]) -> String {
    let outbox = [
        ("outboxPublishPubsub", "pubsub"),
        ("outboxPublishTopic", "orders"),
    ];
    component("store", kind, &[&outbox, more].concat())
}

#[tokio::test]
async fn a_write_is_said_with_the_digits_it_was_sent_with() {
    let app = shop().await;
    let resources = format!("{}---\n{PUBSUB}", store("state.in-memory", &[]));
    let daprd = Daprd::builder("app")
        .resources(&resources)
        .app(&app)
        .start()
        .await;
    daprd.subscribed("orders").await;
    let body = r#"{"operations":[
        {"operation":"upsert","request":{"key":"k","value":{"n":31.245270191439438},
         "metadata":{"contentType":"application/json","outbox.cloudevent.shop":"s"}}},
        {"operation":"upsert","request":{"key":"k","value":123456789012345678901234567890,
         "metadata":{"outbox.projection":"true","contentType":"application/json"}}}]}"#;
    let request = daprd.http().request(Method::POST, TRANSACTION);
    let request = request.header("content-type", "application/json");
    request.body(body).send().await.expect_status(204);
    let call = &app.called("/orders", 1).await[0];
    let text = String::from_utf8_lossy(&call.body);
    assert!(text.contains(":123456789012345678901234567890"), "{text}");
    assert_eq!(call.json()["outbox.cloudevent.shop"], "s");
    assert_eq!(call.json()["source"], "app");
    let held = daprd
        .http()
        .get("/v1.0/state/store/k")
        .await
        .expect_status(200);
    assert_eq!(held.text(), r#"{"n":31.245270191439438}"#);
    let metadata = daprd.metadata().await;
    assert_eq!(metadata["subscriptions"].as_array().map(Vec::len), Some(1));
    daprd.stop().await;
}

#[tokio::test]
async fn a_write_whose_event_nobody_takes_is_not_made() {
    let missing = [("outboxPubsub", "elsewhere")];
    let resources = format!("{}---\n{PUBSUB}", store("state.in-memory", &missing));
    let daprd = Daprd::builder("app").resources(&resources).start().await;
    let reply = daprd
        .http()
        .post(TRANSACTION, &upsert("k", &json!(1)))
        .await;
    reply.expect_error(500, "ERR_PUBLISH_OUTBOX");
    daprd
        .http()
        .get("/v1.0/state/store/k")
        .await
        .expect_status(204);
    daprd.stop().await;
}

/// When the sidecar of a round is killed: the steps of its transactions are spread around that moment.
#[derive(Clone, Copy)]
enum Moment {
    /// So many callers have their answer.
    Answered(usize),
    /// So many events have reached the app.
    Said(usize),
}

#[tokio::test]
async fn whatever_is_committed_is_said_although_the_sidecar_is_killed() {
    let (redis, app) = (Redis::start().await, shop().await);
    let folder = e2e::process::folder("outbox");
    let resources = lasting(&redis, &folder.path().join("store.db"));
    let start = async || {
        let daprd = Daprd::builder("app")
            .resources(&resources)
            .app(&app)
            .start()
            .await;
        daprd.subscribed("orders").await;
        daprd
    };
    let moments = [
        Moment::Answered(0),
        Moment::Answered(1),
        Moment::Answered(5),
        Moment::Said(1),
        Moment::Said(4),
    ];
    for (round, moment) in moments.into_iter().enumerate() {
        let daprd = start().await;
        let (client, before) = (daprd.http(), said(&app).len());
        let write = |number| {
            let (client, key) = (client.clone(), format!("{round}-{number}"));
            async move {
                let request = client.request(Method::POST, TRANSACTION);
                request.json(&upsert(&key, &json!(key))).attempt().await
            }
        };
        let mut answers: FuturesUnordered<_> = (0..WRITES).map(write).collect();
        match moment {
            Moment::Answered(count) => {
                // The first look sends the requests.
                let sent = futures::poll!(answers.next());
                assert!(sent.is_pending(), "nobody answers that fast");
                for _ in 0..count {
                    answers.next().await;
                }
            }
            Moment::Said(count) => {
                let all = async { while answers.next().await.is_some() {} };
                let heard = wait::eventually("events to be said", wait::DEADLINE, || async {
                    said(&app).len() >= before + count
                });
                tokio::join!(all, heard);
            }
        }
        daprd.kill().await;
    }
    let daprd = start().await;
    let mut committed = Vec::new();
    let keys = (0..moments.len())
        .flat_map(|round| (0..WRITES).map(move |number| format!("{round}-{number}")));
    for key in keys {
        let held = daprd.http().get(&format!("/v1.0/state/store/{key}")).await;
        if held.status == 200 {
            committed.push(key);
        }
    }
    assert!(!committed.is_empty(), "no round lived long enough");
    wait::eventually(
        "every committed write to be said",
        3 * wait::DEADLINE,
        || async {
            let said = said(&app);
            committed.iter().all(|key| said.contains(key))
        },
    )
    .await;
    let said = said(&app);
    assert!(
        said.iter().all(|key| committed.contains(key)),
        "nothing else is said"
    );
    daprd.stop().await;
}

/// A store in a file, and a broker that hands over again soon.
fn lasting(redis: &Redis, file: &Path) -> String {
    let (address, file) = (redis.address(), file.display().to_string());
    let fields = [
        ("connectionString", file.as_str()),
        ("outboxDiscardWhenMissingState", "true"),
    ];
    let broker = [
        ("redisHost", address.as_str()),
        ("processingTimeout", "2s"),
        ("redeliverInterval", "500ms"),
    ];
    let store = store("state.sqlite", &fields);
    format!(
        "{store}---\n{}",
        component("pubsub", "pubsub.redis", &broker)
    )
}

/// The data of every event that the app was told.
fn said(app: &App) -> Vec<String> {
    let calls = app.calls("/orders").into_iter();
    calls
        .map(|call| call.json()["data"].as_str().expect("a text").to_owned())
        .collect()
}

/// Transactions of a round, all at once.
const WRITES: usize = 8;
