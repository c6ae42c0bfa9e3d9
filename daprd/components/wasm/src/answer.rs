//! What is answered where a guest does not come to an end.

use component::{Body, body};
use http::{HeaderValue, Response, StatusCode, header};

/// A status, and its name as text: what a guest did wrong is for the log.
pub fn status(status: StatusCode) -> Response<Body> {
    text(status, status.canonical_reason().unwrap_or_default())
}

/// A status and a text.
pub fn text(status: StatusCode, text: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(body::full(text));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
