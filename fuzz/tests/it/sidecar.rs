//! The sidecar itself, as a program: what reaches its API, and what the app answers it. It must go on and count no panic.

use std::str::from_utf8;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use e2e::app::Answer;
use e2e::process::Signal;
use e2e::{App, Daprd, wait};
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// Longest wait for an answer: shorter than the library's patience with an input.
const ANSWER: Duration = Duration::from_secs(8);

const RESOURCES: &str = "
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: statestore}
spec: {type: state.in-memory, version: v1}
---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: pubsub}
spec: {type: pubsub.in-memory, version: v1}
---
apiVersion: dapr.io/v2alpha1
kind: Subscription
metadata: {name: orders}
spec: {topic: orders, pubsubname: pubsub, routes: {default: /orders}}
";

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// It runs, is healthy, and nothing in it has panicked.
async fn unharmed(daprd: &mut Daprd) {
    assert_eq!(daprd.process().exited(), None, "the sidecar has ended");
    let metrics = daprd.metrics().get("/metrics").await.text();
    let quiet = metrics.contains("dapr_runtime_panics_total 0");
    assert!(quiet, "{}", daprd.process().stdout());
}

/// The first line is method and target, then come headers up to an empty line, then the body. Nothing if it is no request
/// that a client could send, or one that ends the sidecar.
fn request(input: &[u8]) -> Option<Request<Full<Bytes>>> {
    let split = input.windows(2).position(|two| two == b"\n\n");
    let (head, body) = match split {
        Some(at) => (&input[..at], &input[at + 2..]),
        None => (input, &[][..]),
    };
    let mut lines = head.split(|byte| *byte == b'\n');
    let (method, target) = from_utf8(lines.next()?).ok()?.split_once(' ')?;
    let uri: Uri = target.parse().ok()?;
    if !uri.path().starts_with('/') || uri.path().contains("shutdown") {
        return None;
    }
    let mut request = Request::new(Full::new(Bytes::copy_from_slice(body)));
    *request.method_mut() = Method::from_bytes(method.as_bytes()).ok()?;
    *request.uri_mut() = uri;
    request
        .headers_mut()
        .insert("host", HeaderValue::from_static("localhost"));
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        // How the body is sent is the client's business.
        if !matches!(
            name.as_str(),
            "content-length" | "transfer-encoding" | "connection" | "upgrade" | "expect" | "te"
        ) {
            request.headers_mut().append(name, value);
        }
    }
    Some(request)
}

/// Sends a request on a connection of its own and reads all of the answer.
async fn answered(port: u16, request: Request<Full<Bytes>>) -> bool {
    let exchange = async {
        let stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("it listens");
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.expect("a connection");
        let reply = async {
            let response = sender.send_request(request).await.ok()?;
            response.into_body().collect().await.ok()
        };
        tokio::pin!(reply);
        tokio::select! {
            reply = &mut reply => reply.is_some(),
            _ = connection => reply.await.is_some(),
        }
    };
    let answer = tokio::time::timeout(ANSWER, exchange).await;
    answer.expect("an answer in time")
}

#[test]
fn http_api() {
    let runtime = runtime();
    let (_app, mut daprd) = runtime.block_on(async {
        let app = App::builder().start().await;
        let daprd = Daprd::builder("app").resources(RESOURCES).app(&app);
        (app, daprd.start().await)
    });
    fuzz::run("http_api", |input| {
        if let Some(request) = request(input) {
            runtime.block_on(async {
                let done = answered(daprd.http_port(), request).await;
                if !done {
                    unharmed(&mut daprd).await;
                }
            });
        }
    });
    runtime.block_on(async {
        unharmed(&mut daprd).await;
        daprd.stop().await;
    });
}

/// An app that answers at `route` with the JSON that is given at the time.
async fn app(route: &str, answer: &Arc<Mutex<Bytes>>) -> App {
    let given = answer.clone();
    let app = App::builder().respond(route, move |_| {
        let body = given.lock().expect("nobody panics").clone();
        async move { Answer::bytes(body).header("content-type", "application/json") }
    });
    app.start().await
}

/// An event as a broker gives it to the sidecar, an empty line, what the app answers to it.
#[test]
fn app_answers() {
    let runtime = runtime();
    let answer = Arc::new(Mutex::new(Bytes::new()));
    let (app, mut daprd) = runtime.block_on(async {
        let app = app("POST /orders", &answer).await;
        let daprd = Daprd::builder("app")
            .resources(RESOURCES)
            .app(&app)
            .start()
            .await;
        daprd.subscribed("orders").await;
        (app, daprd)
    });
    let port = daprd.http_port();
    fuzz::run("app_answers", |input| {
        let split = input.windows(2).position(|two| two == b"\n\n");
        let (event, answered_with) = match split {
            Some(at) => (&input[..at], &input[at + 2..]),
            None => (input, &[][..]),
        };
        *answer.lock().expect("nobody panics") = Bytes::copy_from_slice(answered_with);
        let mut request = Request::new(Full::new(Bytes::copy_from_slice(event)));
        *request.method_mut() = Method::POST;
        // As it is, without an envelope of ours: so the subscriber has to make sense of it.
        *request.uri_mut() =
            Uri::from_static("/v1.0/publish/pubsub/orders?metadata.rawPayload=true");
        request
            .headers_mut()
            .insert("host", HeaderValue::from_static("localhost"));
        runtime.block_on(async {
            if !answered(port, request).await {
                unharmed(&mut daprd).await;
            }
        });
    });
    runtime.block_on(async {
        unharmed(&mut daprd).await;
        assert!(!app.calls("/orders").is_empty(), "no event arrived");
        daprd.stop().await;
    });
}

/// What an app answers that is asked for its subscriptions, which the sidecar does each time it begins anew.
#[test]
fn subscriptions() {
    let runtime = runtime();
    let answer = Arc::new(Mutex::new(Bytes::from_static(b"[]")));
    let (app, mut daprd) = runtime.block_on(async {
        let app = app("GET /dapr/subscribe", &answer).await;
        let daprd = Daprd::builder("app")
            .resources(RESOURCES)
            .app(&app)
            .start()
            .await;
        (app, daprd)
    });
    fuzz::run("subscriptions", |input| {
        *answer.lock().expect("nobody panics") = Bytes::copy_from_slice(input);
        runtime.block_on(async {
            let asked = app.calls("/dapr/subscribe").len();
            daprd.process().signal(Signal::Hangup).await;
            wait::eventually("the app to be asked", ANSWER, || async {
                app.calls("/dapr/subscribe").len() > asked
            })
            .await;
            daprd.ready().await;
        });
    });
    runtime.block_on(async {
        unharmed(&mut daprd).await;
        daprd.stop().await;
    });
}
