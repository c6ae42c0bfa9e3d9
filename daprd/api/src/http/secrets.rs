//! Secrets over HTTP: the maps stand bare, without the proto's wrapper.

use component::Body;
use http::Response;
use proto::runtime::v1::{GetBulkSecretRequest, GetSecretRequest};
use values::json;

use super::{Call, json_reply as respond, no_content};
use crate::{Api, ApiError};

/// GET `/v1.0/secrets/{store}/{key}`
pub async fn get(api: &Api, call: Call) -> Result<Response<Body>, ApiError> {
    let request = GetSecretRequest {
        store_name: call.param("store").to_owned(),
        key: call.param("key").to_owned(),
        metadata: call.metadata(),
    };
    let reply = api.get_secret(&call.context, request).await?;
    if reply.data.is_empty() {
        return Ok(no_content());
    }
    Ok(respond(json::string_map(&reply.data)))
}

/// GET `/v1.0/secrets/{store}/bulk`
pub async fn bulk_get(api: &Api, call: Call) -> Result<Response<Body>, ApiError> {
    let request = GetBulkSecretRequest {
        store_name: call.param("store").to_owned(),
        metadata: call.metadata(),
    };
    let reply = api.get_bulk_secret(&call.context, request).await?;
    if reply.data.is_empty() {
        return Ok(no_content());
    }
    let maps: Vec<String> = reply
        .data
        .iter()
        .map(|(name, secret)| {
            format!(
                "{}:{}",
                json::quote(name),
                json::string_map(&secret.secrets)
            )
        })
        .collect();
    Ok(respond(format!("{{{}}}", maps.join(","))))
}
