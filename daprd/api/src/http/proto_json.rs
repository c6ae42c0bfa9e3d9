//! The codec of routes whose JSON is the proto's: the body is the request, what stands in the path goes over it, and the reply
//! is written as it is. Routes whose JSON is older have codecs of their own.

use std::future::Future;

use component::Body;
use http::Response;
use prost::{Message, Name};
use proto::json::{self, Emit};

use super::{Call, json_reply, no_content};
use crate::{ApiError, CallContext, reason::general, reply::IntoReply};

/// Name of the message that is answered by 204.
const EMPTY: &str = "google.protobuf.Empty";

/// Calls an operation with the request that the body holds; none is the empty request. `place` puts in what the path says.
pub async fn by_proto<Q, A, F, Fut>(
    mut call: Call,
    place: fn(&Call, &mut Q),
    operation: F,
) -> Result<Response<Body>, ApiError>
where
    Q: Message + Name + Default,
    A: IntoReply<Message: Name>,
    F: FnOnce(CallContext, Q) -> Fut,
    Fut: Future<Output = Result<A, ApiError>>,
{
    let mut request = from_body(&mut call).await?;
    place(&call, &mut request);
    answer(call.context, request, operation).await
}

/// The request that the body holds; none is the empty request.
pub async fn from_body<Q: Message + Name + Default>(call: &mut Call) -> Result<Q, ApiError> {
    let body = call.bytes().await?;
    if body.is_empty() {
        return Ok(Q::default());
    }
    json::from_json(&body).map_err(|error| malformed(&error))
}

/// Calls an operation whose request stands in the path; a body is passed over.
pub async fn by_path<Q, A, F, Fut>(
    call: Call,
    place: fn(&Call, &mut Q),
    operation: F,
) -> Result<Response<Body>, ApiError>
where
    Q: Message + Default,
    A: IntoReply<Message: Name>,
    F: FnOnce(CallContext, Q) -> Fut,
    Fut: Future<Output = Result<A, ApiError>>,
{
    let mut request = Q::default();
    place(&call, &mut request);
    answer(call.context, request, operation).await
}

async fn answer<Q, A, F, Fut>(
    context: CallContext,
    request: Q,
    operation: F,
) -> Result<Response<Body>, ApiError>
where
    A: IntoReply<Message: Name>,
    F: FnOnce(CallContext, Q) -> Fut,
    Fut: Future<Output = Result<A, ApiError>>,
{
    let reply = operation(context, request).await?.into_reply();
    let mut response = if A::Message::full_name() == EMPTY {
        no_content()
    } else {
        let bytes = json::to_json_with(&reply.message, Emit::All).map_err(|error| {
            let message = format!("failed to serialize the response: {}", chain(&error));
            ApiError::new(&general::INTERNAL, message)
        })?;
        json_reply(bytes)
    };
    response.headers_mut().extend(reply.metadata);
    Ok(response)
}

fn malformed(error: &json::Error) -> ApiError {
    let message = format!("failed deserializing HTTP body: {}", chain(error));
    ApiError::new(&general::MALFORMED_REQUEST, message)
}

fn chain(error: &json::Error) -> String {
    component::error::chain(error)
}

#[cfg(test)]
mod tests {
    use component::body;
    use http::{Extensions, HeaderMap, HeaderValue};
    use proto::runtime::v1::{TryLockRequest, TryLockResponse, UnlockRequest};

    use super::*;
    use crate::{Reply, Transport};

    fn call(text: &'static str) -> Call {
        Call {
            context: CallContext::new(Transport::Http, HeaderMap::new(), &Extensions::new()),
            params: vec![("store".to_owned(), "redis".to_owned())],
            query: Vec::new(),
            body: body::full(text),
            max_body: 0,
        }
    }

    fn place(call: &Call, request: &mut TryLockRequest) {
        request.store_name = call.param("store").to_owned();
    }

    #[tokio::test]
    async fn the_body_is_the_request_and_the_path_goes_over_it() {
        let operation = |_, request: TryLockRequest| async move {
            assert_eq!(request.store_name, "redis");
            assert_eq!(request.resource_id, "r");
            let mut metadata = HeaderMap::new();
            metadata.insert("x-owner", HeaderValue::from_static("o"));
            Ok(Reply {
                message: TryLockResponse { success: false },
                metadata,
            })
        };
        let text = r#"{"storeName": "other", "resourceId": "r", "unknown": 1}"#;
        let response = by_proto(call(text), place, operation).await.unwrap();
        assert_eq!(response.headers()["x-owner"], "o");
        let body = body::read(response.into_body(), 99).await.unwrap();
        assert_eq!(body, r#"{"success":false}"#);
    }

    #[tokio::test]
    async fn no_body_is_an_empty_request_and_an_empty_reply_no_content() {
        let operation = |_, request: UnlockRequest| async move {
            assert_eq!(request, UnlockRequest::default());
            Ok(())
        };
        let response = by_proto(call(""), |_, _| {}, operation).await.unwrap();
        assert_eq!(response.status(), 204);
    }

    #[tokio::test]
    async fn a_route_without_a_body_passes_one_over() {
        let operation = |_, request: TryLockRequest| async move {
            assert_eq!(request.store_name, "redis");
            Ok(())
        };
        let response = by_path(call("no JSON"), place, operation).await.unwrap();
        assert_eq!(response.status(), 204);
    }

    #[tokio::test]
    async fn a_body_that_does_not_fit_is_named() {
        let operation = |_, _: TryLockRequest| async { Ok(()) };
        let error = by_proto(call("{\"resourceId\": 1}"), place, operation).await;
        let error = error.unwrap_err();
        assert_eq!(error.reason().http, 400);
        assert!(error.message().contains("TryLockRequest"), "{error}");
    }
}
