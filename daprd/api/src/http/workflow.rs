//! Workflows over HTTP: the input of an instance and the data of an event are the body as it is, and what is done is accepted.

use component::Body;
use http::{Response, StatusCode};
use prost::{Message, Name};
use proto::{
    json::{self, Emit},
    runtime::v1::{
        GetWorkflowRequest, PauseWorkflowRequest, PurgeWorkflowRequest, RaiseEventWorkflowRequest,
        ResumeWorkflowRequest, StartWorkflowRequest, TerminateWorkflowRequest,
    },
};

use super::{Call, from_body, json_reply};
use crate::{Api, ApiError, operations::workflow::not_found, reason::general};

/// POST `/v1.0/workflows/{component}/{name}/start`
pub async fn start(api: &Api, mut call: Call) -> Result<Response<Body>, ApiError> {
    let request = StartWorkflowRequest {
        instance_id: call.query("instanceID").unwrap_or_default().to_owned(),
        workflow_component: call.param("component").to_owned(),
        workflow_name: call.param("id").to_owned(),
        input: call.bytes().await?,
        app_id: app_id(&call),
        ..StartWorkflowRequest::default()
    };
    accepted(&api.start_workflow(&call.context, request).await?)
}

/// GET `/v1.0/workflows/{component}/{id}`
pub async fn get(api: &Api, call: Call) -> Result<Response<Body>, ApiError> {
    let request = GetWorkflowRequest {
        instance_id: call.param("id").to_owned(),
        workflow_component: call.param("component").to_owned(),
        app_id: app_id(&call),
    };
    let reply = api.workflow(&call.context, request).await?;
    // Compat: Q-workflow-get, an instance that is not there is no failure over gRPC.
    if reply.runtime_status.is_empty() {
        return Err(not_found(&reply.instance_id));
    }
    written(&reply).map(json_reply)
}

/// POST `/v1.0/workflows/{component}/{id}/raiseEvent/{event}`
pub async fn raise_event(api: &Api, mut call: Call) -> Result<Response<Body>, ApiError> {
    let request = RaiseEventWorkflowRequest {
        instance_id: call.param("id").to_owned(),
        workflow_component: call.param("component").to_owned(),
        event_name: call.param("event").to_owned(),
        event_data: call.bytes().await?,
        app_id: app_id(&call),
    };
    api.raise_workflow_event(&call.context, request).await?;
    accepted(&())
}

/// What stands in the path and the query of a request goes over what its body says.
macro_rules! by_id {
    ($(#[$doc:meta])* $name:ident, $request:ident, $operation:ident) => {
        $(#[$doc])*
        pub async fn $name(api: &Api, mut call: Call) -> Result<Response<Body>, ApiError> {
            let mut request: $request = from_body(&mut call).await?;
            request.instance_id = call.param("id").to_owned();
            request.workflow_component = call.param("component").to_owned();
            request.app_id = app_id(&call);
            api.$operation(&call.context, request).await?;
            accepted(&())
        }
    };
}

by_id! {
    /// POST `/v1.0/workflows/{component}/{id}/pause`
    pause, PauseWorkflowRequest, pause_workflow
}
by_id! {
    /// POST `/v1.0/workflows/{component}/{id}/resume`
    resume, ResumeWorkflowRequest, resume_workflow
}
by_id! {
    /// POST `/v1.0/workflows/{component}/{id}/terminate`
    terminate, TerminateWorkflowRequest, terminate_workflow
}
by_id! {
    /// POST `/v1.0/workflows/{component}/{id}/purge`
    purge, PurgeWorkflowRequest, purge_workflow
}

fn app_id(call: &Call) -> Option<String> {
    let app_id = call.query("appID").filter(|it| !it.is_empty())?;
    Some(app_id.to_owned())
}

/// 202 and the message.
fn accepted<M: Message + Name>(message: &M) -> Result<Response<Body>, ApiError> {
    let mut response = json_reply(written(message)?);
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

fn written<M: Message + Name>(message: &M) -> Result<Vec<u8>, ApiError> {
    json::to_json_with(message, Emit::Populated).map_err(|error| {
        let problem = component::error::chain(&error);
        let text = format!("failed to encode response as JSON: {problem}");
        ApiError::new(&general::INTERNAL, text)
    })
}
