//! A worker of workflows beside a sidecar, and what becomes of its instances.

use std::time::Duration;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use workflow_worker::{
    Function, HistoryPropagationScope, Outcome, Place, Skills, TaskHub, Workflow,
};

use crate::{Daprd, wait};

/// A worker beside a sidecar, until it is dropped.
pub struct Worker {
    stop: CancellationToken,
}

impl Worker {
    /// Connects, and waits until the sidecar hosts workflows.
    pub async fn start(daprd: &Daprd, skills: &Skills) -> Self {
        let worker = Self::begin(daprd, skills);
        hosted(daprd).await;
        worker
    }

    /// Connects as soon as the sidecar is there.
    pub fn begin(daprd: &Daprd, skills: &Skills) -> Self {
        let stop = CancellationToken::new();
        let work = workflow_worker::work(TaskHub::new(daprd.channel()), skills.clone());
        TaskTracker::new().spawn(stop.clone().run_until_cancelled_owned(work));
        Self { stop }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Waits until a sidecar hosts workflows and has told placement so.
pub async fn hosted(daprd: &Daprd) {
    daprd
        .metadata_until("workflows to be hosted", |metadata| {
            let runtime = &metadata["actorRuntime"];
            let types = runtime["activeActors"].as_array();
            let internal = |it: &&serde_json::Value| {
                it["type"]
                    .as_str()
                    .is_some_and(|it| it.starts_with("dapr.internal."))
            };
            types.is_some_and(|types| types.iter().filter(internal).count() >= 3)
                && runtime["placement"] == "placement: connected"
        })
        .await;
}

/// Starts an instance over HTTP.
pub async fn start(daprd: &Daprd, workflow: &str, id: &str, input: &str) {
    let path = format!("/v1.0/workflows/dapr/{workflow}/start?instanceID={id}");
    let request = daprd.http().request(http::Method::POST, &path);
    let reply = request.body(input.to_owned()).send().await;
    let started = serde_json::json!({"instanceID": id});
    assert_eq!(reply.expect_status(202).json(), started);
}

/// Asks something of an instance over HTTP.
pub async fn ask(daprd: &Daprd, id: &str, what: &str, body: &str) {
    let path = format!("/v1.0/workflows/dapr/{id}/{what}");
    let request = daprd.http().request(http::Method::POST, &path);
    request
        .body(body.to_owned())
        .send()
        .await
        .expect_status(202);
}

/// Waits until an instance has a status.
pub async fn becomes(daprd: &Daprd, id: &str, status: &str) {
    let path = format!("/v1.0/workflows/dapr/{id}");
    wait::eventually(&format!("{id} to be {status}"), wait::DEADLINE, || async {
        let reply = daprd.http().get(&path).await;
        reply.status == 200 && reply.json()["runtimeStatus"] == status
    })
    .await;
}

/// Waits for the end of an instance: its status by name, and what it came to.
pub async fn ended(daprd: &Daprd, id: &str) -> (String, Outcome) {
    let path = format!("/v1.0/workflows/dapr/{id}");
    wait::until(&format!("the end of {id}"), LONG, || async {
        let request = daprd.http().request(http::Method::GET, &path);
        let reply = request.attempt().await.ok()?;
        let state = (reply.status == 200).then(|| reply.json())?;
        let status = state["runtimeStatus"].as_str()?.to_owned();
        let text = |key: &str| {
            let value = &state["properties"][format!("dapr.workflow.{key}")];
            value.as_str().map(str::to_owned)
        };
        let outcome = match text("failure.error_message") {
            Some(problem) => Err(problem),
            None => Ok(text("output").unwrap_or_default()),
        };
        let over = ["COMPLETED", "FAILED", "TERMINATED", "CANCELED"];
        over.contains(&status.as_str()).then_some((status, outcome))
    })
    .await
}

/// Long enough for the takeover of what another sidecar has left.
const LONG: Duration = Duration::from_secs(60);
