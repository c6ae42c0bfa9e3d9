//! Messages on their way to an HTTP app.

use blocks::{Intake, Owner};
use component::pubsub::Outcome;
use pubsub::Publish;
use serde_json::json;

use crate::{World, declared, soon};

const EVENT: &str = r#"{"id":"1","type":"a","specversion":"1.0","data":7}"#;
const ONE: &str = r#"[{"pubsubname":"bus","topic":"t","route":"/t"}]"#;
const BURIED: &str = r#"[{"pubsubname":"bus","topic":"t","route":"/t","deadLetterTopic":"dead"}]"#;

#[tokio::test]
async fn the_answer_settles_the_message() {
    let world = World::new(ONE).await;
    for (status, body, expected) in [
        (200, "", Some(Outcome::Ok)),
        (200, r#"{"status":"RETRY"}"#, Some(Outcome::Retry)),
        (200, r#"{"status":"DROP"}"#, Some(Outcome::Drop)),
        (404, "", Some(Outcome::Drop)),
        (500, "", Some(Outcome::Retry)),
    ] {
        world.bus.send("t", "m", EVENT, None).await;
        let event = world.app.event().await;
        assert_eq!(event.path, "/t");
        assert_eq!(
            event.headers["content-type"],
            "application/cloudevents+json"
        );
        assert_eq!(event.headers["pubsubname"], "bus");
        assert_eq!(event.headers["name"], "m");
        assert_eq!(event.body["data"], json!(7));
        event.answer(status, body);
        assert_eq!(
            world.bus.end().await,
            ("m".into(), expected),
            "{status} {body}"
        );
    }
    world.end().await;
}

#[tokio::test]
async fn what_cannot_be_delivered_goes_to_the_dead_letter_topic() {
    let world = World::new(BURIED).await;
    for (status, body) in [(500, ""), (404, ""), (200, r#"{"status":"DROP"}"#)] {
        world.bus.send("t", "m", EVENT, None).await;
        world.app.event().await.answer(status, body);
        let buried = world.bus.published().await;
        assert_eq!(
            (buried.topic.as_str(), &buried.data[..]),
            ("dead", EVENT.as_bytes())
        );
        assert_eq!(
            world.bus.end().await.1,
            Some(Outcome::Ok),
            "{status} {body}"
        );
    }
    for bad in ["no json", r#"{"expiration":"2000-01-01T00:00:00Z"}"#] {
        world.bus.send("t", "m", bad, None).await;
        assert_eq!(world.bus.published().await.topic, "dead");
        assert_eq!(world.bus.end().await.1, Some(Outcome::Ok), "{bad}");
    }
    world.end().await;
}

#[tokio::test]
async fn rules_choose_the_path() {
    let routes = r#"[{"pubsubname":"bus","topic":"t","routes":{"rules":[{"match":"event.type == 'b'","path":"/b"}]}}]"#;
    let world = World::new(routes).await;
    world.bus.send("t", "other", EVENT, None).await;
    assert_eq!(world.bus.end().await, ("other".into(), Some(Outcome::Drop)));
    world
        .bus
        .send("t", "m", r#"{"id":"2","type":"b"}"#, None)
        .await;
    let event = world.app.event().await;
    assert_eq!(event.path, "/b");
    event.answer(200, "");
    assert_eq!(world.bus.end().await.1, Some(Outcome::Ok));
    world.end().await;
}

#[tokio::test]
async fn raw_messages_are_wrapped() {
    let raw = r#"[{"pubsubname":"bus","topic":"t","route":"/t","metadata":{"rawPayload":"true"}}]"#;
    let world = World::new(raw).await;
    world.bus.send("t", "m", "hi", None).await;
    let event = world.app.event().await;
    assert_eq!(event.body["data_base64"], json!("aGk="));
    assert_eq!(event.body["topic"], json!("t"));
    event.answer(204, "");
    world.bus.end().await;
    world.end().await;
}

#[tokio::test]
async fn order_is_kept_within_a_key_and_nowhere_else() {
    let world = World::new(ONE).await;
    for (name, key) in [
        ("a1", Some("a")),
        ("a2", Some("a")),
        ("b1", Some("b")),
        ("x", None),
    ] {
        world.bus.send("t", name, EVENT, key).await;
    }
    let mut first = Vec::new();
    for _ in 0..3 {
        first.push(world.app.event().await);
    }
    let name = |event: &crate::app::Event| event.headers["name"].to_str().unwrap().to_owned();
    let mut names: Vec<String> = first.iter().map(name).collect();
    names.sort();
    assert_eq!(
        names,
        ["a1", "b1", "x"],
        "a2 waits for a1, nobody else does"
    );
    first.into_iter().for_each(|event| event.answer(200, ""));
    let last = world.app.event().await;
    assert_eq!(name(&last), "a2");
    last.answer(200, "");
    for _ in 0..4 {
        assert_eq!(world.bus.end().await.1, Some(Outcome::Ok));
    }
    world.end().await;
}

#[tokio::test]
async fn in_place_the_next_of_a_key_waits_for_the_last_attempt_of_the_one_before() {
    let ordered = r#"[{"pubsubname":"bus","topic":"in-place","route":"/t"}]"#;
    let world = World::new(ordered).await;
    for name in ["a1", "a2"] {
        world.bus.send("in-place", name, EVENT, Some("a")).await;
    }
    for (name, status) in [("a1", 500), ("a1", 500), ("a1", 200), ("a2", 200)] {
        let event = world.app.event().await;
        assert_eq!(event.headers["name"], name);
        event.answer(status, "");
    }
    for name in ["a1", "a2"] {
        assert_eq!(world.bus.end().await, (name.into(), Some(Outcome::Ok)));
    }
    world.end().await;
}

#[tokio::test]
async fn in_place_only_the_rest_of_a_batch_is_delivered_again() {
    let bulk = r#"[{"pubsubname":"bus","topic":"in-place","route":"/t","bulkSubscribe":{"enabled":true,"maxMessagesCount":2,"maxAwaitDurationMs":60000}}]"#;
    let world = World::new(bulk).await;
    for name in ["a", "b"] {
        world.bus.send("in-place", name, EVENT, None).await;
    }
    let answer = |event: &crate::app::Event, statuses: &[&str]| {
        let entries = event.body["entries"].as_array().unwrap();
        assert_eq!(entries.len(), statuses.len());
        let answers = entries
            .iter()
            .zip(statuses)
            .map(|(entry, status)| json!({"entryId": entry["entryId"], "status": status}));
        json!({"statuses": answers.collect::<Vec<_>>()}).to_string()
    };
    let first = world.app.event().await;
    let statuses = answer(&first, &["SUCCESS", "RETRY"]);
    first.answer(200, &statuses);
    assert_eq!(world.bus.end().await, ("a".into(), Some(Outcome::Ok)));
    let rest = world.app.event().await;
    let statuses = answer(&rest, &["SUCCESS"]);
    rest.answer(200, &statuses);
    assert_eq!(world.bus.end().await, ("b".into(), Some(Outcome::Ok)));
    world.end().await;
}

#[tokio::test]
async fn a_message_that_waits_for_its_next_attempt_is_given_back_at_the_end() {
    let ordered = r#"[{"pubsubname":"bus","topic":"much-later","route":"/t"}]"#;
    let world = World::new(ordered).await;
    world.bus.send("much-later", "m", EVENT, Some("a")).await;
    world.app.event().await.answer(500, "");
    world.shutdown.cancel();
    assert_eq!(world.bus.end().await, ("m".into(), None));
    world.end().await;
}

#[tokio::test]
async fn batches_are_answered_by_entry() {
    let bulk = r#"[{"pubsubname":"bus","topic":"t","route":"/t","bulkSubscribe":{"enabled":true,"maxMessagesCount":3,"maxAwaitDurationMs":60000}}]"#;
    let world = World::new(bulk).await;
    for name in ["a", "b", "c"] {
        world.bus.send("t", name, EVENT, None).await;
    }
    let event = world.app.event().await;
    assert_eq!(event.body["type"], json!("com.dapr.event.sent.bulk"));
    let entries = event.body["entries"].as_array().unwrap().clone();
    assert_eq!(entries.len(), 3);
    assert_eq!(entries[0]["event"]["data"], json!(7));
    let status = |index: usize, status: &str| json!({"entryId": entries[index]["entryId"], "status": status});
    let answer = json!({"statuses": [status(0, "SUCCESS"), status(1, "DROP")]});
    event.answer(200, &answer.to_string());
    let mut ends = vec![
        world.bus.end().await,
        world.bus.end().await,
        world.bus.end().await,
    ];
    ends.sort_by(|a, b| a.0.cmp(&b.0));
    let outcomes: Vec<_> = ends.into_iter().map(|end| end.1.unwrap()).collect();
    assert_eq!(outcomes, [Outcome::Ok, Outcome::Drop, Outcome::Retry]);
    world.end().await;
}

/// A broker's own batches go to the app as they are, at once, and split only where the app takes fewer.
#[tokio::test]
async fn batches_of_the_broker_are_not_collected_anew() {
    let bulk = r#"[{"pubsubname":"batches","topic":"t","route":"/t","bulkSubscribe":{"enabled":true,"maxMessagesCount":3,"maxAwaitDurationMs":3600000}}]"#;
    let world = World::new(bulk).await;
    let batches = declared("batches", "pubsub.batching", &[]);
    world.engine.apply(batches).await.unwrap();
    world.engine.start().await;
    world.bus.send_batch("t", &["a", "b"], EVENT).await;
    world
        .bus
        .send_batch("t", &["c", "d", "e", "f"], EVENT)
        .await;
    // Were they collected, the first batch would wait an hour for a third message.
    for expected in [2, 3, 1] {
        let event = world.app.event().await;
        let entries = event.body["entries"].as_array().unwrap();
        assert_eq!(entries.len(), expected);
        let statuses: Vec<_> = entries
            .iter()
            .map(|entry| json!({"entryId": entry["entryId"], "status": "SUCCESS"}))
            .collect();
        let answer = json!({ "statuses": statuses }).to_string();
        event.answer(200, &answer);
        for _ in 0..expected {
            assert_eq!(world.bus.end().await.1, Some(Outcome::Ok));
        }
    }
    world.end().await;
}

#[tokio::test]
async fn the_inbound_policy_tries_again() {
    let resource = json!({
        "apiVersion": "dapr.io/v1alpha1", "kind": "Resiliency", "metadata": {"name": "r"},
        "spec": {
            "policies": {"retries": {"some": {"policy": "constant", "duration": "1ms", "maxRetries": 2}}},
            "targets": {"components": {"bus": {"inbound": {"retry": "some"}}}}
        }
    });
    let policy = serde_json::from_value(resource).unwrap();
    let world = World::with(BURIED, &[], &[policy]).await;
    world.bus.send("t", "m", EVENT, None).await;
    for _ in 0..3 {
        world.app.event().await.answer(500, "");
    }
    assert_eq!(world.bus.published().await.topic, "dead");
    assert_eq!(world.bus.end().await.1, Some(Outcome::Ok));
    world.end().await;
}

/// The broker in memory keeps nothing: what the policy does not deliver again is gone, and the next one comes.
#[tokio::test]
async fn in_memory_delivers_again_only_as_the_policy_says() {
    for retries in [None, Some(2)] {
        let policy = retries.map(|retries| {
            let resource = json!({
                "apiVersion": "dapr.io/v1alpha1", "kind": "Resiliency", "metadata": {"name": "r"},
                "spec": {
                    "policies": {"retries": {"some": {"policy": "constant", "duration": "1ms", "maxRetries": retries}}},
                    "targets": {"components": {"mem": {"inbound": {"retry": "some"}}}}
                }
            });
            serde_json::from_value::<crds::Resiliency>(resource).unwrap()
        });
        let policy: Vec<_> = policy.into_iter().collect();
        let subscribed = r#"[{"pubsubname":"mem","topic":"t","route":"/t"}]"#;
        let world = World::with(subscribed, &[], &policy).await;
        let memory = declared("mem", "pubsub.in-memory", &[]);
        world.engine.apply(memory).await.unwrap();
        for data in ["1", "2"] {
            let publish = Publish {
                pubsub: "mem".into(),
                topic: "t".into(),
                data: data.into(),
                ..Publish::default()
            };
            // Nobody has answered the first when the second is published.
            soon(world.engine.publish(publish)).await.unwrap();
        }
        for _ in 0..=retries.unwrap_or(0) {
            let event = world.app.event().await;
            assert_eq!(event.body["data"], "1", "{retries:?}");
            event.answer(500, "");
        }
        let event = world.app.event().await;
        assert_eq!(event.body["data"], "2", "{retries:?}");
        event.answer(200, "");
        world.end().await;
    }
}

#[tokio::test]
async fn scopes_keep_a_subscription_closed_and_listed() {
    let world = World::with(ONE, &[("subscriptionScopes", "app=other")], &[]).await;
    assert!(world.bus.topics().is_empty());
    assert_eq!(world.engine.subscriptions().len(), 1);
    world.end().await;
}
