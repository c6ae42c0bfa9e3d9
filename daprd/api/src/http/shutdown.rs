//! Shutdown over HTTP.

use component::Body;
use http::Response;

use super::{Call, no_content};
use crate::{Api, ApiError, operations::shutdown::is_forced};

/// POST `/v1.0/shutdown`
pub async fn shutdown(api: &Api, call: Call) -> Result<Response<Body>, ApiError> {
    api.shutdown(is_forced(&call.headers));
    Ok(no_content())
}
