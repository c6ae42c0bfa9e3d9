//! Jobs over HTTP: the data are any JSON, and the answers have no wrapper.

use component::Body;
use http::Response;
use prost::Message;
use prost_types::Any;
use proto::{
    internals::v1::JobHttpRequest,
    json::{self, Emit},
    runtime::v1::{DeleteJobRequest, GetJobRequest, Job, ScheduleJobRequest},
};

use super::{Call, from_body, json_reply, no_content};
use crate::{Api, ApiError, reason::general, reason::jobs as reason};

/// The type under which JSON is kept: that of the message which holds any.
const VALUE: &str = "type.googleapis.com/google.protobuf.Value";

/// POST `/v1.0/jobs/{name}`
pub async fn schedule(api: &Api, mut call: Call) -> Result<Response<Body>, ApiError> {
    let wire: JobHttpRequest = from_body(&mut call).await?;
    if !wire.name.is_empty() {
        let error = ApiError::new(&reason::NAME, "Set the job name in the url only");
        return Err(error.metadata([("appID", api.app_id())]));
    }
    let request = ScheduleJobRequest {
        job: Some(Job {
            name: call.param("name").trim().to_owned(),
            schedule: wire.schedule,
            repeats: wire.repeats,
            due_time: wire.due_time,
            ttl: wire.ttl,
            data: wire.data.map(|value| Any {
                type_url: VALUE.to_owned(),
                value: value.encode_to_vec(),
            }),
            failure_policy: wire.failure_policy,
        }),
        overwrite: wire.overwrite.unwrap_or_default(),
    };
    api.schedule_job(&call.context, request).await?;
    Ok(no_content())
}

/// GET `/v1.0/jobs/{name}`
pub async fn get(api: &Api, call: Call) -> Result<Response<Body>, ApiError> {
    let name = call.param("name").to_owned();
    let reply = api.job(&call.context, GetJobRequest { name }).await?;
    let Some(job) = reply.job else {
        return Ok(no_content());
    };
    let bytes = json::to_json_with(&job, Emit::Populated).map_err(|error| {
        let problem = component::error::chain(&error);
        let message = format!("failed to serialize the response: {problem}");
        ApiError::new(&general::INTERNAL, message)
    })?;
    Ok(json_reply(bytes))
}

/// DELETE `/v1.0/jobs/{name}`
pub async fn delete(api: &Api, call: Call) -> Result<Response<Body>, ApiError> {
    let name = call.param("name").to_owned();
    api.delete_job(&call.context, DeleteJobRequest { name })
        .await?;
    Ok(no_content())
}
