//! State, pub/sub and invocation between two real pods.

use serde_json::json;

use crate::apps::{Namespace, containers};
use crate::installation::control_plane;
use crate::kube::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_pods_share_state_and_events_and_call_each_other() {
    let (images, _unchanged) = control_plane().await;
    let namespace = Namespace::create("blocks", images).await;
    let redis = namespace.redis().await;
    namespace
        .component(
            "store",
            "state.redis",
            &[("redisHost", &redis), ("keyPrefix", "none")],
        )
        .await;
    namespace
        .component("events", "pubsub.redis", &[("redisHost", &redis)])
        .await;
    namespace
        .apply(json!({
            "apiVersion": "dapr.io/v2alpha1",
            "kind": "Subscription",
            "metadata": { "name": "orders" },
            "spec": { "pubsubname": "events", "topic": "orders", "routes": { "default": "/orders" } },
            "scopes": ["back"],
        }))
        .await;
    namespace.apply(namespace.stock_object("front", 1)).await;
    namespace.apply(namespace.stock_object("back", 1)).await;
    let front = namespace.ready("front").await;
    let back = namespace.ready("back").await;
    for app in ["front", "back"] {
        for pod in namespace.pods(app).await {
            assert_eq!(containers(&pod), ["app", "daprd"]);
        }
    }
    let (from, to) = (front.sidecar().await, back.sidecar().await);

    let (status, metadata) = from.get("metadata").await;
    assert_eq!(
        (status, &metadata["id"]),
        (200, &json!("front")),
        "{metadata}"
    );
    assert!(
        metadata["runtimeVersion"]
            .as_str()
            .is_some_and(|version| !version.is_empty()),
        "{metadata}"
    );

    let saved = from
        .post(
            "state/store",
            &json!([{ "key": "order", "value": { "number": 7 } }]),
        )
        .await;
    assert_eq!(saved.0, 204, "{}", saved.1);
    assert_eq!(
        to.get("state/store/order").await,
        (200, json!({ "number": 7 }))
    );
    assert_eq!(to.get("state/store/absent").await.0, 204);

    let (status, echo) = from
        .post("invoke/back/method/echo?colour=red", &json!({ "size": 3 }))
        .await;
    assert_eq!(status, 200, "{echo}");
    assert_eq!(echo["pod"], json!(back.pod));
    assert_eq!(echo["query"], "colour=red");
    assert_eq!(echo["body"], json!({ "size": 3 }).to_string());
    assert_eq!(echo["headers"]["dapr-caller-app-id"], "front", "{echo}");
    assert_eq!(
        to.get("invoke/front/method/echo").await.1["pod"],
        json!(front.pod)
    );
    assert_eq!(from.get("invoke/back/method/absent").await.0, 404);

    let app = back.direct().await;
    let published = from
        .post("publish/events/orders", &json!({ "order": 7 }))
        .await;
    assert_eq!(published.0, 204, "{}", published.1);
    until("the event at the other pod", 30, async || {
        let (_, received) = app.get("received").await;
        if received == json!([{ "order": 7 }]) {
            Ok(())
        } else {
            Err(received.to_string())
        }
    })
    .await;
    assert_eq!(front.direct().await.get("received").await.1, json!([]));
    namespace.delete().await;
}
