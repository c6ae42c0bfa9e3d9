//! Invocation by message: gRPC `InvokeService`, and what gRPC apps understand.

use app_channel::Error as AppError;
use bytes::Bytes;
use component::{Body, body};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use prost_types::Any;
use proto::common::v1::{HttpExtension, InvokeRequest, InvokeResponse, http_extension::Verb};
use resiliency::{Builtin, Outcome, policy};
use tonic::{Code, Status};

use crate::{Error, Invoker, headers, method, target::Target};

/// Metadata in which the status of an HTTP app reaches a gRPC caller.
const HTTP_STATUS: &str = "dapr-http-status";

impl Invoker {
    /// Invokes by message; the answer's metadata are its headers.
    ///
    /// # Errors
    /// Where nobody answered, or the app answered with an error.
    pub async fn message(
        &self,
        target: &str,
        request: InvokeRequest,
        mut metadata: HeaderMap,
    ) -> Result<(InvokeResponse, HeaderMap), Error> {
        let inner = &self.0;
        let target = Target::parse(target, &inner.options.namespace, &inner.endpoints)?;
        let mut request = request;
        request.method = method::normalise_decoded(&request.method)?;
        inner.own.add(&mut metadata, target.app_id());
        let policies = inner.options.policies.load_full();
        let policy = if policies.names_app(target.app_id()) {
            policies.app(target.app_id())
        } else {
            policies.builtin(Builtin::ServiceRetries)
        };
        let attempt = |_| self.message_once(&target, request.clone(), metadata.clone());
        let classify = |error: &Error| match error {
            error if error.is_transport() => Outcome::Retryable,
            Error::Status(status) => Outcome::Grpc(status.code() as i32),
            _ => Outcome::Permanent,
        };
        match policy.run(attempt, classify).await {
            Ok(reply) => Ok(reply),
            Err(policy::Error::Inner(error)) => Err(error),
            Err(other) => Err(Error::Policy(other.to_string())),
        }
    }

    async fn message_once(
        &self,
        target: &Target,
        request: InvokeRequest,
        metadata: HeaderMap,
    ) -> Result<(InvokeResponse, HeaderMap), Error> {
        let app = &self.0.options.app;
        if self.is_own(target) && app.protocol().is_grpc() {
            let reply = app.on_invoke(request, metadata).await?;
            let headers = reply.metadata().clone().into_headers();
            return Ok((reply.into_inner(), headers));
        }
        let name = request.method.clone();
        let http = into_http_request(request, metadata)?;
        let response = if self.is_own(target) {
            self.local(&name, http).await?
        } else {
            self.remote(target, &name, http).await?
        };
        from_http_response(response, self.0.options.max_message).await
    }
}

/// The method, query, type and bytes of a message as an HTTP request.
fn into_http_request(request: InvokeRequest, metadata: HeaderMap) -> Result<Request<Body>, Error> {
    let extension = request.http_extension.unwrap_or_default();
    let verb = match extension.verb() {
        // Callers of gRPC apps say none.
        Verb::None => Method::POST,
        verb => Method::from_bytes(verb.as_str_name().as_bytes()).unwrap_or(Method::POST),
    };
    let data = request.data.unwrap_or_default();
    let mut http = Request::new(body::full(Bytes::from(data.value)));
    *http.method_mut() = verb;
    *http.uri_mut() = method::uri(&request.method, Some(&extension.querystring))?;
    *http.headers_mut() = metadata;
    let content_type = if request.content_type.is_empty() {
        "application/json"
    } else {
        &request.content_type
    };
    if let Ok(value) = HeaderValue::from_str(content_type) {
        http.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    Ok(http)
}

/// An HTTP answer as a message; anything but success is an error with the code that fits.
async fn from_http_response(
    response: Response<Body>,
    limit: usize,
) -> Result<(InvokeResponse, HeaderMap), Error> {
    let (parts, body) = response.into_parts();
    let data = body::read(body, limit).await?;
    let content_type = parts.headers.get(header::CONTENT_TYPE);
    let content_type = content_type
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    if !parts.status.is_success() {
        let text = String::from_utf8_lossy(&data).into_owned();
        let status = Status::new(code(parts.status), text);
        return Err(Error::Status(Box::new(status)));
    }
    let mut headers = parts.headers;
    headers.insert(HTTP_STATUS, HeaderValue::from(parts.status.as_u16()));
    let reply = InvokeResponse {
        data: Some(Any {
            type_url: String::new(),
            value: data.into(),
        }),
        content_type,
    };
    Ok((reply, headers))
}

/// An HTTP request as the message a gRPC app gets.
pub async fn from_http(
    method: &str,
    request: Request<Body>,
    limit: usize,
) -> Result<(InvokeRequest, HeaderMap), Error> {
    let (parts, body) = request.into_parts();
    let data = body::read(body, limit).await?;
    let content_type = parts.headers.get(header::CONTENT_TYPE);
    let message = InvokeRequest {
        method: method.to_owned(),
        content_type: content_type
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned(),
        data: Some(Any {
            type_url: String::new(),
            value: data.into(),
        }),
        http_extension: Some(HttpExtension {
            verb: Verb::from_str_name(parts.method.as_str())
                .unwrap_or(Verb::None)
                .into(),
            querystring: parts.uri.query().unwrap_or_default().to_owned(),
        }),
    };
    let mut metadata = parts.headers;
    headers::remove_hop_by_hop(&mut metadata);
    // The transport writes its own of these.
    for name in [
        "content-type",
        "content-length",
        "user-agent",
        "host",
        "accept-encoding",
    ] {
        metadata.remove(name);
    }
    Ok((message, metadata))
}

/// What a gRPC app answered, as HTTP: an error becomes its status as JSON, with the HTTP status that fits.
pub fn into_http(
    reply: Result<tonic::Response<InvokeResponse>, AppError>,
) -> Result<Response<Body>, Error> {
    let reply = match reply {
        Ok(reply) => reply,
        Err(AppError::Status(status)) => return Ok(status_response(&status)),
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
    let content_type = if message.content_type.is_empty() {
        "application/json"
    } else {
        &message.content_type
    };
    if let Ok(value) = HeaderValue::from_str(content_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    Ok(response)
}

fn status_response(status: &Status) -> Response<Body> {
    let text = serde_json::json!({
        "code": status.code() as i32,
        "message": status.message(),
        "details": [],
    });
    let mut response = Response::new(body::full(text.to_string()));
    *response.status_mut() = http_status(status.code());
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// The HTTP status of a gRPC code (google.rpc.Code).
fn http_status(code: Code) -> StatusCode {
    let status = match code {
        Code::Ok => 200,
        Code::Cancelled => 499,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::DeadlineExceeded => 504,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::PermissionDenied => 403,
        Code::Unauthenticated => 401,
        Code::ResourceExhausted => 429,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
    };
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The gRPC code of an HTTP status.
fn code(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        408 | 504 => Code::DeadlineExceeded,
        409 => Code::AlreadyExists,
        429 => Code::ResourceExhausted,
        499 => Code::Cancelled,
        500 => Code::Internal,
        501 => Code::Unimplemented,
        503 => Code::Unavailable,
        _ => Code::Unknown,
    }
}
