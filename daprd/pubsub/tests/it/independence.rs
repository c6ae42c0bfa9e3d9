//! What hangs, is given up halfway or panics concerns nobody else.

use blocks::{Intake, Owner};
use component::pubsub::Outcome;
use component_conformance::log::Log;
use futures::poll;
use pubsub::StreamRequest;
use serde_json::json;
use tracing::Level;

use crate::{World, declared, soon};

const ONE: &str = r#"[{"pubsubname":"bus","topic":"t","route":"/t"}]"#;
const EVENT: &str = r#"{"id":"1"}"#;

fn subscription(name: &str, pubsub: &str, topic: &str) -> crds::Subscription {
    let resource = json!({
        "apiVersion": "dapr.io/v2alpha1", "kind": "Subscription", "metadata": {"name": name},
        "spec": {"pubsubname": pubsub, "topic": topic, "routes": {"default": "/x"}}
    });
    serde_json::from_value(resource).unwrap()
}

async fn delivers(world: &World, name: &str) {
    world.bus.send("t", name, EVENT, None).await;
    world.app.event().await.answer(200, "");
    assert_eq!(world.bus.end().await, (name.into(), Some(Outcome::Ok)));
}

#[tokio::test]
async fn a_broker_that_hangs_delays_no_other() {
    let world = World::new(ONE).await;
    let hanging = subscription("s", "bus", "hangs");
    world.engine.apply_subscription(hanging).unwrap();
    let mut loading = Box::pin(world.engine.apply(declared("other", "pubsub.hangs", &[])));
    assert!(poll!(&mut loading).is_pending());
    delivers(&world, "m").await;
    let request = StreamRequest {
        pubsub: "bus".into(),
        topic: "s".into(),
        ..StreamRequest::default()
    };
    let stream = soon(world.engine.stream(request)).await.unwrap();
    soon(world.engine.stop()).await;
    assert_eq!(world.bus.topics(), ["s"], "the app's are closed");
    drop(stream);
    drop(loading);
    world.end().await;
}

#[tokio::test]
async fn a_reload_that_is_given_up_leaves_the_old_component_running() {
    let world = World::new(ONE).await;
    let mut loading = Box::pin(world.engine.apply(declared("bus", "pubsub.hangs", &[])));
    assert!(poll!(&mut loading).is_pending());
    drop(loading);
    delivers(&world, "m").await;
    assert_eq!(world.bus.opened(), 1);
    world.end().await;
}

#[tokio::test]
async fn deliveries_go_on_while_a_reload_hangs() {
    let world = World::new(ONE).await;
    let mut loading = Box::pin(world.engine.apply(declared("bus", "pubsub.hangs", &[])));
    assert!(poll!(&mut loading).is_pending());
    // The second comes when whatever the reload has begun is done.
    for name in ["m", "again"] {
        delivers(&world, name).await;
        assert!(poll!(&mut loading).is_pending());
    }
    drop(loading);
    world.end().await;
}

#[tokio::test]
async fn a_stop_that_is_given_up_aborts_no_delivery() {
    let world = World::new(ONE).await;
    world.bus.send("t", "m", EVENT, None).await;
    let event = world.app.event().await;
    let mut stopping = Box::pin(world.engine.stop());
    assert!(poll!(&mut stopping).is_pending());
    drop(stopping);
    world.shutdown.cancel();
    event.answer(200, "");
    assert_eq!(world.bus.end().await, ("m".into(), Some(Outcome::Ok)));
    world.end().await;
}

#[tokio::test]
async fn a_panic_ends_one_delivery() {
    let (log, _guard) = Log::keep(Level::WARN);
    let world = World::new(ONE).await;
    world.bus.send("t", "panics", EVENT, Some("key")).await;
    world.app.event().await.answer(200, "");
    world.bus.send("t", "m", EVENT, Some("key")).await;
    world.app.event().await.answer(200, "");
    assert_eq!(world.bus.end().await.0, "m");
    assert_eq!(log.count(&["topic t", "pubsub bus", "panicked"]), 1);
    world.end().await;
}

#[tokio::test]
async fn a_subscription_without_its_component_is_warned_about_until_there_is_one() {
    let (log, _guard) = Log::keep(Level::WARN);
    let world = World::new(r#"[{"pubsubname":"late","topic":"t","route":"/t"}]"#).await;
    assert_eq!(log.count(&["topic t", "pubsub late", "not loaded"]), 1);
    assert!(world.bus.topics().is_empty());
    world
        .engine
        .apply(declared("late", "pubsub.scripted", &[]))
        .await
        .unwrap();
    assert_eq!(world.bus.topics(), ["t"]);
    assert_eq!(log.count(&["not loaded"]), 1, "said once");
    world.end().await;
}

#[tokio::test]
async fn an_entry_without_a_topic_is_no_subscription() {
    let entries = r#"[{"pubsubname":"bus","topic":"","route":"/t"},{"pubsubname":"bus","topic":"t","route":"/t"}]"#;
    let world = World::new(entries).await;
    let listed = world.engine.subscriptions();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].topic, "t");
    let nameless = subscription("s", "bus", "");
    assert!(world.engine.apply_subscription(nameless).is_err());
    world.end().await;
}
