//! A scripted Kubernetes API for tests: a function from requests to answers, and a note of every request.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// One request as the API saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub body: Value,
}

/// The requests so far, oldest first.
pub type Log = Arc<Mutex<Vec<Seen>>>;

/// A cluster whose API is `answer`: status and body for each request.
pub fn cluster(answer: impl Fn(&Seen) -> (u16, Value) + Send + Sync + 'static) -> (Cluster, Log) {
    let log = Log::default();
    let answer = Arc::new(answer);
    let noted = Arc::clone(&log);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (answer, log) = (Arc::clone(&answer), Arc::clone(&noted));
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let seen = Seen {
                method: head.method,
                path: head.uri.path().to_owned(),
                body: serde_json::from_slice(&body).unwrap_or_default(),
            };
            let (status, body) = answer(&seen);
            log.lock().push(seen);
            let response = Response::builder()
                .status(status)
                .body(Full::new(Bytes::from(body.to_string())));
            Ok::<_, tower::BoxError>(response?)
        }
    });
    (Cluster::new(Client::new(service, "default"), ""), log)
}

/// The answer for what is not there.
pub fn missing() -> (u16, Value) {
    status(404, "NotFound")
}

/// An answer without an object.
pub fn status(code: u16, reason: &str) -> (u16, Value) {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code});
    (code, body)
}

/// Method and path of the requests so far.
pub fn lines(log: &Log) -> Vec<String> {
    let log = log.lock();
    log.iter()
        .map(|seen| format!("{} {}", seen.method, seen.path))
        .collect()
}
