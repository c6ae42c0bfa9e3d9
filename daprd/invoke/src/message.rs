//! Invocation by message: gRPC `InvokeService`, and what gRPC apps understand.

use bytes::Bytes;
use component::{Body, body};
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use prost_types::Any;
use proto::common::v1::{HttpExtension, InvokeRequest, InvokeResponse, http_extension::Verb};
use telemetry::trace::TraceContext;
use tonic::{Code, Status};

use crate::{
    Error, Invoker,
    answer::{self, GrpcAnswer},
    headers,
    invocation::Asked,
    method::{self, MethodPath},
    target::Target,
};

/// Metadata in which the status of an HTTP app reaches a gRPC caller.
const HTTP_STATUS: &str = "dapr-http-status";

/// What a message says besides its method, query and bytes; kept in the extensions of the request that it becomes.
#[derive(Clone, Debug)]
pub struct MessageHead {
    pub http_extension: Option<HttpExtension>,
    pub type_url: String,
    pub content_type: String,
}

/// An app's answer to a message.
#[derive(Debug)]
pub struct Reply {
    /// The error is the app's own.
    pub result: Result<InvokeResponse, Status>,
    /// Metadata of the answer, also of an error.
    pub metadata: HeaderMap,
}

impl Invoker {
    /// Invokes by message. `metadata` is that of the caller's call.
    ///
    /// # Errors
    /// Where nobody answered; what the app answered, whatever its status, is no error.
    pub async fn message(
        &self,
        target: &str,
        request: InvokeRequest,
        metadata: HeaderMap,
    ) -> Result<Reply, Error> {
        let inner = &self.0;
        let callee = Target::parse(target, &inner.options.namespace, &inner.endpoints.load())?;
        let method = MethodPath::from_message(&request.method)?;
        let http_app = !inner.options.app.protocol().is_grpc();
        if callee.is_app() && self.is_own(&callee) && http_app {
            check_extension(request.http_extension.as_ref())?;
        }
        let http = into_http_request(request, headers::from_call(metadata))?;
        let response = self
            .invoke(
                target,
                &callee,
                &method,
                method.as_str(),
                http,
                Asked::ByMessage,
            )
            .await?;
        self.reply(response).await
    }

    /// An answer as a message; anything but success of an HTTP app is an error with the code that fits.
    async fn reply(&self, mut response: Response<Body>) -> Result<Reply, Error> {
        let grpc: Option<GrpcAnswer> = response.extensions_mut().remove();
        let (parts, body) = response.into_parts();
        let data = body::read(body, self.0.options.max_message).await?;
        if let Some(GrpcAnswer {
            status,
            type_url,
            content_type,
        }) = grpc
        {
            let result = match status.code() {
                Code::Ok => Ok(answer::message(data, type_url, content_type)),
                _ => Err(status),
            };
            return Ok(Reply {
                result,
                metadata: parts.headers,
            });
        }
        let result = if parts.status.is_success() {
            let content_type = text(parts.headers.get(header::CONTENT_TYPE));
            Ok(answer::message(data, String::new(), content_type))
        } else {
            Err(answer::http_error(parts.status, &data))
        };
        let mut metadata = headers::into_call(&parts.headers);
        metadata.insert(HTTP_STATUS, HeaderValue::from(parts.status.as_u16()));
        Ok(Reply { result, metadata })
    }
}

/// HTTP apps have to be told a method.
///
/// # Errors
/// [`Error::Message`].
pub fn check_extension(extension: Option<&HttpExtension>) -> Result<(), Error> {
    match extension.map(HttpExtension::verb) {
        None => Err(Error::Message("missing HTTP extension field")),
        Some(Verb::None | Verb::Connect) => Err(Error::Message("invalid HTTP verb")),
        Some(_) => Ok(()),
    }
}

/// The verb, query, type and bytes of a message as an HTTP request; its path is left to who sends it.
fn into_http_request(request: InvokeRequest, metadata: HeaderMap) -> Result<Request<Body>, Error> {
    let extension = request.http_extension.clone().unwrap_or_default();
    let data = request.data.unwrap_or_default();
    let mut http = Request::new(body::full(Bytes::from(data.value)));
    *http.method_mut() = verb(&extension);
    *http.uri_mut() = method::query_only(&extension.querystring)?;
    *http.headers_mut() = metadata;
    let content_type = if request.content_type.is_empty() {
        "application/json"
    } else {
        &request.content_type
    };
    if let Ok(value) = HeaderValue::from_str(content_type) {
        http.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    http.extensions_mut().insert(MessageHead {
        http_extension: request.http_extension,
        type_url: data.type_url,
        content_type: request.content_type,
    });
    Ok(http)
}

/// Callers of gRPC apps name no method.
pub fn verb(extension: &HttpExtension) -> Method {
    match extension.verb() {
        Verb::None => Method::POST,
        verb => Method::from_bytes(verb.as_str_name().as_bytes()).unwrap_or(Method::POST),
    }
}

/// What a request says of itself to a gRPC app; one that has been a message says it again.
pub fn head(parts: &http::request::Parts) -> MessageHead {
    if let Some(head) = parts.extensions.get::<MessageHead>() {
        return head.clone();
    }
    MessageHead {
        http_extension: Some(HttpExtension {
            verb: Verb::from_str_name(parts.method.as_str())
                .unwrap_or(Verb::None)
                .into(),
            querystring: parts.uri.query().unwrap_or_default().to_owned(),
        }),
        type_url: String::new(),
        content_type: text(parts.headers.get(header::CONTENT_TYPE)),
    }
}

fn text(value: Option<&HeaderValue>) -> String {
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}

/// An HTTP request as the message a gRPC app gets.
pub async fn from_http(
    method: &str,
    request: Request<Body>,
    limit: usize,
) -> Result<(InvokeRequest, HeaderMap), Error> {
    let (parts, body) = request.into_parts();
    let data = body::read(body, limit).await?;
    let head = head(&parts);
    let message = InvokeRequest {
        method: method.to_owned(),
        content_type: head.content_type,
        data: Some(Any {
            type_url: head.type_url,
            value: data.into(),
        }),
        http_extension: head.http_extension,
    };
    // The transport writes its own of what belongs to the call.
    let mut metadata = headers::from_call(parts.headers);
    match TraceContext::from_headers(&metadata) {
        Some(trace) => trace.inject_grpc(&mut metadata),
        None => telemetry::trace::inject_none_grpc(&mut metadata),
    }
    Ok((message, metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extension(verb: Verb) -> HttpExtension {
        HttpExtension {
            verb: verb.into(),
            querystring: String::new(),
        }
    }

    #[test]
    fn an_http_app_has_to_be_told_a_method() {
        let refused = |given: Option<HttpExtension>| check_extension(given.as_ref()).unwrap_err();
        assert_eq!(
            refused(None).to_string(),
            "rpc error: code = InvalidArgument desc = missing HTTP extension field"
        );
        assert!(
            refused(Some(extension(Verb::None)))
                .to_string()
                .ends_with("invalid HTTP verb")
        );
        assert!(check_extension(Some(&extension(Verb::Get))).is_ok());
    }

    #[tokio::test]
    async fn a_message_is_the_same_on_the_other_side() {
        let request = InvokeRequest {
            method: "m".into(),
            data: Some(Any {
                type_url: "type".into(),
                value: b"data".to_vec(),
            }),
            content_type: "any text".into(),
            http_extension: None,
        };
        let http = into_http_request(request.clone(), HeaderMap::new()).unwrap();
        let (again, _) = from_http("m", http, 99).await.unwrap();
        assert_eq!(again, request);
    }
}
