//! A tower layer that measures gRPC calls by their HTTP frames: five bytes of each message are its
//! frame, and the status stands in the trailers, or in the headers of an answer without a body.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use http::{HeaderMap, Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::{Call, Classify, Completed, GrpcMetrics, Role, path};
use crate::body::{Finish, Measured};

/// Request body within the layer.
pub type CountedBody<B> = Measured<B, Received>;

/// Response body of the layer.
pub type MeasuredBody<B> = Measured<B, Pending>;

/// Adds gRPC metrics to a service.
#[derive(Clone)]
pub struct GrpcLayer {
    metrics: GrpcMetrics,
    role: Role,
    classify: Classify,
}

impl GrpcLayer {
    pub(super) fn new(metrics: GrpcMetrics, role: Role, classify: Classify) -> Self {
        GrpcLayer {
            metrics,
            role,
            classify,
        }
    }
}

impl<S> Layer<S> for GrpcLayer {
    type Service = GrpcService<S>;
    fn layer(&self, inner: S) -> GrpcService<S> {
        GrpcService {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service with gRPC metrics.
#[derive(Clone)]
pub struct GrpcService<S> {
    inner: S,
    layer: GrpcLayer,
}

impl<S, B, R> Service<Request<B>> for GrpcService<S>
where
    S: Service<Request<CountedBody<B>>, Response = Response<R>>,
    B: Body,
    R: Body,
{
    type Response = Response<MeasuredBody<R>>;
    type Error = S::Error;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let received = Arc::new(AtomicU64::new(0));
        let pending = Pending {
            metrics: self.layer.metrics.clone(),
            role: self.layer.role,
            call: (self.layer.classify)(request.uri().path(), request.headers()),
            method: path(&request),
            received: received.clone(),
            status: None,
            start: Instant::now(),
        };
        let request = request.map(|body| Measured::new(body, Received(received)));
        Answer {
            inner: self.inner.call(request),
            pending: Some(pending),
        }
    }
}

pin_project! {
    /// Waits for the response head.
    pub struct Answer<F> {
        #[pin]
        inner: F,
        pending: Option<Pending>,
    }
}

impl<F, R, E> Future for Answer<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
{
    type Output = Result<Response<MeasuredBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = std::task::ready!(this.inner.poll(cx));
        let mut pending = this
            .pending
            .take()
            .expect("a future is not polled after its end");
        Poll::Ready(match result {
            Ok(response) => {
                pending.status = grpc_status(response.headers());
                Ok(response.map(|body| Measured::new(body, pending)))
            }
            Err(error) => {
                pending.status = Some(UNAVAILABLE);
                pending.finish(0, None, false);
                Err(error)
            }
        })
    }
}

/// Takes note of the size of a request.
pub struct Received(Arc<AtomicU64>);

impl Finish for Received {
    fn finish(self, bytes: u64, _: Option<&HeaderMap>, _: bool) {
        self.0.store(bytes, Ordering::Relaxed);
    }
}

/// A call that is still under way.
pub struct Pending {
    metrics: GrpcMetrics,
    role: Role,
    call: Call,
    method: String,
    received: Arc<AtomicU64>,
    status: Option<i32>,
    start: Instant,
}

impl Finish for Pending {
    fn finish(self, bytes: u64, trailers: Option<&HeaderMap>, complete: bool) {
        if self.call == Call::Ignored {
            return;
        }
        let status = trailers.and_then(grpc_status).or(self.status);
        let missing = if complete { UNKNOWN } else { CANCELED };
        let payload = |bytes: u64| bytes.saturating_sub(FRAME);
        let sizes = (
            payload(self.received.load(Ordering::Relaxed)),
            payload(bytes),
        );
        self.metrics.record(
            self.role,
            &Completed {
                method: &self.method,
                status: status.unwrap_or(missing),
                bytes: (self.call == Call::Unary).then_some(sizes),
                elapsed: self.start.elapsed(),
            },
        );
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<i32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Bytes in front of each message: a flag and a length.
const FRAME: u64 = 5;

const CANCELED: i32 = 1;
const UNKNOWN: i32 = 2;
const UNAVAILABLE: i32 = 14;
