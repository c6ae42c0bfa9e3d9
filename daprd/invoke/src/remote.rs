//! The call to another sidecar: `CallLocalStream`, both bodies in numbered chunks (contract 1.2).

use bytes::Bytes;
use component::{Body, body};
use futures::{FutureExt, Stream, StreamExt, stream};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use proto::{
    common::v1::{InvokeRequest, StreamPayload},
    internals::v1::{
        ApiVersion, InternalInvokeRequest, InternalInvokeRequestStream, InternalInvokeResponse,
        InternalInvokeResponseStream, service_invocation_client::ServiceInvocationClient,
    },
};
use tonic::{Status, Streaming};

use crate::{
    Error, Invoker,
    answer::{self, OfGrpc},
    headers, message,
    target::Target,
};

/// Codes below are those of gRPC.
const FIRST_HTTP_STATUS: i32 = 100;

impl Invoker {
    /// Invokes a method of another app; the answer begins as soon as its head is there.
    pub(crate) async fn remote(
        &self,
        target: &Target,
        method: &str,
        request: Request<Body>,
    ) -> Result<Response<Body>, Error> {
        let app_id = target.app_id();
        let (client, origin) = self.peer(target).await?.grpc();
        let limit = self.0.options.max_message;
        let mut client = ServiceInvocationClient::with_origin(client, origin)
            .max_decoding_message_size(limit)
            .max_encoding_message_size(limit);
        let (parts, body) = request.into_parts();
        let mut metadata = http::HeaderMap::new();
        if let Some(trace) = telemetry::trace::TraceContext::from_headers(&parts.headers) {
            trace.inject_grpc(&mut metadata);
        }
        let head = head(method, app_id, &parts);
        let mut outgoing = tonic::Request::new(chunks(head, body));
        *outgoing.metadata_mut() = tonic::metadata::MetadataMap::from_headers(metadata);
        let began = self.0.metrics.sent(app_id);
        let reply = client.call_local_stream(outgoing).await;
        let mut reply = reply.map_err(|status| Error::from_status(app_id, status))?;
        let first = reply.get_mut().message().await;
        let first = first
            .map_err(|status| Error::from_status(app_id, status))?
            .unwrap_or_default();
        let response = answered(first, reply.into_inner())?;
        self.0.metrics.received(app_id, response.status(), began);
        Ok(response)
    }
}

/// The first message: everything but the body.
fn head(method: &str, app_id: &str, parts: &http::request::Parts) -> InternalInvokeRequest {
    let told = message::told(parts);
    InternalInvokeRequest {
        ver: ApiVersion::V1.into(),
        metadata: headers::into_metadata(&parts.headers, app_id),
        message: Some(InvokeRequest {
            method: method.to_owned(),
            data: Some(prost_types::Any {
                type_url: told.type_url,
                value: Vec::new(),
            }),
            content_type: told.content_type,
            http_extension: told.http_extension,
        }),
        actor: None,
    }
}

/// The chunks of a request. What is there of the body already travels with the head.
fn chunks(
    head: InternalInvokeRequest,
    body: Body,
) -> impl Stream<Item = InternalInvokeRequestStream> + Send + 'static {
    let state = (Some(head), body, 0u64, false);
    stream::unfold(state, |(mut head, mut body, seq, ended)| async move {
        if ended {
            return None;
        }
        let request = head.take();
        let next = if request.is_some() {
            // The head must not wait for a body that is still being written.
            match next_data(&mut body).now_or_never() {
                Some(next) => next,
                None => {
                    let message = InternalInvokeRequestStream {
                        request,
                        payload: None,
                    };
                    return Some((message, (None, body, seq, false)));
                }
            }
        } else {
            next_data(&mut body).await
        };
        match next {
            Some(data) => {
                let message = InternalInvokeRequestStream {
                    request,
                    payload: Some(StreamPayload { data, seq }),
                };
                Some((message, (None, body, seq + 1, false)))
            }
            None => {
                let message = InternalInvokeRequestStream {
                    request: Some(request?),
                    payload: None,
                };
                Some((message, (None, body, seq, true)))
            }
        }
    })
}

/// The next bytes of a body; nothing at its end, or where it broke off: the callee then sees a short body.
async fn next_data(body: &mut Body) -> Option<Bytes> {
    loop {
        let frame = body.frame().await?.ok()?;
        match frame.into_data() {
            Ok(data) if !data.is_empty() => return Some(data),
            _ => continue,
        }
    }
}

/// The head of the answer is in the first message; the rest streams.
fn answered(
    first: InternalInvokeResponseStream,
    rest: Streaming<InternalInvokeResponseStream>,
) -> Result<Response<Body>, Error> {
    let missing = || {
        Error::Body("response does not contain the required fields in the leading chunk".to_owned())
    };
    let head: InternalInvokeResponse = first.response.ok_or_else(missing)?;
    let status = head.status.ok_or_else(missing)?;
    let message = head.message.unwrap_or_default();
    let mut response = Response::new(data(first.payload, rest));
    *response.headers_mut() = headers::from_metadata(&head.headers);
    if (0..FIRST_HTTP_STATUS).contains(&status.code) {
        // A gRPC app: its own code.
        let status = answer::from_internal(status);
        *response.status_mut() = answer::http_status(status.code());
        response.extensions_mut().insert(OfGrpc {
            status,
            type_url: message.data.unwrap_or_default().type_url,
            content_type: message.content_type.clone(),
        });
    } else {
        let code = u16::try_from(status.code).ok();
        *response.status_mut() = code
            .and_then(|code| StatusCode::from_u16(code).ok())
            .ok_or_else(|| {
                Error::Body(format!("{} is no status of an HTTP response", status.code))
            })?;
    }
    if !message.content_type.is_empty()
        && let Ok(value) = HeaderValue::from_str(&message.content_type)
    {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response
        .headers_mut()
        .remove(HeaderName::from_static("dapr-app-id"));
    Ok(response)
}

/// The body of numbered chunks; a gap breaks it off.
fn data(first: Option<StreamPayload>, rest: Streaming<InternalInvokeResponseStream>) -> Body {
    let rest = rest.map(|message| message.map(|message| message.payload));
    numbered(first, rest)
}

/// The body of numbered chunks, of either direction.
pub(crate) fn numbered(
    first: Option<StreamPayload>,
    rest: impl Stream<Item = Result<Option<StreamPayload>, Status>> + Send + 'static,
) -> Body {
    let mut expected = 0;
    let all = stream::once(std::future::ready(Ok(first))).chain(rest);
    let frames = all.filter_map(move |payload| {
        let frame = match payload {
            Ok(None) => None,
            Ok(Some(chunk)) if chunk.seq == expected => {
                expected += 1;
                Some(Ok(Frame::data(chunk.data)))
            }
            Ok(Some(chunk)) => Some(Err(Status::data_loss(format!(
                "invalid sequence number received: {} (expected: {expected})",
                chunk.seq
            )))),
            Err(status) => Some(Err(status)),
        };
        std::future::ready(frame)
    });
    body::streamed(StreamBody::new(frames))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(seq: u64, data: &'static str) -> Option<StreamPayload> {
        Some(StreamPayload {
            data: Bytes::from_static(data.as_bytes()),
            seq,
        })
    }

    #[tokio::test]
    async fn chunks_are_numbered_and_the_first_travels_with_the_head() {
        let head = InternalInvokeRequest::default();
        let all: Vec<_> = chunks(head, body::full("abc")).collect().await;
        assert_eq!(all.len(), 1);
        assert!(all[0].request.is_some());
        assert_eq!(all[0].payload, chunk(0, "abc"));
        let none: Vec<_> = chunks(InternalInvokeRequest::default(), body::empty())
            .collect()
            .await;
        assert_eq!(none.len(), 1);
        assert_eq!(none[0].payload, None);
    }

    #[tokio::test]
    async fn a_gap_breaks_the_body_off() {
        let rest = stream::iter([Ok(chunk(1, "b"))]);
        let whole = numbered(chunk(0, "a"), rest).collect().await.unwrap();
        assert_eq!(whole.to_bytes(), "ab");
        let rest = stream::iter([Ok(chunk(2, "b"))]);
        let error = numbered(chunk(0, "a"), rest).collect().await.unwrap_err();
        assert!(error.to_string().contains("expected: 1"), "{error}");
    }
}
