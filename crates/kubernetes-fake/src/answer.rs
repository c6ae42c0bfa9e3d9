//! Answers: a status and JSON, or a body that goes on.

use std::io;

use bytes::Bytes;
use futures::Stream;
use http::Response;
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use serde_json::{Value, json};

/// The body of an answer.
pub type AnswerBody = UnsyncBoxBody<Bytes, io::Error>;

/// A status and an object.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub code: u16,
    /// The JSON.
    pub body: Value,
}

impl Answer {
    /// An object that is there.
    pub const fn object(body: Value) -> Self {
        Self { code: 200, body }
    }

    /// A refusal, as the API server words it.
    pub fn status(code: u16) -> Self {
        Self::failure(code, reason(code), "the fake says no")
    }

    /// A refusal with its reason and message.
    pub fn failure(code: u16, reason: &str, message: &str) -> Self {
        let body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": code,
        });
        Self { code, body }
    }

    pub(crate) fn into_response(self) -> Response<AnswerBody> {
        let body = Full::new(Bytes::from(self.body.to_string()));
        response(
            self.code,
            body.map_err(|never| match never {}).boxed_unsync(),
        )
    }
}

/// An answer that goes on, a line at a time.
pub fn streamed(lines: impl Stream<Item = String> + Send + 'static) -> Response<AnswerBody> {
    use futures::StreamExt as _;
    let frames = lines.map(|line| Ok::<_, io::Error>(Frame::data(Bytes::from(line))));
    response(200, StreamBody::new(frames).boxed_unsync())
}

/// An answer whose body begins and never goes on.
pub fn stalled() -> Response<AnswerBody> {
    use futures::StreamExt as _;
    let begun = futures::stream::iter([Ok::<_, io::Error>(Frame::data(Bytes::from_static(b" ")))]);
    response(
        200,
        StreamBody::new(begun.chain(futures::stream::pending())).boxed_unsync(),
    )
}

fn response(code: u16, body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(code).expect("a status code");
    let json = http::HeaderValue::from_static("application/json");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, json);
    response
}

const fn reason(code: u16) -> &'static str {
    match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    }
}
