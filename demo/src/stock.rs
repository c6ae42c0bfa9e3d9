//! The stock: called by the shop, subscribed to its orders, and told when a job of it is due. What it received it tells at
//! /received, and /echo repeats a request, so that a test can see what arrived.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, Request, State};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use http::StatusCode;
use http_body_util::{BodyExt, Limited};
use serde_json::{Value, json};

use crate::{log, pod};

/// How many of the events last received are kept.
const MAX_RECEIVED: usize = 1000;
const MAX_ECHO: usize = 1 << 20;

type Received = Arc<Mutex<VecDeque<Value>>>;

pub fn routes() -> Router {
    Router::new()
        .route("/healthz", get(healthy))
        .route("/reserve", post(reserve))
        .route("/orders", post(order))
        .route("/job/{name}", post(job))
        .route("/received", get(received))
        .route("/echo", any(echo))
        .with_state(Received::default())
}

pub async fn healthy() -> StatusCode {
    StatusCode::NO_CONTENT
}

async fn reserve(Json(request): Json<Value>) -> Json<Value> {
    log(&format!("order {}: reserved", request["order"]));
    Json(json!({ "order": request["order"], "pod": pod() }))
}

/// An event arrives as a CloudEvent, with what was published in `data`.
async fn order(State(received): State<Received>, Json(event): Json<Value>) -> Json<Value> {
    let data = &event["data"];
    log(&format!(
        "order {}: event received from {}",
        data["order"], event["source"]
    ));
    keep(&received, data.clone());
    Json(json!({ "status": "SUCCESS" }))
}

/// A job that somebody has given this app is due.
async fn job(
    State(received): State<Received>,
    Path(name): Path<String>,
    Json(data): Json<Value>,
) -> StatusCode {
    log(&format!("job {name}: due, with {data}"));
    keep(&received, json!({ "job": name, "data": data }));
    StatusCode::OK
}

fn keep(received: &Received, what: Value) {
    let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
    if received.len() == MAX_RECEIVED {
        received.pop_front();
    }
    received.push_back(what);
}

async fn received(State(received): State<Received>) -> Json<Value> {
    let received = received.lock().unwrap_or_else(PoisonError::into_inner);
    Json(json!(*received))
}

async fn echo(request: Request) -> Result<Json<Value>, StatusCode> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, MAX_ECHO).collect().await;
    let body = body.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?.to_bytes();
    let headers: BTreeMap<&str, &str> = parts
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
        .collect();
    Ok(Json(json!({
        "pod": pod(),
        "method": parts.method.as_str(),
        "path": parts.uri.path(),
        "query": parts.uri.query(),
        "headers": headers,
        "body": String::from_utf8_lossy(&body),
    })))
}
