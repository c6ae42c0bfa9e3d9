//! Messages on their way to an HTTP app.

use blocks::{Intake, Owner};
use component::pubsub::{Ended, Outcome, Redelivery};
use pubsub::Publish;
use serde_json::json;

use crate::{REDELIVERIES, World, declared, soon};

const EVENT: &str = r#"{"id":"1","type":"a","specversion":"1.0","data":7}"#;
const ONE: &str = r#"[{"pubsubname":"bus","topic":"t","route":"/t"}]"#;
const BURIED: &str = r#"[{"pubsubname":"bus","topic":"t","route":"/t","deadLetterTopic":"dead"}]"#;

#[tokio::test]
async fn the_answer_settles_the_message() {
    for redelivery in REDELIVERIES {
        the_answer_settles(redelivery).await;
    }
}

async fn the_answer_settles(redelivery: Redelivery) {
    let world = World::over(redelivery, ONE).await;
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
        let mut expected = expected;
        if matches!(redelivery, Redelivery::InPlace(_)) && expected == Some(Outcome::Retry) {
            world.app.event().await.answer(200, "");
            expected = Some(Outcome::Ok);
        }
        assert_eq!(
            world.bus.end().await,
            ("m".into(), expected),
            "{redelivery:?} {status} {body}"
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
    for redelivery in REDELIVERIES {
        order_is_kept(redelivery).await;
    }
}

async fn order_is_kept(redelivery: Redelivery) {
    let world = World::over(redelivery, ONE).await;
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
async fn a_message_that_waits_for_its_next_attempt_is_given_back_at_the_end() {
    let ordered = r#"[{"pubsubname":"bus","topic":"much-later","route":"/t"}]"#;
    let world = World::new(ordered).await;
    world.bus.send("much-later", "m", EVENT, Some("a")).await;
    world.app.event().await.answer(500, "");
    world.shutdown.cancel();
    assert_eq!(world.bus.end().await, ("m".into(), None));
    world.end().await;
}

/// What the broker has ended is opened again, whatever is tried again here; and what was behind it waits for it there as well.
#[tokio::test]
async fn attempts_in_place_end_with_their_subscription() {
    let ordered = r#"[{"pubsubname":"bus","topic":"much-later","route":"/t"}]"#;
    let world = World::new(ordered).await;
    for name in ["a1", "a2"] {
        world.bus.send("much-later", name, EVENT, Some("a")).await;
    }
    world.app.event().await.answer(500, "");
    world.bus.finish("much-later", Ended::Rebalanced);
    for name in ["a1", "a2"] {
        assert_eq!(world.bus.end().await, (name.into(), None));
    }
    soon(async {
        while world.bus.opened() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    world.bus.send("much-later", "a1", EVENT, Some("a")).await;
    world.app.event().await.answer(200, "");
    assert_eq!(world.bus.end().await, ("a1".into(), Some(Outcome::Ok)));
    world.end().await;
}

/// The same when it ends from this side.
#[tokio::test]
async fn what_is_behind_a_message_that_goes_back_goes_back_as_well() {
    let ordered = r#"[{"pubsubname":"bus","topic":"much-later","route":"/t"}]"#;
    let world = World::new(ordered).await;
    for name in ["a1", "a2"] {
        world.bus.send("much-later", name, EVENT, Some("a")).await;
    }
    world.app.event().await.answer(500, "");
    soon(world.engine.stop()).await;
    for name in ["a1", "a2"] {
        assert_eq!(world.bus.end().await, (name.into(), None));
    }
    world.end().await;
}

/// What waits could take as long as it likes, and comes again in its order.
#[tokio::test]
async fn at_the_end_of_an_ordered_subscription_only_what_is_being_delivered_is() {
    let ordered = r#"[{"pubsubname":"bus","topic":"in-place","route":"/t"}]"#;
    let world = World::new(ordered).await;
    for name in ["a1", "a2", "a3"] {
        world.bus.send("in-place", name, EVENT, Some("a")).await;
    }
    let event = world.app.event().await;
    let answer = async { event.answer(200, "") };
    soon(async { tokio::join!(world.engine.stop(), answer) }).await;
    assert_eq!(world.bus.end().await, ("a1".into(), Some(Outcome::Ok)));
    for name in ["a2", "a3"] {
        assert_eq!(world.bus.end().await, (name.into(), None));
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
