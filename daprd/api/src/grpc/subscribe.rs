//! Streaming subscriptions.

use std::sync::Arc;

use component::Body;

use super::Response;
use crate::Api;

pub async fn serve(_api: Arc<Api>, _request: http::Request<Body>) -> Response {
    tonic::Status::unimplemented("streaming subscriptions").into_http()
}
