//! Answers of apps, whatever they speak. An answer is an HTTP response between here and the caller; that of a gRPC app carries
//! its status with it, so that a gRPC caller gets what the app said and an HTTP caller the status that fits.

use app_channel::Error as AppError;
use bytes::Bytes;
use component::{Body, body};
use http::{HeaderValue, Response, StatusCode, header};
use prost::Message as _;
use prost_types::Any;
use proto::{common::v1::InvokeResponse, internals::v1::Status as InternalStatus};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::Error;

/// What a gRPC app said besides its bytes; left in the extensions of the response.
#[derive(Clone, Debug)]
pub struct GrpcAnswer {
    pub status: Status,
    /// `type_url` of the answer's data.
    pub type_url: String,
    pub content_type: String,
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Most bytes of an HTTP error's body that travel in a gRPC status (google.rpc.ErrorInfo limits values to 64).
const MAX_DETAIL: usize = 63;

/// What a gRPC app answered. An error of its own is an answer, too.
pub fn of_grpc_app(
    reply: Result<tonic::Response<InvokeResponse>, AppError>,
) -> Result<Response<Body>, Error> {
    let reply = match reply {
        Ok(reply) => reply,
        Err(AppError::Status(status)) => return Ok(failed(*status)),
        Err(other) => return Err(other.into()),
    };
    let headers = reply.metadata().clone().into_headers();
    let message = reply.into_inner();
    let data = message.data.unwrap_or_default();
    let mut response = Response::new(body::full(Bytes::from(data.value)));
    for (name, value) in &headers {
        if !name.as_str().starts_with("grpc-") && name != header::CONTENT_TYPE {
            response.headers_mut().append(name.clone(), value.clone());
        }
    }
    let content_type = HeaderValue::from_str(&message.content_type)
        .ok()
        .filter(|value| !value.is_empty());
    let content_type = content_type.unwrap_or(JSON);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response.extensions_mut().insert(GrpcAnswer {
        status: Status::ok(""),
        type_url: data.type_url,
        content_type: message.content_type,
    });
    Ok(response)
}

/// The error of a gRPC app.
pub fn failed(status: Status) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = http_status(status.code());
    for (name, value) in status.metadata().clone().into_headers() {
        if let Some(name) = name.filter(|name| !name.as_str().starts_with("grpc-")) {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().remove(header::CONTENT_TYPE);
    response.extensions_mut().insert(GrpcAnswer {
        status,
        type_url: String::new(),
        content_type: String::new(),
    });
    response
}

/// An answer as HTTP callers get it: the error of a gRPC app is its status as JSON.
pub fn for_http_caller(mut response: Response<Body>) -> Response<Body> {
    let Some(GrpcAnswer { status, .. }) = response.extensions_mut().remove() else {
        return response;
    };
    if status.code() == Code::Ok {
        return response;
    }
    let mut text = serde_json::json!({ "code": status.code() as i32 });
    if !status.message().is_empty() {
        text["message"] = status.message().into();
    }
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response.map(|_| body::full(text.to_string()))
}

/// A status as sidecars tell it each other.
pub fn into_internal(status: &Status) -> InternalStatus {
    InternalStatus {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: tonic_types::Status::decode(status.details())
            .map(|status| status.details)
            .unwrap_or_default(),
    }
}

pub fn from_internal(status: InternalStatus) -> Status {
    let code = Code::from_i32(status.code);
    if status.details.is_empty() {
        return Status::new(code, status.message);
    }
    let details = tonic_types::Status {
        code: status.code,
        message: status.message.clone(),
        details: status.details,
    };
    Status::with_details(code, status.message, details.encode_to_vec().into())
}

/// An HTTP answer that is no success, as gRPC callers get it.
pub fn http_error(status: StatusCode, data: &[u8]) -> Status {
    let text = String::from_utf8_lossy(data);
    let reason = status.canonical_reason().unwrap_or_default();
    let mut details = ErrorDetails::new();
    details.set_error_info(
        reason,
        proto::ERROR_DOMAIN,
        [
            ("http.code".to_owned(), status.as_u16().to_string()),
            (
                "http.error_message".to_owned(),
                text[..text.floor_char_boundary(MAX_DETAIL)].to_owned(),
            ),
        ],
    );
    Status::with_error_details(code(status), reason, details)
}

/// The bytes of an answer as a message.
pub fn message(data: Bytes, type_url: String, content_type: String) -> InvokeResponse {
    InvokeResponse {
        data: Some(Any {
            type_url,
            value: data.into(),
        }),
        content_type,
    }
}

/// The HTTP status of a gRPC code.
pub fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::REQUEST_TIMEOUT,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The gRPC code of an HTTP status that is no success.
pub fn code(status: StatusCode) -> Code {
    match status {
        StatusCode::BAD_REQUEST => Code::Internal,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::REQUEST_TIMEOUT => Code::Cancelled,
        StatusCode::CONFLICT => Code::AlreadyExists,
        StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
        StatusCode::NOT_IMPLEMENTED => Code::Unimplemented,
        StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        StatusCode::GATEWAY_TIMEOUT => Code::DeadlineExceeded,
        _ => Code::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_http_error_tells_its_status_and_the_beginning_of_its_body() {
        let body = "ä".repeat(60);
        let status = http_error(StatusCode::INTERNAL_SERVER_ERROR, body.as_bytes());
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unknown, "Internal Server Error")
        );
        let info = status.get_details_error_info().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("Internal Server Error", "dapr.io")
        );
        assert_eq!(info.metadata["http.code"], "500");
        assert_eq!(info.metadata["http.error_message"], "ä".repeat(31));
    }

    #[test]
    fn a_status_survives_the_way_between_sidecars() {
        let status = http_error(StatusCode::NOT_FOUND, b"gone");
        let again = from_internal(into_internal(&status));
        assert_eq!(
            (again.code(), again.message()),
            (Code::NotFound, "Not Found")
        );
        let info = again.get_details_error_info().unwrap();
        assert_eq!(info.metadata["http.error_message"], "gone");
        let plain = from_internal(into_internal(&Status::unknown("invalid method")));
        assert_eq!(
            (plain.code(), plain.message(), plain.details()),
            (Code::Unknown, "invalid method", &b""[..])
        );
    }

    #[tokio::test]
    async fn http_callers_get_the_status_of_a_grpc_app_as_json() {
        let response = for_http_caller(failed(Status::failed_precondition("not now")));
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()["content-type"], "application/json");
        let text = body::read(response.into_body(), 999).await.unwrap();
        assert_eq!(text, r#"{"code":9,"message":"not now"}"#);
    }
}
