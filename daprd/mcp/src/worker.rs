//! Takes the work items of MCP servers: turns of their workflows, and their activities.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use crds::Kind;
use proto::durabletask::{ActivityRequest, ActivityResponse, WorkflowRequest, WorkflowResponse};
use workflow::workers::{InProcess, Lost};

use crate::{
    flow,
    names::{self, Activity, Operation},
    replay::{Replay, Stop, failure, started},
    server::Server,
    servers::Inner,
};

/// The servers, for as long as they are there.
pub struct Worker(pub Weak<Inner>);

#[async_trait]
impl InProcess for Worker {
    async fn workflow(&self, request: WorkflowRequest) -> Result<WorkflowResponse, Lost> {
        let inner = self.0.upgrade().ok_or(Lost)?;
        let turn = Box::pin(turn(&inner, request));
        inner.closed.run_until_cancelled(turn).await.ok_or(Lost)
    }

    async fn activity(&self, request: ActivityRequest) -> Result<ActivityResponse, Lost> {
        let inner = self.0.upgrade().ok_or(Lost)?;
        let running = Box::pin(activity(&inner, request));
        // What the end of the sidecar breaks off has no result: it is done again.
        inner.closed.run_until_cancelled(running).await.ok_or(Lost)
    }
}

async fn turn(inner: &Inner, request: WorkflowRequest) -> WorkflowResponse {
    let instance_id = request.instance_id.clone();
    let (name, input) = started(&request)
        .map(|started| (started.name.clone(), started.input.clone()))
        .unwrap_or_default();
    let mut replay = Replay::new(request);
    let ended = match served(inner, &name, &replay).await {
        Ok((server, operation)) => {
            let middleware = server.resource.spec.middleware.as_ref();
            let resource = server.resource.name();
            flow::run(
                &mut replay,
                resource,
                middleware,
                &operation,
                input.as_deref(),
            )
        }
        Err(problem) => Err(Stop::Failed(format!(
            "workflow named '{name}' is not registered{problem}"
        ))),
    };
    WorkflowResponse {
        instance_id,
        actions: replay.finish(ended),
        ..WorkflowResponse::default()
    }
}

/// The server whose workflow it is. One that has begun goes on, whatever has become of the tool.
async fn served(
    inner: &Inner,
    name: &str,
    replay: &Replay,
) -> Result<(Arc<Server>, Operation), String> {
    let (server, operation) = inner.find(|known| names::workflow(name, known)).ok_or("")?;
    if replay.has_begun() {
        return Ok((server, operation));
    }
    let tools = server.tools().await;
    let tools = tools.map_err(|reason| {
        let name = server.name();
        format!(": MCPServer {name:?} cannot be reached: {reason}")
    })?;
    match &operation {
        Operation::CallTool(tool) if !tools.iter().any(|it| it.name == *tool) => Err(String::new()),
        _ => Ok((server, operation)),
    }
}

async fn activity(inner: &Inner, request: ActivityRequest) -> ActivityResponse {
    let instance = request.workflow_instance.unwrap_or_default();
    let mut response = ActivityResponse {
        instance_id: instance.instance_id,
        task_id: request.task_id,
        ..ActivityResponse::default()
    };
    let name = &request.name;
    let Some((server, what)) = inner.find(|known| names::activity(name, known)) else {
        let message = format!("activity named '{name}' is not registered");
        response.failure_details = Some(failure(message));
        return response;
    };
    let input = request.input.unwrap_or_default();
    match what {
        Activity::CallTool => response.result = Some(server.call(&input).await),
        Activity::ListTools => match server.list().await {
            Ok(tools) => response.result = Some(tools),
            Err(error) => {
                let name = server.name();
                let text = format!("list-tools: MCPServer {name:?}: {error}");
                response.failure_details = Some(failure(text));
            }
        },
    }
    response
}
