//! What a middleware answers by itself.

use http::{HeaderValue, Response, StatusCode, header};

use crate::{Body, body};

/// A status, and its name as text.
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

/// Sends a browser elsewhere.
pub fn redirect(location: &str) -> Response<Body> {
    let Ok(location) = HeaderValue::from_str(location) else {
        return status(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(header::LOCATION, location);
    response
}
