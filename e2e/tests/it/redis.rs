//! State and events in a Redis that stays, goes and comes back, while sidecars do the same.

use e2e::app::Answer;
use e2e::redis::Redis;
use e2e::{App, Daprd, wait};
use http::Method;
use proto::runtime::v1::{BulkPublishRequest, BulkPublishRequestEntry};
use serde_json::{Value, json};
use tonic::Code;

use crate::resources::{component, orders};

/// A state store and a broker on one server.
fn resources(redis: &Redis) -> String {
    let address = redis.address();
    let host = [("redisHost", address.as_str())];
    let state = component("statestore", "state.redis", &host);
    let pubsub = component("pubsub", "pubsub.redis", &host);
    format!("{state}---\n{pubsub}")
}

async fn sidecar(redis: &Redis, app: &App) -> Daprd {
    let daprd = Daprd::builder("app")
        .resources(&resources(redis))
        .app(app)
        .start()
        .await;
    daprd.subscribed("orders").await;
    daprd
}

/// An app that takes orders.
async fn shop() -> App {
    App::builder()
        .subscriptions(&orders())
        .route("/orders", Answer::status(200))
        .start()
        .await
}

const STATE: &str = "/v1.0/state/statestore";
const PUBLISH: &str = "/v1.0/publish/pubsub/orders";

#[tokio::test]
async fn state_outlives_its_sidecar_and_its_server() {
    let (mut redis, app) = (Redis::start().await, shop().await);
    let daprd = sidecar(&redis, &app).await;
    let pair = json!([{"key": "k", "value": {"n": 1}}]);
    daprd.http().post(STATE, &pair).await.expect_status(204);
    daprd.stop().await;

    let daprd = sidecar(&redis, &app).await;
    let key = format!("{STATE}/k");
    let held = async || daprd.http().get(&key).await.expect_status(200);
    let first = held().await;
    assert_eq!(first.json(), json!({"n": 1}));

    redis.leave().await;
    daprd
        .http()
        .get(&key)
        .await
        .expect_error(500, "ERR_STATE_GET");
    redis.come_back().await;
    wait::eventually("the store to answer again", wait::DEADLINE, || async {
        daprd.http().get(&key).await.status == 200
    })
    .await;
    let second = held().await;
    assert_eq!(second.json(), json!({"n": 1}));
    assert_eq!(second.header("etag"), first.header("etag"));
    daprd.stop().await;
}

#[tokio::test]
async fn events_flow_again_when_the_broker_is_back() {
    let (mut redis, app) = (Redis::start().await, shop().await);
    let daprd = sidecar(&redis, &app).await;
    let publish = async |number: u32| {
        let event = json!({ "n": number });
        daprd.http().post(PUBLISH, &event).await
    };
    publish(1).await.expect_status(204);
    app.called("/orders", 1).await;

    redis.leave().await;
    publish(2)
        .await
        .expect_error(500, "ERR_PUBSUB_PUBLISH_MESSAGE");
    redis.come_back().await;
    wait::eventually("a publish to succeed", wait::DEADLINE, || async {
        publish(3).await.status == 204
    })
    .await;
    // The group has been kept with the stream, and the sidecar reads on in it without a new start.
    let calls = app.called("/orders", 2).await;
    let numbers: Vec<Value> = calls
        .iter()
        .map(|call| call.json()["data"]["n"].clone())
        .collect();
    assert_eq!(numbers, [1, 3]);
    daprd.stop().await;
}

#[tokio::test]
async fn an_event_waits_for_an_app_that_is_away() {
    let (redis, app) = (Redis::start().await, shop().await);
    sidecar(&redis, &app).await.stop().await;

    let publisher = Daprd::builder("publisher")
        .resources(&resources(&redis))
        .start()
        .await;
    let event = json!({"n": 1});
    publisher
        .http()
        .post(PUBLISH, &event)
        .await
        .expect_status(204);
    let daprd = sidecar(&redis, &app).await;
    let call = &app.called("/orders", 1).await[0];
    assert_eq!(call.json()["data"], event);
    daprd.stop().await;
    publisher.stop().await;
}

/// Q-bulk-failures: HTTP lists the entries, gRPC fails the call.
#[tokio::test]
async fn a_bulk_that_no_broker_takes_fails_entry_by_entry() {
    let (mut redis, app) = (Redis::start().await, shop().await);
    let daprd = sidecar(&redis, &app).await;
    redis.leave().await;

    let ids = ["1", "2"];
    let entries: Vec<Value> = ids
        .iter()
        .map(|id| json!({"entryId": id, "event": {}, "contentType": "application/json"}))
        .collect();
    let reply = daprd
        .http()
        .request(Method::POST, "/v1.0/publish/bulk/pubsub/orders")
        .json(&Value::Array(entries))
        .send()
        .await;
    let body = reply.expect_error(500, "ERR_PUBSUB_PUBLISH_MESSAGE").json();
    let failed = body["failedEntries"].as_array().expect("a list");
    let listed: Vec<_> = failed.iter().map(|entry| &entry["entryId"]).collect();
    assert_eq!(listed, ids);
    for entry in failed {
        assert_ne!(entry["error"], "", "{entry}");
    }

    let entry = |id: &str| BulkPublishRequestEntry {
        entry_id: id.to_owned(),
        event: b"{}".to_vec().into(),
        content_type: "application/json".to_owned(),
        ..BulkPublishRequestEntry::default()
    };
    let request = BulkPublishRequest {
        pubsub_name: "pubsub".to_owned(),
        topic: "orders".to_owned(),
        entries: ids.map(entry).into(),
        ..BulkPublishRequest::default()
    };
    let status = daprd.grpc().bulk_publish_event(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    let message = status.message();
    assert!(
        message.contains("topic orders in pubsub pubsub"),
        "{message}"
    );
    daprd.stop().await;
}
