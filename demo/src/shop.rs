//! The shop: an order every two seconds, each with one call of every building block that the demo shows. With the first one
//! it asks the shelf to be watched, once and for all.

use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::routing::get;
use serde_json::json;
use tokio::time::MissedTickBehavior;

use crate::sidecar::Sidecar;
use crate::{log, shelf, stock};

const PERIOD: Duration = Duration::from_secs(2);

pub fn routes() -> Router {
    Router::new().route("/healthz", get(stock::healthy))
}

/// Places orders for as long as the program runs. An order that fails is logged and the next one has its number.
pub async fn orders() {
    let sidecar = Sidecar::new();
    sidecar.ready().await;
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match place_order(&sidecar).await {
            Ok(line) => log(&line),
            Err(error) => log(&format!("no order: {error:#}")),
        }
    }
}

async fn place_order(sidecar: &Sidecar) -> Result<String> {
    let last = sidecar
        .get_state("orders", "last")
        .await
        .context("read the last order's number")?;
    let order = last.as_u64().unwrap_or(0) + 1;
    if order == 1 {
        sidecar
            .call_actor(shelf::ACTOR, "apples", "watch", json!({}))
            .await
            .context("have the shelf watched")?;
    }
    let reply = sidecar
        .invoke("stock", "reserve", json!({ "order": order }))
        .await
        .context("call the stock")?;
    sidecar
        .invoke("desk", "fulfil", json!({ "order": order }))
        .await
        .context("have the desk fulfil it")?;
    sidecar
        .save_state("orders", "last", json!(order))
        .await
        .context("save the order's number")?;
    sidecar
        .publish("events", "orders", json!({ "order": order }))
        .await
        .context("publish the order")?;
    let pod = reply["pod"].as_str().unwrap_or("an unknown pod");
    Ok(format!(
        "order {order}: reserved by {pod}, number saved, published"
    ))
}
