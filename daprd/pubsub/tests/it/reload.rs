//! Components and subscriptions that come, change and go.

use blocks::{Intake, Owner};
use component::pubsub::Outcome;
use component_conformance::log::Log;
use serde_json::json;
use tracing::Level;

use crate::{World, declared, soon};

const ONE: &str = r#"[{"pubsubname":"bus","topic":"t","route":"/t"}]"#;
const EVENT: &str = r#"{"id":"1"}"#;

fn subscription(topic: &str) -> crds::Subscription {
    let resource = json!({
        "apiVersion": "dapr.io/v2alpha1", "kind": "Subscription", "metadata": {"name": "s"},
        "spec": {"pubsubname": "bus", "topic": topic, "routes": {"default": "/x"}}
    });
    serde_json::from_value(resource).unwrap()
}

async fn topics_become(world: &World, expected: &[&str]) {
    soon(async {
        while world.bus.topics() != expected {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_replaced_component_ends_what_it_delivers_first() {
    let (log, _guard) = Log::keep(Level::WARN);
    let world = World::new(ONE).await;
    world.bus.send("t", "m", EVENT, None).await;
    let event = world.app.event().await;
    let reload = world.engine.apply(declared("bus", "pubsub.scripted", &[]));
    let answer = async { event.answer(200, "") };
    let (reloaded, ()) = soon(async { tokio::join!(reload, answer) }).await;
    reloaded.unwrap();
    assert_eq!(world.bus.end().await.1, Some(Outcome::Ok));
    assert_eq!(log.count(&["closed while calls still use it"]), 0);
    assert_eq!(world.bus.opened(), 2);
    world.bus.send("t", "again", EVENT, None).await;
    world.app.event().await.answer(200, "");
    assert_eq!(world.bus.end().await.0, "again");
    world.end().await;
}

#[tokio::test]
async fn a_component_that_does_not_open_leaves_the_old_one_running() {
    let world = World::new(ONE).await;
    let unknown = declared("bus", "pubsub.unknown", &[]);
    assert!(world.engine.apply(unknown).await.is_err());
    world.bus.send("t", "m", EVENT, None).await;
    world.app.event().await.answer(200, "");
    assert_eq!(world.bus.end().await.1, Some(Outcome::Ok));
    assert_eq!(world.bus.opened(), 1);
    world.end().await;
}

#[tokio::test]
async fn resources_open_and_close_subscriptions() {
    let world = World::new(ONE).await;
    world.engine.apply_subscription(subscription("a")).unwrap();
    topics_become(&world, &["a", "t"]).await;
    world.engine.apply_subscription(subscription("b")).unwrap();
    topics_become(&world, &["b", "t"]).await;
    world.engine.remove_subscription("s");
    topics_become(&world, &["t"]).await;
    assert_eq!(world.bus.opened(), 3, "the others stay open all the while");
    world.end().await;
}

/// Only what nobody comes back to is closed for good.
#[tokio::test]
async fn a_subscription_is_withdrawn_with_its_resource() {
    let world = World::new(ONE).await;
    world.engine.apply_subscription(subscription("a")).unwrap();
    topics_become(&world, &["a", "t"]).await;
    world.engine.stop().await;
    topics_become(&world, &[]).await;
    assert!(!world.bus.is_withdrawn("a"), "the app is not there for now");
    world.engine.start().await;
    topics_become(&world, &["a", "t"]).await;
    world.engine.apply_subscription(subscription("b")).unwrap();
    topics_become(&world, &["b", "t"]).await;
    assert!(world.bus.is_withdrawn("a"), "it is another topic's now");
    world.engine.remove("bus").await;
    topics_become(&world, &[]).await;
    assert!(!world.bus.is_withdrawn("b"), "its component is gone");
    let again = declared("bus", "pubsub.scripted", &[]);
    world.engine.apply(again).await.unwrap();
    topics_become(&world, &["b", "t"]).await;
    world.engine.remove_subscription("s");
    topics_become(&world, &["t"]).await;
    assert!(world.bus.is_withdrawn("b"));
    world.shutdown.cancel();
    topics_become(&world, &[]).await;
    assert!(!world.bus.is_withdrawn("t"), "there may be a next life");
    world.end().await;
}

#[tokio::test]
async fn a_stopped_engine_gives_back_what_fails() {
    let world = World::new(ONE).await;
    world.bus.send("t", "m", EVENT, None).await;
    let event = world.app.event().await;
    let fail = async {
        // The stop waits for the delivery, so it is under way before the app answers.
        tokio::task::yield_now().await;
        event.answer(500, "");
    };
    soon(async { tokio::join!(world.engine.stop(), fail) }).await;
    assert_eq!(world.bus.end().await, ("m".into(), None));
    topics_become(&world, &[]).await;
    world.engine.start().await;
    topics_become(&world, &["t"]).await;
    world.end().await;
}
