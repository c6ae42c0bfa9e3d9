//! The call to another sidecar: `CallLocalStream`, both bodies in numbered chunks (contract 1.2).

use bytes::Bytes;
use component::{Body, body};
use futures::{FutureExt, Stream, StreamExt, stream};
use http::{HeaderName, HeaderValue, Response, StatusCode, header, uri::PathAndQuery};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use prost::Message as _;
use proto::{
    common::v1::{InvokeRequest, StreamPayload},
    internals::v1::{
        ApiVersion, InternalInvokeRequest, InternalInvokeRequestStream, InternalInvokeResponse,
        InternalInvokeResponseStream,
    },
};
use tonic::{
    Status, Streaming,
    codec::{Codec, EncodeBuf, Encoder},
};
use tonic_prost::ProstCodec;

use crate::{
    Error, Invoker,
    answer::{self, GrpcAnswer},
    headers, message,
    method::MethodPath,
    target::Target,
};

/// Codes below are those of gRPC.
const FIRST_HTTP_STATUS: i32 = 100;

impl Invoker {
    /// Invokes a method of another app; the answer begins as soon as its head is there.
    pub(crate) async fn remote(
        &self,
        target: &Target,
        method: &MethodPath,
        parts: &http::request::Parts,
        body: Body,
    ) -> Result<Response<Body>, Error> {
        let app_id = target.app_id();
        let (client, origin) = self.peer(target).await?.grpc();
        let limit = self.0.options.max_message;
        let mut client = tonic::client::Grpc::with_origin(client, origin)
            .max_decoding_message_size(limit)
            .max_encoding_message_size(limit);
        let mut metadata = http::HeaderMap::new();
        if let Some(trace) = telemetry::trace::TraceContext::from_headers(&parts.headers) {
            trace.inject_grpc(&mut metadata);
        }
        let head = head(method.as_str(), app_id, parts);
        let mut outgoing = tonic::Request::new(chunks(head, body));
        *outgoing.metadata_mut() = tonic::metadata::MetadataMap::from_headers(metadata);
        let began = self.0.metrics.sent(app_id);
        client
            .ready()
            .await
            .map_err(|error| Error::unreachable(app_id, transport::describe(&error)))?;
        let path = PathAndQuery::from_static(CALL_LOCAL_STREAM);
        let reply = client.streaming(outgoing, path, ChunkCodec).await;
        let mut reply =
            reply.map_err(|status| Error::from_status(app_id, &parts.method, status))?;
        let first = reply.get_mut().message().await;
        let first = first
            .map_err(|status| Error::from_status(app_id, &parts.method, status))?
            .unwrap_or_default();
        let response = answered(first, reply.into_inner())?;
        self.0.metrics.received(app_id, response.status(), began);
        Ok(response)
    }
}

const CALL_LOCAL_STREAM: &str = "/dapr.proto.internals.v1.ServiceInvocation/CallLocalStream";

/// The codec of the generated client, but for requests that may break off: a chunk that is an error resets the call, where
/// the end of a stream would tell the callee that the body is complete.
struct ChunkCodec;

struct ChunkEncoder;

impl Codec for ChunkCodec {
    type Encode = Result<InternalInvokeRequestStream, Status>;
    type Decode = InternalInvokeResponseStream;
    type Encoder = ChunkEncoder;
    type Decoder = <ProstCodec<(), InternalInvokeResponseStream> as Codec>::Decoder;

    fn encoder(&mut self) -> ChunkEncoder {
        ChunkEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<(), InternalInvokeResponseStream>::default().decoder()
    }
}

impl Encoder for ChunkEncoder {
    type Item = Result<InternalInvokeRequestStream, Status>;
    type Error = Status;

    fn encode(&mut self, item: Self::Item, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item?
            .encode(buffer)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

/// The first message: everything but the body.
fn head(method: &str, app_id: &str, parts: &http::request::Parts) -> InternalInvokeRequest {
    let head = message::head(parts);
    InternalInvokeRequest {
        ver: ApiVersion::V1.into(),
        metadata: headers::into_metadata(&parts.headers, app_id),
        message: Some(InvokeRequest {
            method: method.to_owned(),
            data: Some(prost_types::Any {
                type_url: head.type_url,
                value: Vec::new(),
            }),
            content_type: head.content_type,
            http_extension: head.http_extension,
        }),
        actor: None,
    }
}

/// The most bytes in one chunk: a message must have room for them beside the head.
const MAX_CHUNK: usize = 64 << 10;

/// What is left to send of a request.
struct Outgoing {
    head: Option<InternalInvokeRequest>,
    body: Body,
    /// What the last frame of the body held beyond one chunk.
    left: Bytes,
    seq: u64,
}

impl Outgoing {
    /// The next chunk, `None` at the end of the body, or an error where it broke off.
    async fn data(&mut self) -> Result<Option<Bytes>, Status> {
        while self.left.is_empty() {
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| {
                Status::cancelled(format!("the request body broke off: {error}"))
            })?;
            self.left = frame.into_data().unwrap_or_default();
        }
        let length = self.left.len().min(MAX_CHUNK);
        Ok(Some(self.left.split_to(length)))
    }

    /// The next message. What is there of the body already travels with the head, which must not wait for a body that is
    /// still being written.
    async fn next(&mut self) -> Result<Option<InternalInvokeRequestStream>, Status> {
        let request = self.head.take();
        let data = if request.is_some() {
            self.data().now_or_never().transpose()?.flatten()
        } else {
            self.data().await?
        };
        if request.is_none() && data.is_none() {
            return Ok(None);
        }
        let seq = self.seq;
        self.seq += u64::from(data.is_some());
        let payload = data.map(|data| StreamPayload { data, seq });
        Ok(Some(InternalInvokeRequestStream { request, payload }))
    }
}

/// The messages of a request; the last is an error where its body broke off.
fn chunks(
    head: InternalInvokeRequest,
    body: Body,
) -> impl Stream<Item = Result<InternalInvokeRequestStream, Status>> + Send + 'static {
    let outgoing = Outgoing {
        head: Some(head),
        body,
        left: Bytes::new(),
        seq: 0,
    };
    stream::unfold(Some(outgoing), |outgoing| async move {
        let mut outgoing = outgoing?;
        match outgoing.next().await.transpose()? {
            Ok(message) => {
                // An end that is known is sent with the last chunk.
                let ended =
                    outgoing.left.is_empty() && http_body::Body::is_end_stream(&outgoing.body);
                Some((Ok(message), (!ended).then_some(outgoing)))
            }
            Err(status) => Some((Err(status), None)),
        }
    })
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
    *response.headers_mut() = peers::metadata::into_headers(&head.headers);
    if (0..FIRST_HTTP_STATUS).contains(&status.code) {
        // A gRPC app: its own code.
        let status = answer::from_internal(status);
        *response.status_mut() = answer::http_status(status.code());
        response.extensions_mut().insert(GrpcAnswer {
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
    use futures::TryStreamExt;

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
        let all: Vec<_> = chunks(head, body::full("abc")).try_collect().await.unwrap();
        assert_eq!(all.len(), 1);
        assert!(all[0].request.is_some());
        assert_eq!(all[0].payload, chunk(0, "abc"));
        let none: Vec<_> = chunks(InternalInvokeRequest::default(), body::empty())
            .try_collect()
            .await
            .unwrap();
        assert_eq!(none.len(), 1);
        assert_eq!(none[0].payload, None);
    }

    #[tokio::test]
    async fn large_pieces_are_split() {
        let large = Bytes::from(vec![7; 2 * MAX_CHUNK + 1]);
        let head = InternalInvokeRequest::default();
        let all: Vec<_> = chunks(head, body::full(large.clone()))
            .try_collect()
            .await
            .unwrap();
        let payloads: Vec<_> = all
            .into_iter()
            .map(|message| message.payload.unwrap())
            .collect();
        assert!(payloads.iter().map(|it| it.seq).eq(0..3));
        let joined: Vec<u8> = payloads.into_iter().flat_map(|it| it.data).collect();
        assert_eq!(joined, large);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_no_end_of_the_stream() {
        let frames = [
            Ok(Frame::data(Bytes::from_static(b"a"))),
            Err(component::BoxError::from("gone")),
        ];
        let broken = body::streamed(StreamBody::new(stream::iter(frames)));
        let all: Vec<_> = chunks(InternalInvokeRequest::default(), broken)
            .collect()
            .await;
        assert_eq!(all.len(), 2);
        let error = all[1].as_ref().unwrap_err();
        assert!(error.message().ends_with("gone"), "{error}");
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
