//! Health over HTTP.

use component::Body;
use http::Response;

use super::{Call, no_content};
use crate::{Api, ApiError};

/// GET `/v1.0/healthz`
pub async fn healthz(api: &Api, call: Call) -> Result<Response<Body>, ApiError> {
    api.healthz(call.query("appid"))?;
    Ok(no_content())
}

/// GET `/v1.0/healthz/outbound`
pub async fn outbound(api: &Api, _call: Call) -> Result<Response<Body>, ApiError> {
    api.healthz_outbound()?;
    Ok(no_content())
}
