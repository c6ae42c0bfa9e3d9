//! The workflows that are run, and what starts them and waits for them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::future::LocalBoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use proto::durabletask::{
    CreateInstanceRequest, GetInstanceRequest, OrchestrationStatus, WorkflowState,
};
use workflow_worker::{Outcome, Skills, TaskHub, Workflow};

/// When activities of long workflows have been begun.
pub type Begun = Arc<Mutex<Vec<Instant>>>;

/// Starts one of a name, with its input. Not all sidecars give it an id.
pub async fn start(hub: &TaskHub, name: &str, input: &str) -> Result<String> {
    static STARTED: AtomicU64 = AtomicU64::new(0);
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    let request = CreateInstanceRequest {
        instance_id: format!("{name}-{number}"),
        name: name.to_owned(),
        input: Some(format!("\"{input}\"")),
        ..CreateInstanceRequest::default()
    };
    let started = hub.clone().start_instance(request).await?;
    Ok(started.into_inner().instance_id)
}

/// Waits for its end.
pub async fn ended(hub: &TaskHub, instance_id: String) -> Result<WorkflowState> {
    let request = GetInstanceRequest {
        instance_id,
        get_inputs_and_outputs: false,
        router: None,
    };
    let ended = hub.clone().wait_for_instance_completion(request).await?;
    let state = ended.into_inner().workflow_state.unwrap_or_default();
    let status = state.workflow_status();
    ensure!(
        status == OrchestrationStatus::Completed,
        "a workflow has ended as {status:?}"
    );
    Ok(state)
}

/// Starts a workflow and waits for its end.
pub async fn one(hub: &TaskHub, name: &str) -> Result<()> {
    let id = start(hub, name, "1").await?;
    ended(hub, id).await.map(drop)
}

/// Workflows per second, so many under way at a time.
pub async fn rate(hub: &TaskHub, name: &str, at_once: usize, count: usize) -> Result<f64> {
    let began = Instant::now();
    stream::iter(0..count)
        .map(|_| Ok(one(hub, name)))
        .try_buffer_unordered(at_once)
        .try_collect::<()>()
        .await?;
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

/// What the worker of the bench can do.
pub fn skills(begun: Begun) -> Skills {
    Skills::default()
        .activity("echo", |input| async move { Ok(input) })
        .activity("mark", move |input| {
            if let Ok(mut begun) = begun.lock() {
                begun.push(Instant::now());
            }
            async move { Ok(input) }
        })
        .workflow("serial", |workflow| serial(workflow, "echo", 5))
        .workflow("short", |workflow| serial(workflow, "echo", 3))
        .workflow("long", |workflow| serial(workflow, "mark", LONG))
        .workflow("parallel", parallel)
        .workflow("sleep", sleep)
}

fn serial(
    workflow: Workflow,
    activity: &'static str,
    count: usize,
) -> LocalBoxFuture<'static, Outcome> {
    async move {
        let mut value = workflow.input();
        for _ in 0..count {
            value = workflow.activity(activity, &value).await?;
        }
        Ok(value)
    }
    .boxed_local()
}

fn parallel(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move {
        let input = workflow.input();
        let echoes = (0..5).map(|_| workflow.activity("echo", &input));
        let echoes = futures::future::join_all(echoes).await;
        echoes.into_iter().next_back().unwrap_or(Ok(input.clone()))
    }
    .boxed_local()
}

/// Sleeps so many seconds as its input says.
fn sleep(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move {
        let input = workflow.input();
        let seconds = input.trim_matches('"').parse().map_err(|_| input.clone())?;
        workflow.sleep(Duration::from_secs(seconds)).await;
        Ok(input)
    }
    .boxed_local()
}

/// Activities of a long workflow; each has two events in its history, and each turn two more.
pub const LONG: usize = 2_500;
