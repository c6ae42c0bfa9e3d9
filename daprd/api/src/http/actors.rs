//! Actors over HTTP. Invocation passes the body as it is, read whole; everything else is the proto's JSON.

use component::Body;
use http::Response;
use proto::runtime::v1::{InvokeActorRequest, UnregisterActorTimerRequest};

use super::{Call, by_proto};
use crate::{Api, ApiError};

/// Any of four methods on `/v1.0/actors/{type}/{id}/method/{method}`
pub async fn invoke(api: &Api, mut call: Call) -> Result<Response<Body>, ApiError> {
    let request = InvokeActorRequest {
        actor_type: call.param("type").to_owned(),
        actor_id: call.param("id").to_owned(),
        method: call.param("method").to_owned(),
        data: call.bytes().await?,
        ..InvokeActorRequest::default()
    };
    let reply = api.invoke_actor(&call.context, request).await?;
    Ok(Response::new(component::body::full(reply.data)))
}

/// DELETE `/v1.0/actors/{type}/{id}/timers/{name}`
pub async fn unregister_timer(api: &Api, call: Call) -> Result<Response<Body>, ApiError> {
    let place = |call: &Call, request: &mut UnregisterActorTimerRequest| {
        request.actor_type = call.param("type").to_owned();
        request.actor_id = call.param("id").to_owned();
        request.name = call.param("name").to_owned();
    };
    by_proto(call, place, |context, request| async move {
        api.unregister_actor_timer(&context, request).await
    })
    .await
}
