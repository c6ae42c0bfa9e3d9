//! What reaches the broker.

use futures::FutureExt;
use pubsub::{BulkEntry, BulkPublish, Error, Publish};
use serde_json::{Value, json};

use crate::World;

fn event(pubsub: &str, topic: &str) -> Publish {
    Publish {
        pubsub: pubsub.into(),
        topic: topic.into(),
        data: "hi".into(),
        ..Publish::default()
    }
}

#[tokio::test]
async fn an_event_is_enclosed_and_its_topic_carries_the_namespace() {
    let world = World::with("[]", &[("anything", "{namespace}")], &[]).await;
    let mut publish = event("bus", "t");
    publish.metadata.insert("ttlInSeconds".into(), "60".into());
    world.engine.publish(publish).await.unwrap();
    let sent = world.bus.published().await;
    assert_eq!(sent.topic, "nst");
    let envelope: Value = serde_json::from_slice(&sent.data).unwrap();
    assert_eq!(envelope["topic"], "t");
    assert_eq!(envelope["source"], "app");
    assert_eq!(envelope["traceparent"], "");
    assert!(envelope["expiration"].is_string());
    world.end().await;
}

#[tokio::test]
async fn every_refusal_has_its_name() {
    let world = World::with("[]", &[("publishingScopes", "app=t,broken")], &[]).await;
    let engine = &world.engine;
    assert!(matches!(engine.check("", "t"), Err(Error::NameEmpty)));
    assert!(matches!(
        engine.check("none", ""),
        Err(Error::NotFound { .. })
    ));
    assert!(matches!(
        engine.check("bus", ""),
        Err(Error::TopicEmpty { .. })
    ));
    let refused = engine.publish(event("bus", "x")).await;
    assert!(matches!(refused, Err(Error::Forbidden { .. })));
    let broken = engine.publish(event("bus", "broken")).await.unwrap_err();
    assert_eq!(broken.to_string(), "the topic is broken");
    let mut publish = event("bus", "t");
    publish.metadata.insert("rawPayload".into(), "maybe".into());
    assert!(matches!(
        engine.publish(publish).await,
        Err(Error::Metadata { .. })
    ));
    let mut publish = event("bus", "t");
    publish.content_type = "application/cloudevents+json".into();
    assert!(matches!(
        engine.publish(publish).await,
        Err(Error::CloudEvent { .. })
    ));
    world.end().await;
}

#[tokio::test]
async fn entries_are_published_one_by_one_where_there_is_no_bulk() {
    let world = World::new("[]").await;
    let bulk = |topic: &str| BulkPublish {
        pubsub: "bus".into(),
        topic: topic.into(),
        entries: ["a", "b"]
            .map(|id| BulkEntry {
                entry_id: id.into(),
                data: id.into(),
                ..BulkEntry::default()
            })
            .into(),
        ..BulkPublish::default()
    };
    assert!(
        world
            .engine
            .bulk_publish(bulk("t"))
            .await
            .unwrap()
            .is_empty()
    );
    for data in ["a", "b"] {
        let sent = world.bus.published().await;
        let envelope: Value = serde_json::from_slice(&sent.data).unwrap();
        assert_eq!(envelope["data"], data);
    }
    let failed = world.engine.bulk_publish(bulk("broken")).await.unwrap();
    let ids: Vec<&str> = failed.iter().map(|one| one.entry_id.as_str()).collect();
    assert_eq!(ids, ["a", "b"]);
    assert_eq!(failed[0].error, "the topic is broken");
    world.end().await;
}

/// A gRPC code of a component is judged by the list of the API that the event came through.
#[tokio::test]
async fn codes_of_a_component_are_tried_again_as_the_policy_lists_them() {
    let matching = json!({"gRPCStatusCodes": "14", "httpStatusCodes": "400"});
    for (matching, over_grpc, over_http) in [(Some(matching), 1, 3), (None, 3, 3)] {
        let retry = json!({
            "policy": "constant", "duration": "1ms", "maxRetries": 2, "matching": matching,
        });
        let resource = json!({
            "apiVersion": "dapr.io/v1alpha1", "kind": "Resiliency", "metadata": {"name": "r"},
            "spec": {
                "policies": {"retries": {"some": retry}},
                "targets": {"components": {"bus": {"outbound": {"retry": "some"}}}}
            }
        });
        let policy = serde_json::from_value::<crds::Resiliency>(resource).unwrap();
        let world = World::with("[]", &[], &[policy]).await;
        for (http_status, expected) in [(None, over_grpc), (Some(bad_request as _), over_http)] {
            let publish = Publish {
                http_status,
                ..event("bus", "coded")
            };
            world.engine.publish(publish).await.unwrap_err();
            let mut attempts = 0;
            while world.bus.published().now_or_never().is_some() {
                attempts += 1;
            }
            assert_eq!(attempts, expected, "{http_status:?}");
        }
        world.end().await;
    }
}

fn bad_request(code: i32) -> u16 {
    assert_eq!(code, 9);
    400
}
