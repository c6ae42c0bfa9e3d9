//! Tower layers that measure requests of any body type.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{HeaderMap, Method, Request, Response, header};
use http_body::Body;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::{Completed, HttpMetrics};
use crate::body::{Finish, Measured};

/// Response body of the layers here.
pub type MeasuredBody<B> = Measured<B, Pending>;

/// Adds server metrics to a service.
#[derive(Clone)]
pub struct ServerLayer(HttpMetrics);

impl ServerLayer {
    pub(super) fn new(metrics: HttpMetrics) -> Self {
        ServerLayer(metrics)
    }
}

impl<S> Layer<S> for ServerLayer {
    type Service = ServerService<S>;
    fn layer(&self, inner: S) -> ServerService<S> {
        ServerService {
            inner,
            metrics: self.0.clone(),
        }
    }
}

/// A service with server metrics.
#[derive(Clone)]
pub struct ServerService<S> {
    inner: S,
    metrics: HttpMetrics,
}

impl<S, B, R> Service<Request<B>> for ServerService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
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
        let pending = Pending::new(&self.metrics, &request, Side::Server);
        Answer {
            inner: self.inner.call(request),
            pending: Some(pending),
        }
    }
}

/// Adds client metrics to a service.
#[derive(Clone)]
pub struct ClientLayer(HttpMetrics);

impl ClientLayer {
    pub(super) fn new(metrics: HttpMetrics) -> Self {
        ClientLayer(metrics)
    }
}

impl<S> Layer<S> for ClientLayer {
    type Service = ClientService<S>;
    fn layer(&self, inner: S) -> ClientService<S> {
        ClientService {
            inner,
            metrics: self.0.clone(),
        }
    }
}

/// A service with client metrics.
#[derive(Clone)]
pub struct ClientService<S> {
    inner: S,
    metrics: HttpMetrics,
}

impl<S, B, R> Service<Request<B>> for ClientService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
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
        let pending = Pending::new(&self.metrics, &request, Side::Client);
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
                pending.status = response.status().as_u16();
                Ok(response.map(|body| Measured::new(body, pending)))
            }
            Err(error) => {
                pending.finish(0, None, false);
                Err(error)
            }
        })
    }
}

#[derive(Clone, Copy)]
enum Side {
    Server,
    Client,
}

/// A request whose response is still under way.
pub struct Pending {
    metrics: HttpMetrics,
    side: Side,
    method: Method,
    path: String,
    request_bytes: u64,
    status: u16,
    start: Instant,
}

impl Pending {
    fn new<B: Body>(metrics: &HttpMetrics, request: &Request<B>, side: Side) -> Self {
        let path = percent_encoding::percent_decode_str(request.uri().path());
        Pending {
            metrics: metrics.clone(),
            side,
            method: request.method().clone(),
            path: path.decode_utf8_lossy().into_owned(),
            request_bytes: length(request),
            // What a request that fails on its way counts as.
            status: 500,
            start: Instant::now(),
        }
    }
}

impl Finish for Pending {
    fn finish(self, bytes: u64, _: Option<&HeaderMap>, _: bool) {
        let request = Completed {
            method: self.method.as_str(),
            path: &self.path,
            status: self.status,
            request_bytes: self.request_bytes,
            response_bytes: bytes,
            elapsed: self.start.elapsed(),
        };
        match self.side {
            Side::Server => self.metrics.server_completed(&request),
            Side::Client => self.metrics.client_completed(&request),
        }
    }
}

fn length<B: Body>(request: &Request<B>) -> u64 {
    request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .or_else(|| request.body().size_hint().exact())
        .unwrap_or(0)
}
