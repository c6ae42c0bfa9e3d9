//! Streaming subscriptions.

use blocks::Owner;
use component::pubsub::Outcome;
use pubsub::{Error, StreamRequest, SubscriptionKind};

use crate::{World, soon};

fn request(pubsub: &str) -> StreamRequest {
    StreamRequest {
        pubsub: pubsub.into(),
        topic: "s".into(),
        ..StreamRequest::default()
    }
}

const EVENT: &str = r#"{"id":"1","datacontenttype":"text/plain","data":"hi"}"#;

#[tokio::test]
async fn events_are_answered_by_id() {
    let world = World::new("[]").await;
    let mut stream = world.engine.stream(request("bus")).await.unwrap();
    assert_eq!(
        world.engine.subscriptions()[0].kind,
        SubscriptionKind::Streaming
    );
    for (status, expected) in [(0, Outcome::Ok), (1, Outcome::Retry), (2, Outcome::Drop)] {
        world.bus.send("s", "m", EVENT, None).await;
        let event = soon(stream.next()).await.unwrap();
        assert_eq!((event.id.as_str(), &event.data[..]), ("1", &b"hi"[..]));
        assert_eq!(
            (event.path.as_str(), event.pubsub_name.as_str()),
            ("/", "bus")
        );
        stream.acknowledge(&event.id, status);
        assert_eq!(world.bus.end().await.1, Some(expected));
    }
    world.end().await;
}

#[tokio::test]
async fn a_dropped_stream_gives_back_what_is_unanswered() {
    let world = World::new("[]").await;
    let mut stream = world.engine.stream(request("bus")).await.unwrap();
    world.bus.send("s", "m", EVENT, None).await;
    soon(stream.next()).await.unwrap();
    drop(stream);
    assert_eq!(world.bus.end().await, ("m".into(), None));
    soon(async {
        while !world.bus.topics().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(world.engine.subscriptions().is_empty());
    world.end().await;
}

#[tokio::test]
async fn a_stream_ends_with_its_component() {
    let world = World::new("[]").await;
    let mut stream = world.engine.stream(request("bus")).await.unwrap();
    world.engine.remove("bus").await;
    assert!(soon(stream.next()).await.is_none());
    let missing = world.engine.stream(request("bus")).await;
    assert!(matches!(missing.err(), Some(Error::NotConfigured)));
    world.end().await;
}
