//! Invocation by message: gRPC `InvokeService`, and what gRPC apps understand.

use app_channel::Error as AppError;
use bytes::Bytes;
use component::{Body, body};
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use prost_types::Any;
use proto::common::v1::{HttpExtension, InvokeRequest, InvokeResponse, http_extension::Verb};
use resiliency::{Builtin, Outcome};
use telemetry::trace::TraceContext;
use tonic::{Code, Status};

use crate::{
    Error, Failure, Invoker,
    answer::{self, OfGrpc},
    headers, method, settle,
    target::Target,
};

/// Metadata in which the status of an HTTP app reaches a gRPC caller.
const HTTP_STATUS: &str = "dapr-http-status";

/// What a message says besides its method, query and bytes; kept in the extensions of the request that it becomes.
#[derive(Clone, Debug)]
pub struct Told {
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
        mut request: InvokeRequest,
        metadata: HeaderMap,
    ) -> Result<Reply, Error> {
        let inner = &self.0;
        let target = Target::parse(target, &inner.options.namespace, &inner.endpoints)?;
        request.method = method::normalise_message(&request.method)?;
        let mut metadata = headers::from_call(metadata);
        if let Target::Url { url, endpoint } = &target {
            let name = request.method.clone();
            let http = into_http_request(request, metadata)?;
            let answer = inner.endpoints.call(url, endpoint.as_deref(), &name, http);
            return self.reply(answer.await?).await;
        }
        inner.own.identify(&mut metadata, target.app_id());
        if !self.is_own(&target) {
            inner.own.forward(&mut metadata);
        }
        let policies = inner.options.policies.load_full();
        let named = policies.names_app(target.app_id());
        let policy = if named {
            policies.app(target.app_id())
        } else {
            policies.builtin(Builtin::ServiceRetries)
        };
        let attempt = |_| {
            let once = self.message_once(&target, request.clone(), metadata.clone());
            async move {
                match once.await {
                    // Under a policy of the platform an error of the app counts as a failure.
                    Ok(reply) if named && reply.result.is_err() => {
                        Err(Failure::Answer(Box::new(reply)))
                    }
                    Ok(reply) => Ok(reply),
                    Err(error) => Err(Failure::Error(error)),
                }
            }
        };
        settle(policy.run(attempt, classify).await)
    }

    async fn message_once(
        &self,
        target: &Target,
        request: InvokeRequest,
        metadata: HeaderMap,
    ) -> Result<Reply, Error> {
        let app = &self.0.options.app;
        if !self.is_own(target) {
            let name = request.method.clone();
            let http = into_http_request(request, metadata)?;
            return self.reply(self.remote(target, &name, http).await?).await;
        }
        if !app.protocol().is_grpc() {
            check_extension(request.http_extension.as_ref())?;
            let name = request.method.clone();
            let http = into_http_request(request, metadata)?;
            return self.reply(self.local(&name, http).await?).await;
        }
        match app.on_invoke(request, metadata).await {
            Ok(reply) => Ok(Reply {
                metadata: reply.metadata().clone().into_headers(),
                result: Ok(reply.into_inner()),
            }),
            Err(AppError::Status(status)) => Ok(Reply {
                metadata: status.metadata().clone().into_headers(),
                result: Err(*status),
            }),
            Err(other) => Err(other.into()),
        }
    }

    /// An answer as a message; anything but success of an HTTP app is an error with the code that fits.
    async fn reply(&self, mut response: Response<Body>) -> Result<Reply, Error> {
        let of_grpc: Option<OfGrpc> = response.extensions_mut().remove();
        let (parts, body) = response.into_parts();
        let data = body::read(body, self.0.options.max_message).await?;
        if let Some(OfGrpc {
            status,
            type_url,
            content_type,
        }) = of_grpc
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

/// Errors of the app are judged by their code, which the policy may match; a broken line is always worth another try.
fn classify(failure: &Failure<Reply>) -> Outcome {
    match failure {
        Failure::Answer(reply) => match &reply.result {
            Err(status) => Outcome::Grpc(status.code() as i32),
            Ok(_) => Outcome::Permanent,
        },
        Failure::Error(error) if error.is_transport() => Outcome::Retryable,
        Failure::Error(Error::Status(status)) => Outcome::Grpc(status.code() as i32),
        Failure::Error(_) => Outcome::Permanent,
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
    *http.uri_mut() = method::uri("", Some(&extension.querystring))?;
    *http.headers_mut() = metadata;
    let content_type = if request.content_type.is_empty() {
        "application/json"
    } else {
        &request.content_type
    };
    if let Ok(value) = HeaderValue::from_str(content_type) {
        http.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    http.extensions_mut().insert(Told {
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
pub fn told(parts: &http::request::Parts) -> Told {
    if let Some(told) = parts.extensions.get::<Told>() {
        return told.clone();
    }
    Told {
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
    let told = told(&parts);
    let message = InvokeRequest {
        method: method.to_owned(),
        content_type: told.content_type,
        data: Some(Any {
            type_url: told.type_url,
            value: data.into(),
        }),
        http_extension: told.http_extension,
    };
    // The transport writes its own of what belongs to the call.
    let mut metadata = headers::from_call(parts.headers);
    if let Some(trace) = TraceContext::from_headers(&metadata) {
        trace.inject_grpc(&mut metadata);
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
