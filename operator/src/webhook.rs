//! The webhook that converts Subscriptions between their versions for the API server (contract 3.5, 5.2).
//! Q-operator-convert

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response as HttpResponse};
use axum::routing::post;
use axum::{Json, Router};
use daemon::Refusals;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Semaphore;

use transport::{Bodies, BodyError, BodyLimits, Peer, PeerGate, ServerOptions};

use crate::api::chain;
use crate::metrics::PeerMetrics;

/// Path of the webhook, as the CRD names it.
pub const PATH: &str = "/convert";

/// The largest request, in bytes. The API server takes objects of up to 3 MiB, so each fits in; lists come in pages of a few
/// hundred, at a kilobyte a Subscription. Anybody may call, read JSON takes ten times as much memory, and the process serves
/// the API for sidecars too.
const MOST_BYTES: usize = 4 << 20;

/// Requests that are converted at the same time. The others wait.
const MOST_AT_ONCE: usize = 4;

/// Requests at a time; more are refused, and the API server asks again.
const MOST_ADMITTED: usize = 512;
/// Of them, so many from one address: API servers are few, and one that is not one takes no turn from them.
const ADMITTED_PER_PEER: usize = MOST_ADMITTED / 16;

/// Bodies at a time.
const BODIES: BodyLimits = BodyLimits {
    largest: MOST_BYTES,
    count: MOST_ADMITTED,
    memory: 32 << 20,
};

/// Connections at a time; an API server makes one or two.
const MAX_CONNECTIONS: usize = 512;
/// Of them, so many from one address.
const CONNECTIONS_PER_PEER: usize = 32;

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
        .route(PATH, post(pass))
        .with_state(Gate::new(metrics))
}

/// Lets requests in, a few at a time.
#[derive(Clone)]
struct Gate {
    admitted: Arc<Semaphore>,
    admitted_of_one: PeerGate,
    bodies: Arc<Bodies>,
    running: Arc<Semaphore>,
    refusals: Arc<Refusals>,
}

impl Gate {
    fn new(metrics: PeerMetrics) -> Self {
        Self {
            admitted: Arc::new(Semaphore::new(MOST_ADMITTED)),
            admitted_of_one: PeerGate::new(ADMITTED_PER_PEER, move || {
                metrics.refused("conversions")
            }),
            bodies: Arc::new(Bodies::new(BODIES)),
            running: Arc::new(Semaphore::new(MOST_AT_ONCE)),
            refusals: Arc::new(Refusals::new("no conversion")),
        }
    }

    fn busy(&self, address: Option<IpAddr>, reason: &'static str) -> HttpResponse {
        let who = address.map_or_else(|| "somebody".to_owned(), |address| address.to_string());
        self.refusals.note(&who, reason, reason, None);
        (StatusCode::SERVICE_UNAVAILABLE, reason).into_response()
    }

    /// Only what has come whole takes a turn.
    async fn converted(&self, request: HttpRequest) -> HttpResponse {
        let address = Peer::ip_of(&request);
        let held = match self.bodies.read(address, request.into_body()).await {
            Ok(held) => held,
            Err(BodyError::Idle) => return self.busy(address, "its body does not come"),
            Err(error @ BodyError::TooLarge(_)) => {
                return (StatusCode::PAYLOAD_TOO_LARGE, error.to_string()).into_response();
            }
            Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        };
        // Never closed.
        let _turn = self.running.acquire().await;
        match serde_json::from_slice(&held.bytes) {
            Ok(review) => Json(convert(review, &self.refusals)).into_response(),
            Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        }
    }
}

async fn pass(State(gate): State<Gate>, request: HttpRequest) -> HttpResponse {
    let address = Peer::ip_of(&request);
    let Some(_own) = gate.admitted_of_one.try_enter(address, 1) else {
        return gate.busy(address, "too many conversions are waiting for one address");
    };
    let Ok(_admitted) = gate.admitted.try_acquire() else {
        return gate.busy(address, "too many conversions are waiting");
    };
    let converted = tokio::time::timeout(PATIENCE, gate.converted(request)).await;
    converted.unwrap_or_else(|_| gate.busy(address, "the conversion took too long"))
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

fn convert(review: Review, refusals: &Refusals) -> Reviewed {
    let Request {
        uid,
        desired,
        objects,
    } = review.request;
    let one = |object: Value| {
        let name = name_of(&object);
        let converted = crds::subscription::convert(object, &desired);
        converted.map_err(|error| {
            let reason = chain(&error);
            refusals.note(&name, "object", &reason, None);
            format!("{name}: {reason}")
        })
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
            let verdict = Verdict {
                status: "Failure",
                message: Some(error),
            };
            (Vec::new(), verdict)
        }
    };
    Reviewed {
        api_version: review.api_version,
        kind: review.kind,
        response: Response {
            uid,
            converted_objects,
            result,
        },
    }
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
    async fn bodies_that_do_not_come_hold_up_nobody_and_are_few_of_one_address() {
        let router = router(metrics());
        let send = |host: u8, body: Body| {
            let peer = Peer {
                address: Some(([10, 0, 0, host], 1).into()),
                identity: None,
            };
            let request = http::Request::post(PATH).header("content-type", "application/json");
            let request = request.extension(peer).body(body).unwrap();
            router.clone().oneshot(request)
        };
        let silent = || {
            let body = futures::stream::pending::<Result<Vec<u8>, std::io::Error>>();
            Body::from_stream(body)
        };
        let good = || Body::from(review(&json!([])));
        let hosts = (0..4).flat_map(|host| (0..ADMITTED_PER_PEER).map(move |_| host));
        let slow = futures::future::join_all(hosts.map(|host| send(host, silent())));
        let began = tokio::time::Instant::now();
        let script = async {
            // They come after the slow ones.
            tokio::task::yield_now().await;
            let too_many = send(1, good()).await.unwrap();
            assert_eq!(too_many.status(), StatusCode::SERVICE_UNAVAILABLE);
            let served = send(200, good()).await.unwrap();
            assert_eq!(served.status(), StatusCode::OK);
            assert_eq!(began.elapsed(), Duration::ZERO);
        };
        let (slow, ()) = tokio::join!(slow, script);
        let is_busy = |it: &HttpResponse| it.status() == StatusCode::SERVICE_UNAVAILABLE;
        assert!(slow.iter().all(|it| is_busy(it.as_ref().unwrap())));
        assert!(began.elapsed() < PATIENCE / 2);
    }
}
