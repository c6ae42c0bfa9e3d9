//! The webhook that converts Subscriptions between their versions for the API server (contract 3.5, 5.2).
//! Q-operator-convert

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response as HttpResponse};
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Semaphore;

use transport::{Peer, PeerGate, ServerOptions};

use crate::api::chain;
use crate::metrics::PeerMetrics;

/// Path of the webhook, as the CRD names it.
pub const PATH: &str = "/convert";

/// The largest request, in bytes. The API server takes objects of up to 3 MiB, so each fits in; lists come in pages of a few
/// hundred, at a kilobyte a Subscription. Anybody may call, read JSON takes ten times as much memory, and the process serves
/// the API for sidecars too.
const MOST_BYTES: usize = 4 << 20;

/// Requests that are read and converted at the same time. The others wait.
const MOST_AT_ONCE: usize = 4;

/// Requests that wait; more are refused, and the API server asks again.
const MOST_WAITING: usize = 64;

/// Of those that run and of those that wait, so many from one address: API servers are few, and one that is not one takes no
/// turn from them.
const RUNNING_PER_PEER: usize = 2;
const ADMITTED_PER_PEER: usize = 32;

/// Connections at a time; an API server makes one or two.
const MAX_CONNECTIONS: usize = 512;
/// Of them, so many from one address.
const CONNECTIONS_PER_PEER: usize = 64;

/// How long one may take, waiting and reading included; the API server gives up after 30 seconds.
const PATIENCE: Duration = Duration::from_secs(15);

/// How the webhook's port is served.
pub fn options(metrics: &PeerMetrics) -> ServerOptions {
    let metrics = metrics.clone();
    ServerOptions {
        max_connections: MAX_CONNECTIONS,
        peers: Some(PeerGate::new(CONNECTIONS_PER_PEER, move || {
            metrics.refused("connections");
        })),
        ..ServerOptions::default()
    }
}

/// The service behind the webhook's port.
pub fn router(metrics: PeerMetrics) -> Router {
    Router::new()
        .route(PATH, post(convert))
        .layer(DefaultBodyLimit::max(MOST_BYTES))
        .layer(middleware::from_fn_with_state(
            Gate::new(metrics),
            Gate::pass,
        ))
}

/// Lets requests in, a few at a time.
#[derive(Clone)]
struct Gate {
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
    running_of_one: PeerGate,
    admitted_of_one: PeerGate,
}

impl Gate {
    fn new(metrics: PeerMetrics) -> Self {
        Self {
            running_of_one: PeerGate::new(RUNNING_PER_PEER, || ()),
            admitted_of_one: PeerGate::new(ADMITTED_PER_PEER, move || {
                metrics.refused("conversions")
            }),
            running: Arc::new(Semaphore::new(MOST_AT_ONCE)),
            admitted: Arc::new(Semaphore::new(MOST_AT_ONCE + MOST_WAITING)),
        }
    }

    async fn pass(State(gate): State<Self>, request: HttpRequest, next: Next) -> HttpResponse {
        let address = Peer::ip_of(&request);
        let Some(_own) = gate.admitted_of_one.try_enter(address, 1) else {
            return busy("too many conversions are waiting for one address");
        };
        let Ok(_admitted) = gate.admitted.try_acquire() else {
            return busy("too many conversions are waiting");
        };
        let convert = async {
            // Never closed. What is not let in yet is not read either.
            let _turn = gate.running_of_one.enter(address, 1).await;
            let _permit = gate.running.acquire().await;
            next.run(request).await
        };
        let converted = tokio::time::timeout(PATIENCE, convert).await;
        converted.unwrap_or_else(|_| busy("the conversion took too long"))
    }
}

fn busy(reason: &'static str) -> HttpResponse {
    tracing::warn!("a conversion is refused: {reason}");
    (StatusCode::SERVICE_UNAVAILABLE, reason).into_response()
}

/// `ConversionReview` of `apiextensions.k8s.io/v1`, both ways.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: String,
    request: Request,
}

#[derive(Deserialize)]
struct Request {
    uid: String,
    #[serde(rename = "desiredAPIVersion")]
    desired: String,
    #[serde(default)]
    objects: Vec<Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reviewed {
    api_version: String,
    kind: String,
    response: Response,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    converted_objects: Vec<Value>,
    result: Verdict,
}

#[derive(Serialize)]
struct Verdict {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

async fn convert(Json(review): Json<Review>) -> Json<Reviewed> {
    let Request {
        uid,
        desired,
        objects,
    } = review.request;
    let one = |object: Value| {
        let name = name_of(&object);
        let converted = crds::subscription::convert(object, &desired);
        converted.map_err(|error| format!("{name}: {}", chain(&error)))
    };
    let converted: Result<Vec<_>, _> = objects.into_iter().map(one).collect();
    let (converted_objects, result) = match converted {
        Ok(objects) => {
            let verdict = Verdict {
                status: "Success",
                message: None,
            };
            (objects, verdict)
        }
        Err(error) => {
            tracing::error!("cannot convert {error}");
            let verdict = Verdict {
                status: "Failure",
                message: Some(error),
            };
            (Vec::new(), verdict)
        }
    };
    Json(Reviewed {
        api_version: review.api_version,
        kind: review.kind,
        response: Response {
            uid,
            converted_objects,
            result,
        },
    })
}

/// Namespace and name, for whoever has to find the object among many.
fn name_of(object: &Value) -> String {
    let text = |member: &str| {
        let value = object.get("metadata").and_then(|it| it.get(member));
        value.and_then(Value::as_str).unwrap_or_default()
    };
    format!("{}/{}", text("namespace"), text("name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use http_body_util::BodyExt;
    use serde_json::json;
    use tower::ServiceExt;

    fn metrics() -> PeerMetrics {
        let registry = prometheus::Registry::new();
        let meter = telemetry::Meter::new(&registry, telemetry::MetricOptions::default());
        PeerMetrics::new(&meter.expect("a fresh registry"))
    }

    async fn post(body: String) -> (http::StatusCode, Value) {
        let request = http::Request::post(PATH)
            .header("content-type", "application/json")
            .body(Body::from(body))
            .unwrap();
        let response = router(metrics()).oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    fn review(objects: &Value) -> String {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
            "request": {"uid": "u-1", "desiredAPIVersion": "dapr.io/v2alpha1", "objects": objects},
        })
        .to_string()
    }

    #[tokio::test]
    async fn subscriptions_are_converted() {
        let old = json!({
            "apiVersion": "dapr.io/v1alpha1", "kind": "Subscription", "metadata": {"name": "s"},
            "spec": {"pubsubname": "bus", "topic": "t", "route": "/r"},
        });
        let (status, answer) = post(review(&json!([old]))).await;
        assert_eq!(status, 200);
        assert_eq!(answer["kind"], "ConversionReview");
        assert_eq!(answer["response"]["uid"], "u-1");
        assert_eq!(answer["response"]["result"], json!({"status": "Success"}));
        let new = &answer["response"]["convertedObjects"][0];
        assert_eq!(new["apiVersion"], "dapr.io/v2alpha1");
        assert_eq!(new["spec"]["routes"]["default"], "/r");
    }

    #[tokio::test]
    async fn what_cannot_be_converted_fails_the_review() {
        let metadata = json!({"namespace": "shop", "name": "orders"});
        for (version, kind) in [("v1alpha1", "Component"), ("v3", "Subscription")] {
            let version = format!("dapr.io/{version}");
            let stranger = json!({"apiVersion": version, "kind": kind, "metadata": metadata});
            let (status, answer) = post(review(&json!([stranger]))).await;
            assert_eq!(status, 200);
            let result = &answer["response"]["result"];
            assert_eq!(result["status"], "Failure");
            let reason = result["message"].as_str().unwrap();
            assert!(
                reason.starts_with("shop/orders: ") && reason.contains(&version),
                "{reason}"
            );
            assert_eq!(answer["response"]["convertedObjects"], json!([]));
        }
        for bad in ["", "{}", "[]", "nonsense"] {
            let (status, _) = post(bad.to_owned()).await;
            assert!(status.is_client_error(), "{bad}: {status}");
        }
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_is_refused() {
        let (status, _) = post(review(&json!(["x".repeat(MOST_BYTES)]))).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_that_do_not_come_hold_up_nobody_for_long_and_no_more_than_a_few() {
        let router = router(metrics());
        let send = |host: usize, body: Body| {
            let request = http::Request::post(PATH).header("content-type", "application/json");
            let host = u8::try_from(host).unwrap();
            let peer = Peer {
                address: Some(([10, 0, 0, host], 1).into()),
                identity: None,
            };
            let request = request.extension(peer).body(body).unwrap();
            router.clone().oneshot(request)
        };
        let slow = |host| {
            let body = futures::stream::pending::<Result<Vec<u8>, std::io::Error>>();
            send(host, Body::from_stream(body))
        };
        let good = || Body::from(review(&json!([])));
        let all = MOST_AT_ONCE + MOST_WAITING;
        let all = futures::future::join_all((0..all).map(|n| slow(n / ADMITTED_PER_PEER)));
        let began = tokio::time::Instant::now();
        let script = async {
            // They come after the slow ones.
            tokio::task::yield_now().await;
            let refused = send(200, good()).await.unwrap();
            assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert!(began.elapsed() < PATIENCE);
        };
        let (slow, ()) = tokio::join!(all, script);
        assert!(
            slow.iter()
                .all(|it| it.as_ref().unwrap().status() == StatusCode::SERVICE_UNAVAILABLE)
        );
        assert!(began.elapsed() < PATIENCE * 2);
        let served = send(200, good()).await.unwrap();
        assert_eq!(served.status(), StatusCode::OK);
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_takes_no_turn_from_another() {
        let router = router(metrics());
        let send = |host: u8, body: Body| {
            let peer = Peer {
                address: Some(([10, 0, 0, host], 1).into()),
                identity: None,
            };
            let request = http::Request::post(PATH).header("content-type", "application/json");
            router
                .clone()
                .oneshot(request.extension(peer).body(body).unwrap())
        };
        let silent = || {
            let body = futures::stream::pending::<Result<Vec<u8>, std::io::Error>>();
            Body::from_stream(body)
        };
        let slow = futures::future::join_all((0..ADMITTED_PER_PEER).map(|_| send(1, silent())));
        let began = tokio::time::Instant::now();
        let script = async {
            tokio::task::yield_now().await;
            let too_many = send(1, Body::from(review(&json!([])))).await.unwrap();
            assert_eq!(too_many.status(), StatusCode::SERVICE_UNAVAILABLE);
            let other = send(2, Body::from(review(&json!([])))).await.unwrap();
            assert_eq!(other.status(), StatusCode::OK);
            assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
        };
        tokio::join!(slow, script);
    }
}
