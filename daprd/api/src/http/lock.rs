//! Locks over HTTP: what became of a lock is a number, where the proto's JSON has a word.

use component::Body;
use http::Response;
use proto::runtime::v1::UnlockRequest;

use super::{Call, from_body, json_reply};
use crate::{Api, ApiError};

/// POST `/v1.0-alpha1/unlock/{store}`
pub async fn unlock(api: &Api, mut call: Call) -> Result<Response<Body>, ApiError> {
    let mut request: UnlockRequest = from_body(&mut call).await?;
    request.store_name = call.param("store").to_owned();
    let reply = api.unlock(&call.context, request).await?;
    Ok(json_reply(format!("{{\"status\":{}}}", reply.status)))
}
