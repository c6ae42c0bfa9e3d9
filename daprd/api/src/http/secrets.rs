//! Secrets over HTTP: the maps stand bare, without the proto's wrapper.

use std::collections::BTreeMap;

use component::Body;
use http::Response;
use proto::runtime::v1::{GetBulkSecretRequest, GetSecretRequest};
use serde_json::json;

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
    Ok(respond(json!(reply.data).to_string()))
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
    let maps: BTreeMap<_, _> = reply
        .data
        .into_iter()
        .map(|(name, secret)| (name, secret.secrets))
        .collect();
    Ok(respond(json!(maps).to_string()))
}
