//! The task hub service (contract 11.5): workers take work items and answer them, and SDKs ask for instances. Its proto has no
//! package, and access rules say nothing of it.

use ::workflow::Error;
use futures::{StreamExt, stream};
use proto::durabletask::{
    ActivityResponse, CompleteTaskResponse, CreateInstanceRequest, CreateInstanceResponse,
    GetInstanceHistoryRequest, GetInstanceHistoryResponse, GetInstanceRequest, GetInstanceResponse,
    GetWorkItemsRequest, ListInstanceIDsRequest, ListInstanceIDsResponse, OrchestrationStatus,
    PurgeInstancesRequest, PurgeInstancesResponse, RaiseEventRequest, RaiseEventResponse,
    RerunWorkflowFromEventRequest, RerunWorkflowFromEventResponse, ResumeRequest, ResumeResponse,
    SuspendRequest, SuspendResponse, TaskRouter, TerminateRequest, TerminateResponse, WorkItem,
    WorkflowResponse,
};
use tonic::{Code, Status};

use super::trace;
use crate::{
    Api, ApiError, CallContext,
    grpc::Outgoing,
    operations::{Rpc, rpc},
};

/// What the paths of the service begin with.
pub const SERVICE: &str = "/TaskHubSidecarService/";

macro_rules! task_hub {
    (server_stream $name:literal, $operation:ident) => {
        rpc!(@ "/TaskHubSidecarService/", ServerStream server_stream $name, "v1", $operation)
    };
    ($name:literal, $operation:ident) => {
        rpc!(@ "/TaskHubSidecarService/", Unary unary $name, "v1", $operation)
    };
}

/// All RPCs of the service.
pub static RPCS: &[Rpc] = &[
    task_hub!("Hello", hello),
    task_hub!("StartInstance", start_instance),
    task_hub!("GetInstance", instance_state),
    task_hub!("WaitForInstanceStart", wait_for_instance_start),
    task_hub!("WaitForInstanceCompletion", wait_for_instance_completion),
    task_hub!("RaiseEvent", raise_instance_event),
    task_hub!("TerminateInstance", terminate_instance),
    task_hub!("SuspendInstance", suspend_instance),
    task_hub!("ResumeInstance", resume_instance),
    task_hub!("PurgeInstances", purge_instances),
    task_hub!(server_stream "GetWorkItems", work_items),
    task_hub!("CompleteActivityTask", complete_activity),
    // The older name of the one below.
    task_hub!("CompleteOrchestratorTask", complete_turn),
    task_hub!("CompleteWorkflowTask", complete_turn),
    task_hub!("RerunWorkflowFromEvent", rerun_instance),
    task_hub!("ListInstanceIDs", instance_ids),
    task_hub!("GetInstanceHistory", instance_history),
];

impl Api {
    /// Tells an SDK that somebody is there.
    pub async fn hello(&self, _call: &CallContext, _request: ()) -> Result<(), ApiError> {
        Ok(())
    }

    /// Starts an instance, and waits until it has begun, unless it is to begin at a time.
    pub async fn start_instance(
        &self,
        call: &CallContext,
        mut request: CreateInstanceRequest,
    ) -> Result<CreateInstanceResponse, ApiError> {
        self.check_actors()?;
        if request.parent_trace_context.is_none() {
            request.parent_trace_context = trace(call);
        }
        let at_once = request.scheduled_start_timestamp.is_none();
        let router = request.router.clone();
        let engine = &self.options.workflow;
        let instance_id = engine
            .start(request)
            .await
            .map_err(|error| said(error, "failed to create workflow instance: "))?;
        if at_once {
            self.begun(&instance_id, router).await?;
        }
        Ok(CreateInstanceResponse { instance_id })
    }

    /// What is known of an instance.
    pub async fn instance_state(
        &self,
        _call: &CallContext,
        request: GetInstanceRequest,
    ) -> Result<GetInstanceResponse, ApiError> {
        self.check_actors()?;
        let workflow_state = match self.options.workflow.state(request).await {
            Err(Error::NotFound) => None,
            state => state.map_err(|error| said(error, ""))?,
        };
        Ok(GetInstanceResponse {
            exists: workflow_state.is_some(),
            workflow_state,
        })
    }

    /// Waits until an instance has begun.
    pub async fn wait_for_instance_start(
        &self,
        _call: &CallContext,
        request: GetInstanceRequest,
    ) -> Result<GetInstanceResponse, ApiError> {
        self.check_actors()?;
        let state = self.options.workflow.wait_for_start(request).await;
        Ok(GetInstanceResponse {
            exists: true,
            workflow_state: Some(state.map_err(|error| said(error, ""))?),
        })
    }

    /// Waits until an instance has ended.
    pub async fn wait_for_instance_completion(
        &self,
        _call: &CallContext,
        request: GetInstanceRequest,
    ) -> Result<GetInstanceResponse, ApiError> {
        self.check_actors()?;
        let state = self.options.workflow.wait_for_completion(request).await;
        Ok(GetInstanceResponse {
            exists: true,
            workflow_state: Some(state.map_err(|error| said(error, ""))?),
        })
    }

    /// Hands an event to an instance.
    pub async fn raise_instance_event(
        &self,
        _call: &CallContext,
        request: RaiseEventRequest,
    ) -> Result<RaiseEventResponse, ApiError> {
        self.check_actors()?;
        let raised = self.options.workflow.raise_event(request).await;
        raised.map_err(|error| said(error, ""))?;
        Ok(RaiseEventResponse {})
    }

    /// Ends an instance, and waits until it has ended.
    pub async fn terminate_instance(
        &self,
        _call: &CallContext,
        request: TerminateRequest,
    ) -> Result<TerminateResponse, ApiError> {
        self.check_actors()?;
        let ended = GetInstanceRequest {
            instance_id: request.instance_id.clone(),
            get_inputs_and_outputs: false,
            router: request.router.clone(),
        };
        let engine = &self.options.workflow;
        let asked = engine.terminate(request).await;
        asked.map_err(|error| said(error, "failed to submit termination request: "))?;
        let ended = engine.wait_for_completion(ended).await;
        ended.map_err(|error| said(error, ""))?;
        Ok(TerminateResponse {})
    }

    /// Suspends an instance, and waits until it is suspended.
    pub async fn suspend_instance(
        &self,
        _call: &CallContext,
        request: SuspendRequest,
    ) -> Result<SuspendResponse, ApiError> {
        self.check_actors()?;
        let (id, router) = (request.instance_id.clone(), request.router.clone());
        let asked = self.options.workflow.suspend(request).await;
        asked.map_err(|error| said(error, ""))?;
        self.becomes(OrchestrationStatus::Suspended, id, router)
            .await?;
        Ok(SuspendResponse {})
    }

    /// Resumes an instance, and waits until it runs.
    pub async fn resume_instance(
        &self,
        _call: &CallContext,
        request: ResumeRequest,
    ) -> Result<ResumeResponse, ApiError> {
        self.check_actors()?;
        let (id, router) = (request.instance_id.clone(), request.router.clone());
        let asked = self.options.workflow.resume(request).await;
        asked.map_err(|error| said(error, ""))?;
        self.becomes(OrchestrationStatus::Running, id, router)
            .await?;
        Ok(ResumeResponse {})
    }

    /// Deletes the state of instances.
    pub async fn purge_instances(
        &self,
        _call: &CallContext,
        request: PurgeInstancesRequest,
    ) -> Result<PurgeInstancesResponse, ApiError> {
        self.check_actors()?;
        let by_filter = matches!(
            request.request,
            Some(proto::durabletask::purge_instances_request::Request::PurgeInstanceFilter(_))
        );
        let purged = self.options.workflow.purge(request).await;
        let purged = purged.map_err(|error| said(error, "failed to purge workflow state: "))?;
        Ok(PurgeInstancesResponse {
            deleted_instance_count: i32::try_from(purged.instances).unwrap_or(i32::MAX),
            is_complete: by_filter.then_some(purged.complete),
        })
    }

    /// A worker comes: its work items, until it leaves or the sidecar ends.
    pub async fn work_items(
        &self,
        call: &CallContext,
        request: GetWorkItemsRequest,
    ) -> Result<Outgoing<WorkItem>, ApiError> {
        self.options.actors.check().map_err(|error| {
            let text = format!("unable to establish work item stream at this time: {error}");
            ApiError::of_status(Status::unavailable(text))
        })?;
        let agent = call.header("user-agent").unwrap_or_default();
        tracing::info!("work item stream established by user-agent: {agent:?}");
        let workers = self.options.workflow.workers();
        let items = workers.connect_with_room(request, room(agent));
        let end = || ApiError::of_status(Status::cancelled("shutting down"));
        let end = stream::once(async move { Err(end()) });
        Ok(items.map(Ok).chain(end).boxed())
    }

    /// A worker answers a turn of a workflow. An answer that nobody waits for is passed over: the worker was too late, and the
    /// turn is another's. Compat: Q-workflow-late
    pub async fn complete_turn(
        &self,
        _call: &CallContext,
        response: WorkflowResponse,
    ) -> Result<CompleteTaskResponse, ApiError> {
        let instance = response.instance_id.clone();
        if let Err(error) = self.options.completions.workflow(response).await {
            tracing::warn!("passing over an answer to a turn of workflow {instance:?}: {error}");
        }
        Ok(CompleteTaskResponse {})
    }

    /// A worker answers an activity; as above.
    pub async fn complete_activity(
        &self,
        _call: &CallContext,
        response: ActivityResponse,
    ) -> Result<CompleteTaskResponse, ApiError> {
        let (instance, task) = (response.instance_id.clone(), response.task_id);
        if let Err(error) = self.options.completions.activity(response).await {
            tracing::warn!("passing over an answer to activity {instance:?}::{task}: {error}");
        }
        Ok(CompleteTaskResponse {})
    }

    /// Runs an instance again from an event on, and waits until the new one has begun.
    pub async fn rerun_instance(
        &self,
        _call: &CallContext,
        request: RerunWorkflowFromEventRequest,
    ) -> Result<RerunWorkflowFromEventResponse, ApiError> {
        self.check_actors()?;
        let router = request.router.clone();
        let new = self.options.workflow.rerun(request).await;
        let new_instance_id = new.map_err(|error| said(error, ""))?;
        self.begun(&new_instance_id, router).await?;
        Ok(RerunWorkflowFromEventResponse { new_instance_id })
    }

    /// A page of the ids of this app's instances.
    pub async fn instance_ids(
        &self,
        _call: &CallContext,
        request: ListInstanceIDsRequest,
    ) -> Result<ListInstanceIDsResponse, ApiError> {
        self.check_actors()?;
        let page = self.options.workflow.list(request).await;
        page.map_err(|error| said(error, ""))
    }

    /// All events of an instance.
    pub async fn instance_history(
        &self,
        _call: &CallContext,
        request: GetInstanceHistoryRequest,
    ) -> Result<GetInstanceHistoryResponse, ApiError> {
        self.check_actors()?;
        let events = self.options.workflow.history(&request.instance_id).await;
        let events = events.map_err(|error| said(error, ""))?;
        Ok(GetInstanceHistoryResponse { events })
    }

    async fn becomes(
        &self,
        status: OrchestrationStatus,
        instance_id: String,
        router: Option<TaskRouter>,
    ) -> Result<(), ApiError> {
        let asked = GetInstanceRequest {
            instance_id,
            get_inputs_and_outputs: false,
            router,
        };
        let there = self.options.workflow.wait_for_status(asked, status).await;
        there.map_err(|error| said(error, ""))
    }

    async fn begun(&self, id: &str, router: Option<TaskRouter>) -> Result<(), ApiError> {
        let begun = GetInstanceRequest {
            instance_id: id.to_owned(),
            get_inputs_and_outputs: false,
            router,
        };
        let begun = self.options.workflow.wait_for_start(begun).await;
        begun.map(drop).map_err(|error| said(error, ""))
    }
}

/// How many items a worker has room for, by its SDK. That for JavaScript works at ten, keeps a hundred more, and drops what is
/// beyond, so that its workflow would wait for ever. Q-workflow-javascript
fn room(agent: &str) -> usize {
    match agent.contains("dapr-js-sdk") {
        true => 100,
        false => usize::MAX,
    }
}

/// An error of the engine as SDKs see it: they look at the code, or at the text. `doing` stands before texts that have no code
/// of their own.
fn said(error: Error, doing: &str) -> ApiError {
    let text = error.to_string();
    let code = match error {
        Error::Exists(_) => Code::AlreadyExists,
        Error::Invalid(_) => Code::InvalidArgument,
        Error::Missing(_) => Code::NotFound,
        Error::Denied => Code::PermissionDenied,
        Error::State(_) | Error::Reminders(_) => Code::Internal,
        Error::Actors(error) => return ApiError::of_status(error.into_status()),
        Error::Closed | Error::Unavailable(_) => Code::Unavailable,
        _ => return ApiError::of_status(Status::unknown(format!("{doing}{text}"))),
    };
    ApiError::of_status(Status::new(code, text))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::operations::Shape;

    #[test]
    fn every_rpc_of_the_service_is_served() {
        let pool = prost_reflect::DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
        let service = pool.get_service_by_name("TaskHubSidecarService").unwrap();
        let wire: BTreeSet<(String, bool)> = service
            .methods()
            .map(|it| (format!("{SERVICE}{}", it.name()), it.is_server_streaming()))
            .collect();
        let rows: BTreeSet<(String, bool)> = RPCS
            .iter()
            .map(|rpc| (rpc.path.to_owned(), rpc.shape == Shape::ServerStream))
            .collect();
        assert_eq!(rows, wire);
        assert_eq!(rows.len(), RPCS.len());
    }

    #[test]
    fn errors_have_the_codes_that_sdks_look_at() {
        let of = |error| {
            let status = said(error, "failed to x: ").into_status();
            (status.code(), status.message().to_owned())
        };
        let taken = Error::Exists("'a' is taken".to_owned());
        assert_eq!(of(taken), (Code::AlreadyExists, "'a' is taken".to_owned()));
        let text = "failed to x: no such instance exists".to_owned();
        assert_eq!(of(Error::NotFound), (Code::Unknown, text));
        let none = Error::State(actors::state::Error::NoStore);
        let (code, text) = of(none);
        assert_eq!(code, Code::Internal);
        assert!(
            text.starts_with("the state store is not configured"),
            "{text}"
        );
    }
}
