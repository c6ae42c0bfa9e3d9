//! The shelf: an actor, one for each product. Asked to `watch`, it sets itself a reminder, and counts in its state how often
//! that came. Who holds the count and who remembers the time is not this program, so both outlive it.

use std::sync::Arc;

use anyhow::{Context, Result};
use axum::extract::{Path, State};
use axum::routing::{delete, get, put};
use axum::{Json, Router};
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use crate::sidecar::Sidecar;
use crate::{log, pod, stock};

/// The type of the actor, the key in its state, and the name of its reminder.
pub const ACTOR: &str = "Shelf";
const COUNT: &str = "count";
const REMINDER: &str = "restock";

/// How often a shelf is restocked that was not told otherwise.
const PERIOD: &str = "2s";

type Own = State<Arc<Sidecar>>;

pub fn routes() -> Router {
    let method = "/actors/Shelf/{id}/method";
    Router::new()
        .route("/healthz", get(stock::healthy))
        .route("/dapr/config", get(config))
        .route("/actors/Shelf/{id}", delete(deactivated))
        .route(&format!("{method}/watch"), put(watch))
        .route(&format!("{method}/count"), put(count))
        .route(&format!("{method}/remind/{REMINDER}"), put(restock))
        .with_state(Arc::new(Sidecar::new()))
}

/// What the sidecar is to call this program for.
async fn config() -> Json<Value> {
    Json(json!({ "entities": [ACTOR] }))
}

async fn deactivated() -> StatusCode {
    StatusCode::OK
}

/// Sets the reminder, with another period if the caller names one.
async fn watch(State(sidecar): Own, Path(id): Path<String>, body: Bytes) -> StatusCode {
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let period = asked["period"].as_str().unwrap_or(PERIOD);
    let reminder = json!({ "dueTime": period, "period": period });
    let set = sidecar.remind(ACTOR, &id, REMINDER, reminder).await;
    said(set.map(|()| format!("shelf {id}: to be restocked every {period}")))
}

async fn count(State(sidecar): Own, Path(id): Path<String>) -> Result<Json<Value>, StatusCode> {
    let count = sidecar.actor_state(ACTOR, &id, COUNT).await;
    let count = count.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(Json(json!({ "count": count, "pod": pod() })))
}

/// The reminder. A failure is tried again by whoever remembers it.
async fn restock(State(sidecar): Own, Path(id): Path<String>) -> StatusCode {
    said(restocked(&sidecar, &id).await)
}

async fn restocked(sidecar: &Sidecar, id: &str) -> Result<String> {
    let count = sidecar
        .actor_state(ACTOR, id, COUNT)
        .await
        .context("read the count")?;
    let count = count.as_u64().unwrap_or(0) + 1;
    sidecar
        .save_actor_state(ACTOR, id, COUNT, json!(count))
        .await
        .context("save the count")?;
    Ok(format!("shelf {id}: restocked, {count} times by now"))
}

fn said(outcome: Result<String>) -> StatusCode {
    match outcome {
        Ok(line) => {
            log(&line);
            StatusCode::OK
        }
        Err(error) => {
            log(&format!("shelf: {error:#}"));
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}
