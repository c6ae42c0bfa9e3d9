//! Shutdown over HTTP.

use component::Body;
use http::Response;

use super::{Call, no_content};
use crate::{Api, ApiError};

/// POST `/v1.0/shutdown`
pub async fn shutdown(api: &Api, call: Call) -> Result<Response<Body>, ApiError> {
    let force = call
        .header("dapr-force-shutdown")
        .is_some_and(values::is_truthy);
    api.shutdown(force);
    Ok(no_content())
}
