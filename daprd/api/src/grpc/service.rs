//! The three shapes of RPCs that operations serve, between tonic's codec and the operation.

use std::{
    future::Future,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use component::Body;
use futures::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use http::{HeaderMap, HeaderName, header};
use http_body_util::StreamBody;
use telemetry::{
    ErrorCodes,
    trace::{GRPC_TRACE_BIN, TraceContext},
};
use tonic::{
    Status,
    metadata::MetadataMap,
    server::{Grpc, ServerStreamingService, StreamingService, UnaryService},
};
use tonic_prost::ProstCodec;

use super::Response;
use crate::{ApiError, CallContext, Transport, reply::IntoReply};

/// What metadata of components begin with.
const METADATA_PREFIX: &str = "metadata.";

/// Messages of the caller.
pub type Incoming<Q> = BoxStream<'static, Result<Q, ApiError>>;
/// Messages to the caller; an error is the last one.
pub type Outgoing<R> = BoxStream<'static, Result<R, ApiError>>;

/// In the extensions of a request: whether its operation has been called.
#[derive(Clone, Default)]
pub struct Began(Arc<AtomicBool>);

impl Began {
    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// In the extensions of a request whose answer says its trace (contract 10.7).
#[derive(Clone)]
pub struct Traced {
    /// The context of its span.
    pub context: TraceContext,
    /// The answer is an app's, which may say it itself.
    pub of_app: bool,
}

impl Traced {
    fn tell(&self, headers: &mut HeaderMap) {
        if !self.of_app {
            let told = self.context.to_grpc_trace_bin();
            headers.insert(HeaderName::from_static(GRPC_TRACE_BIN), told);
        } else if !headers.contains_key(Status::GRPC_STATUS) {
            let told = TraceContext::from_grpc(headers);
            told.as_ref().unwrap_or(&self.context).inject_grpc(headers);
        }
    }
}

/// What serving needs besides the operation.
#[derive(Clone)]
pub struct Serving {
    /// Largest message in bytes, either way.
    pub max_message: usize,
    pub errors: ErrorCodes,
}

impl Serving {
    /// The status of a failed operation, which is counted.
    fn status(&self, error: ApiError) -> Status {
        if let Some(recorded) = error.recorded() {
            self.errors.record(&recorded.code, recorded.category);
        }
        error.into_status()
    }

    fn grpc<Q, R>(&self) -> Grpc<ProstCodec<R, Q>>
    where
        Q: prost::Message + Default + 'static,
        R: prost::Message + Default + 'static,
    {
        let limit = Some(self.max_message);
        Grpc::new(ProstCodec::default()).apply_max_message_size_config(limit, limit)
    }
}

/// One request, one reply.
pub async fn unary<Q, A, F, Fut>(
    serving: Serving,
    request: http::Request<Body>,
    operation: F,
) -> Response
where
    Q: prost::Message + Default + 'static,
    A: IntoReply + Send + 'static,
    F: FnOnce(CallContext, Q) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<A, ApiError>> + Send + 'static,
{
    let mut grpc = serving.grpc::<Q, A::Message>();
    let traced = request.extensions().get::<Traced>().cloned();
    let answer = grpc.unary(Operation::new(serving, operation), request);
    let mut answer = answer.await;
    if let Some(traced) = traced {
        traced.tell(answer.headers_mut());
    }
    metadata_first(answer)
}

/// The metadata of a component's failure go ahead of the status, as those of its success do, and so does the trace: clients
/// look for both in the same place. A status alone would have them behind it. Where it is moved, [`status_of`] still knows it.
fn metadata_first(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let is_metadata =
        |name: &HeaderName| name.as_str().starts_with(METADATA_PREFIX) || name == GRPC_TRACE_BIN;
    if !headers.contains_key(Status::GRPC_STATUS) || !headers.keys().any(is_metadata) {
        return response;
    }
    let mut trailers = std::mem::take(headers);
    for name in trailers.keys().cloned().collect::<Vec<_>>() {
        if is_metadata(&name) || name == header::CONTENT_TYPE {
            let values = trailers.get_all(&name).iter().cloned();
            headers.extend(values.map(|value| (name.clone(), value)));
            trailers.remove(&name);
        }
    }
    if let Some(status) = Status::from_header_map(&trailers) {
        response.extensions_mut().insert(Moved(status));
    }
    let frame = http_body::Frame::trailers(trailers);
    let body = StreamBody::new(stream::iter([Ok::<_, Status>(frame)]));
    response.map(|_| tonic::body::Body::new(body))
}

/// In the extensions of an answer: the status that stands behind its metadata.
#[derive(Clone)]
struct Moved(Status);

/// The status of an answer as far as it is known with the head: streams end with theirs in the trailers.
pub fn status_of(response: &Response) -> Option<Status> {
    let moved = response.extensions().get::<Moved>();
    let in_head = || Status::from_header_map(response.headers());
    moved.map(|Moved(status)| status.clone()).or_else(in_head)
}

/// One request, a stream of replies.
pub async fn server_stream<Q, R, F, Fut>(
    serving: Serving,
    request: http::Request<Body>,
    operation: F,
) -> Response
where
    Q: prost::Message + Default + 'static,
    R: prost::Message + Default + 'static,
    F: FnOnce(CallContext, Q) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<Outgoing<R>, ApiError>> + Send + 'static,
{
    let mut grpc = serving.grpc::<Q, R>();
    grpc.server_streaming(Operation::new(serving, operation), request)
        .await
}

/// Streams both ways.
pub async fn bidirectional<Q, R, F, Fut>(
    serving: Serving,
    request: http::Request<Body>,
    operation: F,
) -> Response
where
    Q: prost::Message + Default + 'static,
    R: prost::Message + Default + 'static,
    F: FnOnce(CallContext, Incoming<Q>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<Outgoing<R>, ApiError>> + Send + 'static,
{
    let mut grpc = serving.grpc::<Q, R>();
    grpc.streaming(Operation::new(serving, operation), request)
        .await
}

/// An operation as tonic calls it.
struct Operation<F, Q> {
    serving: Serving,
    operation: F,
    message: PhantomData<fn(Q)>,
}

impl<F: Clone, Q> Operation<F, Q> {
    fn new(serving: Serving, operation: F) -> Self {
        Self {
            serving,
            operation,
            message: PhantomData,
        }
    }

    /// Calls the operation; the caller waits no longer for its answer than it said.
    fn run<M, A, Fut>(
        &self,
        request: tonic::Request<M>,
    ) -> impl Future<Output = Result<A, Status>> + Send + use<F, Q, M, A, Fut>
    where
        F: FnOnce(CallContext, M) -> Fut,
        Fut: Future<Output = Result<A, ApiError>> + Send + 'static,
    {
        let (metadata, extensions, message) = request.into_parts();
        if let Some(began) = extensions.get::<Began>() {
            began.set();
        }
        let call = CallContext::new(Transport::Grpc, metadata.into_headers(), &extensions);
        let deadline = call.deadline;
        // Boxed here, so that what is put around it moves a pointer.
        let answer = Box::pin((self.operation.clone())(call, message));
        let serving = self.serving.clone();
        async move {
            let answer = match deadline {
                None => answer.await,
                Some(deadline) => tokio::time::timeout_at(deadline, answer)
                    .await
                    .map_err(|_| Status::deadline_exceeded("context deadline exceeded"))?,
            };
            answer.map_err(|error| serving.status(error))
        }
    }

    fn outgoing<R: 'static>(
        &self,
    ) -> impl FnOnce(Outgoing<R>) -> tonic::Response<Items<R>> + use<R, F, Q> {
        let serving = self.serving.clone();
        move |stream| {
            let items = stream.map(move |item| item.map_err(|error| serving.status(error)));
            tonic::Response::new(items.boxed())
        }
    }
}

type Items<R> = BoxStream<'static, Result<R, Status>>;
type Answer<T> = BoxFuture<'static, Result<tonic::Response<T>, Status>>;

impl<Q: 'static, A, F, Fut> UnaryService<Q> for Operation<F, Q>
where
    A: IntoReply + Send + 'static,
    F: FnOnce(CallContext, Q) -> Fut + Clone + 'static,
    Fut: Future<Output = Result<A, ApiError>> + Send + 'static,
{
    type Response = A::Message;
    type Future = Answer<A::Message>;

    fn call(&mut self, request: tonic::Request<Q>) -> Self::Future {
        let answer = self.run(request);
        Box::pin(async move {
            let reply = answer.await?.into_reply();
            let metadata = MetadataMap::from_headers(reply.metadata);
            let extensions = tonic::Extensions::default();
            Ok(tonic::Response::from_parts(
                metadata,
                reply.message,
                extensions,
            ))
        })
    }
}

impl<Q: 'static, R, F, Fut> ServerStreamingService<Q> for Operation<F, Q>
where
    R: prost::Message + Default + 'static,
    F: FnOnce(CallContext, Q) -> Fut + Clone + 'static,
    Fut: Future<Output = Result<Outgoing<R>, ApiError>> + Send + 'static,
{
    type Response = R;
    type ResponseStream = Items<R>;
    type Future = Answer<Items<R>>;

    fn call(&mut self, request: tonic::Request<Q>) -> Self::Future {
        let (answer, outgoing) = (self.run(request), self.outgoing());
        Box::pin(async move { answer.await.map(outgoing) })
    }
}

impl<Q, R, F, Fut> StreamingService<Q> for Operation<F, Q>
where
    Q: prost::Message + Default + 'static,
    R: prost::Message + Default + 'static,
    F: FnOnce(CallContext, Incoming<Q>) -> Fut + Clone + 'static,
    Fut: Future<Output = Result<Outgoing<R>, ApiError>> + Send + 'static,
{
    type Response = R;
    type ResponseStream = Items<R>;
    type Future = Answer<Items<R>>;

    fn call(&mut self, request: tonic::Request<tonic::Streaming<Q>>) -> Self::Future {
        let request = request.map(|incoming| {
            let incoming = incoming.map(|message| message.map_err(ApiError::of_status));
            incoming.boxed()
        });
        let (answer, outgoing) = (self.run(request), self.outgoing());
        Box::pin(async move { answer.await.map(outgoing) })
    }
}

#[cfg(test)]
mod tests;
