//! Policies of invocation and of gRPC proxying: what is tried again, and with which body.

use app_channel::Protocol;
use bytes::Bytes;
use component::{Body, BoxError, body};
use futures::{StreamExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use invoke::Error;
use serde_json::json;

use crate::{Setup, World, app::Seen};

const MESSAGE: &[u8] = b"\0\0\0\0\x05hello";

async fn world(protocol: Protocol, resiliency: serde_json::Value) -> World {
    World::new(Setup {
        resiliency,
        ..Setup::new(protocol)
    })
    .await
}

/// A body of unknown length.
fn chunked(pieces: usize, size: usize) -> Body {
    let piece = Bytes::from(vec![b'a'; size]);
    let frames = (0..pieces).map(move |_| Ok::<_, BoxError>(Frame::data(piece.clone())));
    body::streamed(StreamBody::new(stream::iter(frames).then(|frame| async {
        tokio::task::yield_now().await;
        frame
    })))
}

async fn text(response: http::Response<Body>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

fn timeout_and_retry() -> serde_json::Value {
    json!({
        "policies": {
            "timeouts": {"short": "1s"},
            "retries": {"often": {"duration": "1ms", "maxRetries": 3}},
        },
        "targets": {"apps": {"callee": {"timeout": "short", "retry": "often"}}},
    })
}

#[tokio::test]
async fn after_a_timeout_the_body_comes_again() {
    let world = world(Protocol::Http, timeout_and_retry()).await;
    let response = world.call("hang-once", body::full("aaaaaa")).await.unwrap();
    assert_eq!(text(response).await, "aaaaaa");
    for _ in 0..2 {
        assert_eq!(world.app.seen().await, Seen::Whole("aaaaaa".into()));
    }
    assert_eq!(world.app.requests(), 2);
}

#[tokio::test]
async fn after_a_timeout_a_body_that_was_not_kept_does_not_come_again() {
    let unkept = [body::full(vec![b'a'; 5 << 20]), chunked(2, 3)];
    for body in unkept {
        let world = world(Protocol::Http, timeout_and_retry()).await;
        let error = world.call("hang-once", body).await.unwrap_err();
        assert!(matches!(error, Error::Timeout(_)), "{error:?}");
        assert_eq!(world.app.requests(), 1);
    }
}

#[tokio::test]
async fn default_policies_rule_apps_that_no_resource_names() {
    for (name, retried) in [
        ("DefaultAppRetryPolicy", true),
        ("DefaultRetryPolicy", true),
        ("Other", false),
    ] {
        let resiliency = json!({"policies": {"retries": {name: {
            "duration": "1ms",
            "maxRetries": 3,
            "matching": {"httpStatusCodes": "500-599"},
        }}}});
        let world = world(Protocol::Http, resiliency).await;
        let response = world.call("fail-once", body::full("x")).await.unwrap();
        assert_eq!(response.status(), if retried { 200 } else { 503 }, "{name}");
        assert_eq!(world.app.requests(), if retried { 2 } else { 1 });
        let before = world.app.requests();
        let response = world.call("missing", body::empty()).await.unwrap();
        assert_eq!(response.status(), 404);
        assert_eq!(world.app.requests(), before + 1, "{name}: not in the list");
    }
}

#[tokio::test]
async fn each_endpoint_has_its_own_circuit_breaker() {
    let resiliency = json!({
        "policies": {"circuitBreakers": {
            "DefaultAppCircuitBreakerPolicy": {"trip": "totalFailures > 0", "timeout": "600s"},
        }},
    });
    let world = world(Protocol::Http, resiliency).await;
    let response = world.call("missing", body::empty()).await.unwrap();
    assert_eq!(response.status(), 404);
    let error = world.call("missing", body::empty()).await.unwrap_err();
    assert!(matches!(error, Error::Policy(_)), "{error:?}");
    world.call("echo", body::empty()).await.unwrap();
    assert_eq!(world.app.requests(), 2);
}

fn default_retries() -> serde_json::Value {
    json!({"policies": {"retries": {"DefaultAppRetryPolicy": {"duration": "1ms", "maxRetries": 3}}}})
}

#[tokio::test]
async fn unary_calls_that_are_passed_on_are_tried_again() {
    let world = world(Protocol::Grpc, default_retries()).await;
    let message = Bytes::from_static(MESSAGE);
    let response = world
        .proxy("fail-once", &[], body::full(message.clone()))
        .await;
    let whole = response.into_body().collect().await.unwrap();
    assert_eq!(whole.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(whole.to_bytes(), message);
    for _ in 0..2 {
        assert_eq!(world.app.seen().await, Seen::Whole(message.clone()));
    }
}

#[tokio::test]
async fn streams_that_are_passed_on_are_not() {
    let world = world(Protocol::Grpc, default_retries()).await;
    let message = body::full(Bytes::from_static(MESSAGE));
    let metadata = [("dapr-stream", "true")];
    let response = world.proxy("fail-once", &metadata, message).await;
    let whole = response.into_body().collect().await.unwrap();
    assert_eq!(whole.trailers().unwrap()["grpc-status"], "14");
    assert_eq!(world.app.requests(), 1);
}

#[tokio::test]
async fn calls_of_peers_and_of_the_app_are_counted() {
    let world_of_http = world(Protocol::Http, json!({})).await;
    text(world_of_http.call("echo", body::full("x")).await.unwrap()).await;
    for name in [
        "completed_count",
        "roundtrip_latency",
        "sent_bytes",
        "received_bytes",
    ] {
        let name = format!("dapr_http_client_{name}");
        assert!(world_of_http.callee_metrics.sum(&name).is_some(), "{name}");
    }
    assert!(
        world_of_http
            .caller_metrics
            .sum("dapr_grpc_io_client_completed_rpcs")
            .is_some()
    );
    let world_of_grpc = world(Protocol::Grpc, json!({})).await;
    let message = body::full(Bytes::from_static(MESSAGE));
    let response = world_of_grpc.proxy("echo", &[], message).await;
    response.into_body().collect().await.unwrap();
    for name in ["completed_rpcs", "roundtrip_latency"] {
        let name = format!("dapr_grpc_io_client_{name}");
        assert!(world_of_grpc.callee_metrics.sum(&name).is_some(), "{name}");
    }
}
