//! The desk: a worker of workflows. An order is one, of some steps with pauses between, and goes on where it was when the pod that
//! works on it goes: how far it has come is not kept by this program.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use http::StatusCode;
use serde_json::{Value, json};
use tonic::transport::Endpoint;
use workflow_worker::{Outcome, Skills, TaskHub, Workflow};

use crate::sidecar::Sidecar;
use crate::{log, pod, stock};

/// The name of the workflow.
const FULFIL: &str = "fulfil";

/// How many steps an order takes, with a pause after each.
const STEPS: u32 = 10;
const PAUSE: Duration = Duration::from_secs(1);

pub fn routes() -> Router {
    Router::new()
        .route("/healthz", get(stock::healthy))
        .route("/fulfil", post(fulfil))
        .with_state(Arc::new(Sidecar::new()))
}

/// Starts the workflow of an order.
async fn fulfil(State(sidecar): State<Arc<Sidecar>>, Json(request): Json<Value>) -> StatusCode {
    let order = &request["order"];
    let id = format!("order-{order}");
    match sidecar.start_workflow(FULFIL, &id, json!(order)).await {
        Ok(()) => StatusCode::ACCEPTED,
        Err(error) => {
            log(&format!("order {order}: {error:#}"));
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// Works for the sidecar; never ends.
pub async fn work() -> Result<()> {
    let port = std::env::var("DAPR_GRPC_PORT").unwrap_or_else(|_| "50001".into());
    let sidecar = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?;
    let skills = Skills::default()
        .workflow(FULFIL, order)
        .activity("step", |what| async move { said(&what) })
        .activity("ship", |what| async move { said(&what) });
    workflow_worker::work(TaskHub::new(sidecar.connect_lazy()), skills).await;
    Ok(())
}

fn order(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move {
        let order = workflow.input();
        for step in 1..=STEPS {
            let what = format!("order {order}: step {step} of {STEPS}");
            workflow.activity("step", &what).await?;
            workflow.sleep(PAUSE).await;
        }
        workflow
            .activity("ship", &format!("order {order}: shipped"))
            .await
    }
    .boxed_local()
}

fn said(what: &str) -> Outcome {
    log(&format!("{what} by {}", pod()));
    Ok(String::new())
}
