//! A body that breaks off on one side breaks off on the other, and never ends as if it were whole.

use app_channel::Protocol;
use bytes::Bytes;
use component::{Body, BoxError, body};
use futures::{StreamExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt, Limited, StreamBody};
use invoke::Error;
use serde_json::json;

use crate::{Setup, World, app::Seen, soon};

/// With retries of everything, and a timeout that nothing here reaches.
fn policy() -> serde_json::Value {
    json!({
        "policies": {
            "timeouts": {"long": "30s"},
            "retries": {"often": {"duration": "1ms", "maxRetries": 3}},
        },
        "targets": {"apps": {"callee": {"timeout": "long", "retry": "often"}}},
    })
}

#[derive(Clone, Copy, Debug)]
enum Point {
    /// Nothing has been sent.
    AtOnce,
    /// A piece has been sent.
    Later,
}

fn upload(point: Point) -> Body {
    let piece = match point {
        Point::AtOnce => None,
        Point::Later => Some(Ok(Frame::data(Bytes::from_static(b"\0\0\0\0\x02ok")))),
    };
    let broken = [Err(BoxError::from("the client went away"))];
    let spaced = stream::iter(piece.into_iter().chain(broken)).then(|frame| async {
        tokio::task::yield_now().await;
        frame
    });
    body::streamed(StreamBody::new(spaced))
}

async fn world(protocol: Protocol, resiliency: serde_json::Value) -> World {
    World::new(Setup {
        resiliency,
        ..Setup::new(protocol)
    })
    .await
}

#[tokio::test]
async fn requests_break_off_at_the_app() {
    for resiliency in [json!({}), policy()] {
        for point in [Point::AtOnce, Point::Later] {
            let world = world(Protocol::Http, resiliency.clone()).await;
            let error = world.call("echo", upload(point)).await.unwrap_err();
            assert!(matches!(error, Error::Body(_)), "{point:?}: {error:?}");
            // The app may not have been reached at all; what it is told of is broken, and only once.
            world.call("echo", body::full("after")).await.unwrap();
            let mut seen = world.app.seen().await;
            if seen == Seen::Broken {
                seen = world.app.seen().await;
            }
            assert_eq!(seen, Seen::Whole("after".into()), "{point:?}");

            let world = world_of_grpc(resiliency.clone()).await;
            let response = world.proxy("echo", &[], upload(point)).await;
            assert_broken(response).await;
            let whole = Bytes::from_static(b"\0\0\0\0\x01x");
            let response = world.proxy("echo", &[], body::full(whole.clone())).await;
            response.into_body().collect().await.unwrap();
            let mut seen = world.app.seen().await;
            if seen == Seen::Broken {
                seen = world.app.seen().await;
            }
            assert_eq!(seen, Seen::Whole(whole), "{point:?}");
        }
    }
}

async fn world_of_grpc(resiliency: serde_json::Value) -> World {
    world(Protocol::Grpc, resiliency).await
}

/// An answer without a good end.
async fn assert_broken(response: http::Response<tonic::body::Body>) {
    let status = response.headers().get("grpc-status").cloned();
    let collected = soon(response.into_body().collect()).await;
    let trailers = collected.ok().and_then(|all| all.trailers().cloned());
    let status = status.or_else(|| trailers?.get("grpc-status").cloned());
    assert!(status.is_none_or(|status| status != "0"));
}

#[tokio::test]
async fn an_upload_over_the_limit_breaks_off_at_the_app_and_says_so() {
    let world = world(Protocol::Http, json!({})).await;
    let piece = Bytes::from(vec![0; 16 << 10]);
    let pieces = (0..8).map(move |_| Ok::<_, BoxError>(Frame::data(piece.clone())));
    let spaced = stream::iter(pieces).then(|frame| async {
        tokio::task::yield_now().await;
        frame
    });
    let upload = Limited::new(StreamBody::new(spaced), 100_000);
    let error = world
        .call("echo", body::streamed(upload))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TooLarge), "{error:?}");
    world.call("echo", body::full("after")).await.unwrap();
    let mut seen = world.app.seen().await;
    if seen == Seen::Broken {
        seen = world.app.seen().await;
    }
    assert_eq!(seen, Seen::Whole("after".into()));
}

#[tokio::test]
async fn answers_break_off_at_the_caller() {
    for resiliency in [json!({}), policy()] {
        for method in ["break", "break-at-once"] {
            let world = world(Protocol::Http, resiliency.clone()).await;
            if let Ok(response) = world.call(method, body::full("x")).await {
                let read = soon(response.into_body().collect()).await;
                assert!(read.is_err(), "{method}");
            }
            let world = world_of_grpc(resiliency.clone()).await;
            let message = body::full(Bytes::from_static(b"\0\0\0\0\x01x"));
            assert_broken(world.proxy(method, &[], message).await).await;
        }
    }
}

#[tokio::test]
async fn an_answer_to_a_message_has_the_limit_of_a_message() {
    use proto::common::v1::{HttpExtension, InvokeRequest, http_extension::Verb};
    let world = world(Protocol::Http, json!({})).await;
    let request = InvokeRequest {
        method: "large".into(),
        http_extension: Some(HttpExtension {
            verb: Verb::Get.into(),
            ..HttpExtension::default()
        }),
        ..InvokeRequest::default()
    };
    let reply = world
        .caller
        .message("callee", request, http::HeaderMap::new());
    let error = soon(reply).await.unwrap_err();
    assert!(matches!(error, Error::Body(_)), "{error:?}");
    let streamed = world.call("large", body::empty()).await.unwrap();
    let whole = streamed.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(whole.len(), crate::MAX_MESSAGE + 1);
}

#[tokio::test]
async fn a_body_as_large_as_a_message_arrives() {
    let world = world(Protocol::Http, policy()).await;
    let whole = vec![7; crate::MAX_MESSAGE];
    let response = world.call("echo", body::full(whole.clone())).await.unwrap();
    let back = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(back, whole);
}
