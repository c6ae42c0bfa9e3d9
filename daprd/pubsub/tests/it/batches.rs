//! Messages that an app takes several at a time.

use blocks::{Intake, Owner};
use component::pubsub::Outcome;
use serde_json::json;

use crate::{SILENCE, World, declared};

const EVENT: &str = r#"{"id":"1","type":"a","specversion":"1.0","data":7}"#;

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

/// The answer to a batch: a status for each of its messages.
fn statuses(event: &crate::app::Event, status: &str) -> String {
    let entries = event.body["entries"].as_array().unwrap();
    let answers = entries
        .iter()
        .map(|entry| json!({"entryId": entry["entryId"], "status": status}));
    json!({"statuses": answers.collect::<Vec<_>>()}).to_string()
}

#[tokio::test]
async fn batches_go_out_one_after_another() {
    let bulk = r#"[{"pubsubname":"bus","topic":"t","route":"/t","bulkSubscribe":{"enabled":true,"maxMessagesCount":2,"maxAwaitDurationMs":60000}}]"#;
    let world = World::new(bulk).await;
    world
        .bus
        .send_batch("t", &["a", "b", "c", "d"], EVENT)
        .await;
    let first = world.app.event().await;
    let second = tokio::time::timeout(SILENCE, world.app.event()).await;
    assert!(second.is_err(), "the first is not answered yet");
    let answer = statuses(&first, "SUCCESS");
    first.answer(200, &answer);
    let second = world.app.event().await;
    let answer = statuses(&second, "SUCCESS");
    second.answer(200, &answer);
    for name in ["a", "b", "c", "d"] {
        assert_eq!(world.bus.end().await, (name.into(), Some(Outcome::Ok)));
    }
    world.end().await;
}

/// Also where a later one goes to another path.
#[tokio::test]
async fn a_batch_keeps_the_order_of_a_key() {
    let bulk = r#"[{"pubsubname":"bus","topic":"in-place","routes":{"rules":[{"match":"event.type == 'a'","path":"/a"}],"default":"/b"},"bulkSubscribe":{"enabled":true,"maxMessagesCount":2,"maxAwaitDurationMs":60000}}]"#;
    let world = World::new(bulk).await;
    let messages = [
        ("one", r#"{"id":"1","type":"b"}"#),
        ("two", r#"{"id":"2","type":"a"}"#),
    ];
    world
        .bus
        .send_ordered("in-place", &messages, Some("k"))
        .await;
    for (path, status) in [("/b", "RETRY"), ("/b", "SUCCESS"), ("/a", "SUCCESS")] {
        let event = world.app.event().await;
        assert_eq!(event.path, path, "{status}");
        let answer = statuses(&event, status);
        event.answer(200, &answer);
    }
    for name in ["one", "two"] {
        assert_eq!(world.bus.end().await, (name.into(), Some(Outcome::Ok)));
    }
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
