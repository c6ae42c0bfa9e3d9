//! Workflow operations of the Dapr API: what apps ask of the engine without being workers. The service of the workers and
//! their SDKs stands in [`task_hub`].

mod ids;
mod shown;
pub mod task_hub;

use std::fmt::Display;

use ::workflow::{Error, time};
use proto::{
    durabletask::{
        CreateInstanceRequest, GetInstanceRequest, PurgeInstancesRequest, RaiseEventRequest,
        ResumeRequest, SuspendRequest, TaskRouter, TerminateRequest,
        purge_instances_request::Request,
    },
    runtime::v1::{
        GetWorkflowRequest, GetWorkflowResponse, PauseWorkflowRequest, PurgeWorkflowRequest,
        RaiseEventWorkflowRequest, ResumeWorkflowRequest, StartWorkflowRequest,
        StartWorkflowResponse, TerminateWorkflowRequest,
    },
};
use values::Timestamp;

use super::{Api, Operation, Route, rpc};
use crate::{ApiError, CallContext, http::workflow as codec, reason::workflow as reason};

/// A route below each of the versions that it is served under.
macro_rules! routes {
    ($method:literal, $path:literal, $codec:ident) => {
        [
            $crate::operations::workflow::routes!(@ "/v1.0", $method, $path, $codec),
            $crate::operations::workflow::routes!(@ "/v1.0-beta1", $method, $path, $codec),
            $crate::operations::workflow::routes!(@ "/v1.0-alpha1", $method, $path, $codec),
        ]
    };
    (@ $version:literal, $method:literal, $path:literal, $codec:ident) => {
        Route {
            methods: &[$method],
            path: concat!($version, "/workflows/{component}/", $path),
            codec: |api, call| Box::pin(codec::$codec(api, call)),
        }
    };
}
use routes;

pub static ROWS: &[Operation] = &[
    Operation::new(
        "StartWorkflow",
        "workflows",
        &[
            rpc!("StartWorkflowAlpha1", "v1alpha1", start_workflow),
            rpc!("StartWorkflowBeta1", "v1beta1", start_workflow),
        ],
        &routes!("POST", "{id}/start", start),
    ),
    Operation::new(
        "GetWorkflow",
        "workflows",
        &[
            rpc!("GetWorkflowAlpha1", "v1alpha1", workflow),
            rpc!("GetWorkflowBeta1", "v1beta1", workflow),
        ],
        &routes!("GET", "{id}", get),
    ),
    Operation::new(
        "PurgeWorkflow",
        "workflows",
        &[
            rpc!("PurgeWorkflowAlpha1", "v1alpha1", purge_workflow),
            rpc!("PurgeWorkflowBeta1", "v1beta1", purge_workflow),
        ],
        &routes!("POST", "{id}/purge", purge),
    ),
    Operation::new(
        "TerminateWorkflow",
        "workflows",
        &[
            rpc!("TerminateWorkflowAlpha1", "v1alpha1", terminate_workflow),
            rpc!("TerminateWorkflowBeta1", "v1beta1", terminate_workflow),
        ],
        &routes!("POST", "{id}/terminate", terminate),
    ),
    Operation::new(
        "PauseWorkflow",
        "workflows",
        &[
            rpc!("PauseWorkflowAlpha1", "v1alpha1", pause_workflow),
            rpc!("PauseWorkflowBeta1", "v1beta1", pause_workflow),
        ],
        &routes!("POST", "{id}/pause", pause),
    ),
    Operation::new(
        "ResumeWorkflow",
        "workflows",
        &[
            rpc!("ResumeWorkflowAlpha1", "v1alpha1", resume_workflow),
            rpc!("ResumeWorkflowBeta1", "v1beta1", resume_workflow),
        ],
        &routes!("POST", "{id}/resume", resume),
    ),
    Operation::new(
        "RaiseEventWorkflow",
        "workflows",
        &[
            rpc!("RaiseEventWorkflowAlpha1", "v1alpha1", raise_workflow_event),
            rpc!("RaiseEventWorkflowBeta1", "v1beta1", raise_workflow_event),
        ],
        &routes!("POST", "{id}/raiseEvent/{event}", raise_event),
    ),
];

/// Option of a start: when it is to begin.
const START_TIME: &str = "dapr.workflow.start_time";

impl Api {
    /// Starts an instance of a workflow.
    pub async fn start_workflow(
        &self,
        call: &CallContext,
        request: StartWorkflowRequest,
    ) -> Result<StartWorkflowResponse, ApiError> {
        self.check_actors()?;
        let instance_id = match request.instance_id {
            id if id.is_empty() => uuid::Uuid::new_v4().to_string(),
            id => id,
        };
        ids::check_new(&instance_id)?;
        let name = request.workflow_name;
        if name.is_empty() {
            let text = "workflow name is not configured";
            return Err(ApiError::new(&reason::NAME_MISSING, text));
        }
        let router = self.router(request.app_id)?;
        let failed = |problem: &dyn Display| {
            let text = format!("error starting workflow '{name}': {problem}");
            ApiError::new(&reason::START, text)
        };
        let start = request.options.get(START_TIME).map(|text| {
            let time: Option<Timestamp> = text.parse().ok();
            let problem = "start times must be in RFC3339 format (e.g. \"2009-11-10T23:00:00Z\")";
            time.ok_or_else(|| failed(&problem))
        });
        let request = CreateInstanceRequest {
            instance_id,
            name: name.clone(),
            // What is not UTF-8 is nothing that a worker could be handed.
            input: Some(String::from_utf8_lossy(&request.input).into_owned()),
            scheduled_start_timestamp: start.transpose()?.map(time::to_wire),
            parent_trace_context: trace(call),
            router,
            ..CreateInstanceRequest::default()
        };
        let started = self.options.workflow.start(request).await;
        let instance_id = started.map_err(|error| {
            failed(&format_args!(
                "unable to start workflow: failed to start workflow: {error}"
            ))
        })?;
        Ok(StartWorkflowResponse { instance_id })
    }

    /// What is known of an instance; of one that is not there, its id alone.
    pub async fn workflow(
        &self,
        _call: &CallContext,
        request: GetWorkflowRequest,
    ) -> Result<GetWorkflowResponse, ApiError> {
        let (id, router) = self.instance(request.instance_id, request.app_id)?;
        let asked = GetInstanceRequest {
            instance_id: id.clone(),
            get_inputs_and_outputs: true,
            router,
        };
        match self.options.workflow.state(asked).await {
            Ok(Some(state)) => Ok(shown::described(id, state)),
            Ok(None) | Err(Error::NotFound) => Ok(GetWorkflowResponse {
                instance_id: id,
                ..GetWorkflowResponse::default()
            }),
            Err(error) => Err(ApiError::new(
                &reason::GET,
                format!(
                    "error while getting workflow info on instance '{id}': failed to get workflow metadata for '{id}': {error}"
                ),
            )),
        }
    }

    /// Ends an instance and its children.
    pub async fn terminate_workflow(
        &self,
        _call: &CallContext,
        request: TerminateWorkflowRequest,
    ) -> Result<(), ApiError> {
        let (id, router) = self.instance(request.instance_id, request.app_id)?;
        let request = TerminateRequest {
            instance_id: id.clone(),
            output: None,
            recursive: true,
            router,
        };
        let done = self.options.workflow.terminate(request).await;
        done.map_err(|error| match error {
            Error::NotFound => not_found(&id),
            error => ApiError::new(
                &reason::TERMINATE,
                format!(
                    "error terminating workflow '{id}': failed to terminate workflow {id}: {error}"
                ),
            ),
        })
    }

    /// Hands an event to an instance.
    pub async fn raise_workflow_event(
        &self,
        _call: &CallContext,
        request: RaiseEventWorkflowRequest,
    ) -> Result<(), ApiError> {
        self.check_actors()?;
        ids::check(&request.instance_id)?;
        let (id, name) = (request.instance_id, request.event_name);
        if name.is_empty() {
            let text = "missing workflow event name";
            return Err(ApiError::new(&reason::EVENT_NAME_MISSING, text));
        }
        let data = request.event_data;
        let request = RaiseEventRequest {
            instance_id: id.clone(),
            name: name.clone(),
            input: (!data.is_empty()).then(|| String::from_utf8_lossy(&data).into_owned()),
            router: self.router(request.app_id)?,
        };
        let done = self.options.workflow.raise_event(request).await;
        done.map_err(|error| {
            let text = format!(
                "error raising event on workflow '{id}': failed to raise event {name} on workflow {id}: {error}"
            );
            ApiError::new(&reason::RAISE_EVENT, text)
        })
    }

    /// Suspends an instance.
    pub async fn pause_workflow(
        &self,
        _call: &CallContext,
        request: PauseWorkflowRequest,
    ) -> Result<(), ApiError> {
        let (id, router) = self.instance(request.instance_id, request.app_id)?;
        let request = SuspendRequest {
            instance_id: id.clone(),
            reason: None,
            router,
        };
        let done = self.options.workflow.suspend(request).await;
        done.map_err(|error| {
            let text =
                format!("error pausing workflow {id}: failed to pause workflow {id}: {error}");
            ApiError::new(&reason::PAUSE, text)
        })
    }

    /// Resumes an instance.
    pub async fn resume_workflow(
        &self,
        _call: &CallContext,
        request: ResumeWorkflowRequest,
    ) -> Result<(), ApiError> {
        let (id, router) = self.instance(request.instance_id, request.app_id)?;
        let request = ResumeRequest {
            instance_id: id.clone(),
            reason: None,
            router,
        };
        let done = self.options.workflow.resume(request).await;
        done.map_err(|error| {
            let text =
                format!("error resuming workflow {id}: failed to resume workflow {id}: {error}");
            ApiError::new(&reason::RESUME, text)
        })
    }

    /// Deletes the state of an instance that has ended, and of its children.
    pub async fn purge_workflow(
        &self,
        _call: &CallContext,
        request: PurgeWorkflowRequest,
    ) -> Result<(), ApiError> {
        let (id, router) = self.instance(request.instance_id, request.app_id)?;
        let request = PurgeInstancesRequest {
            recursive: true,
            force: None,
            router,
            request: Some(Request::InstanceId(id.clone())),
        };
        let done = self.options.workflow.purge(request).await;
        done.map(drop).map_err(|error| match error {
            Error::NotFound => not_found(&id),
            error => ApiError::new(
                &reason::PURGE,
                format!("error purging workflow {id}: failed to Purge workflow {id}: {error}"),
            ),
        })
    }

    /// The instance that a request is about, and where it is.
    fn instance(
        &self,
        id: String,
        app_id: Option<String>,
    ) -> Result<(String, Option<TaskRouter>), ApiError> {
        self.check_actors()?;
        ids::check(&id)?;
        Ok((id, self.router(app_id)?))
    }

    /// The way to another app; none to this one.
    fn router(&self, app_id: Option<String>) -> Result<Option<TaskRouter>, ApiError> {
        let app_id = app_id.filter(|it| !it.is_empty() && it != self.app_id());
        let Some(app_id) = app_id else {
            return Ok(None);
        };
        if !ids::is_name(&app_id) {
            let text = format!(
                "workflow app ID '{app_id}' is invalid: only alphanumeric, dash and underscore characters are allowed"
            );
            return Err(ApiError::new(&reason::APP_ID_INVALID, text));
        }
        Ok(Some(TaskRouter {
            target_app_id: Some(app_id),
            ..TaskRouter::default()
        }))
    }
}

pub(crate) fn not_found(id: &str) -> ApiError {
    let text = format!("unable to find workflow with the provided instance ID: {id}");
    ApiError::new(&reason::NOT_FOUND, text)
}

/// The trace that whoever asks for an instance belongs to.
fn trace(call: &CallContext) -> Option<proto::durabletask::TraceContext> {
    let trace = call.trace.as_ref()?;
    Some(proto::durabletask::TraceContext {
        trace_parent: trace.traceparent(),
        trace_state: trace.tracestate().map(str::to_owned),
        ..proto::durabletask::TraceContext::default()
    })
}
