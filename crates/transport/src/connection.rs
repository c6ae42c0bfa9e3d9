//! One accepted connection: counting its requests, noticing when it is idle or sends a head too slowly, draining it.
//!
//! hyper's own header timeout also runs between requests and would cut healthy keep-alive connections, so the
//! clock lives here and starts with the first byte of a request head.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tower::ServiceExt;

use crate::request_body::{Unread, received};
use crate::{Peer, RequestBody, Stream};

/// What the watchdog of a connection should do now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing; look again after this time.
    Wait(Duration),
    /// Idle for too long: finish politely.
    Drain,
    /// A request head took too long: close.
    Cut,
}

/// Limits on quiet connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quiet {
    pub(crate) header: Duration,
    pub(crate) idle: Option<Duration>,
}

/// Counters of one connection, written by its requests, read by its watchdog. Times are milliseconds since `start`.
#[derive(Debug)]
pub(crate) struct Activity {
    start: Instant,
    in_flight: AtomicUsize,
    idle_since: AtomicU64,
    head_since: AtomicU64,
    http2: AtomicBool,
    /// Whether the last HTTP/1 request was answered, or given up, before its body was read to the end.
    pub(crate) unread: AtomicBool,
}

/// `head_since` while no request head is under way.
const NO_HEAD: u64 = u64::MAX;

impl Activity {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            in_flight: AtomicUsize::new(0),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(NO_HEAD),
            http2: AtomicBool::new(false),
            unread: AtomicBool::new(false),
        }
    }

    /// Milliseconds since the connection was accepted.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(NO_HEAD - 1)
    }

    pub(crate) fn verdict(&self, quiet: Quiet, now: u64) -> Verdict {
        let since = |mark: u64| Duration::from_millis(now.saturating_sub(mark));
        let mut wait = quiet.header;
        let head = self.head_since.load(Ordering::Relaxed);
        if head != NO_HEAD {
            match quiet
                .header
                .checked_sub(since(head))
                .filter(|left| !left.is_zero())
            {
                Some(left) => wait = left,
                None => return Verdict::Cut,
            }
        }
        if let Some(idle) = quiet.idle
            && self.in_flight.load(Ordering::Acquire) == 0
        {
            match idle
                .checked_sub(since(self.idle_since.load(Ordering::Relaxed)))
                .filter(|left| !left.is_zero())
            {
                Some(left) => wait = wait.min(left),
                None => return Verdict::Drain,
            }
        }
        Verdict::Wait(wait)
    }

    fn read(&self, bytes: &[u8], first: bool, now: impl FnOnce(&Self) -> u64) {
        if first && bytes.starts_with(&HTTP2_PREFACE[..bytes.len().min(HTTP2_PREFACE.len())]) {
            self.http2.store(true, Ordering::Relaxed);
        }
        if !self.http2.load(Ordering::Relaxed)
            && self.in_flight.load(Ordering::Relaxed) == 0
            && self.head_since.load(Ordering::Relaxed) == NO_HEAD
        {
            self.head_since.store(now(self), Ordering::Relaxed);
        }
    }
}

/// Enough of the HTTP/2 preface to tell it from every HTTP/1 method.
const HTTP2_PREFACE: &[u8] = b"PRI";

/// A request counts as in flight until its response body is dropped.
#[derive(Debug)]
struct InFlight(Arc<Activity>);

impl InFlight {
    fn new(activity: Arc<Activity>) -> Self {
        activity.in_flight.fetch_add(1, Ordering::AcqRel);
        activity.head_since.store(NO_HEAD, Ordering::Relaxed);
        Self(activity)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.now(), Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a program answers with, whatever its service is called: one type, so that hyper's state machines are compiled
/// once, here, and not for every listener of every program.
type Answer = Pin<Box<dyn Future<Output = Response<AnswerBody>> + Send>>;
type AnswerBody = UnsyncBoxBody<Bytes, BoxError>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What can be served: a tower service that always answers. Every service that fits is one.
pub trait Serve:
    tower::Service<
        Request<RequestBody>,
        Response = Response<Self::Body>,
        Error = Infallible,
        Future: Send + 'static,
    > + Clone
    + Send
    + Sync
    + 'static
{
    /// Body of its responses.
    type Body: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static;
}

impl<S, B> Serve for S
where
    S: tower::Service<
            Request<RequestBody>,
            Response = Response<B>,
            Error = Infallible,
            Future: Send + 'static,
        > + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Body = B;
}

/// Most bytes of the future that answers a request. It is moved to the heap with each one, whatever it will need of
/// its room, and an `async` block around a future doubles it: that went as far as 60 KiB a request.
const LARGEST_FUTURE: usize = 4 << 10;

/// A program's service, called once per request.
#[derive(Clone)]
pub(crate) struct Service(Arc<dyn Fn(Request<RequestBody>) -> Answer + Send + Sync>);

impl Service {
    pub(crate) fn new<S: Serve>(service: S) -> Self {
        const {
            assert!(
                size_of::<S::Future>() <= LARGEST_FUTURE,
                "the future of a request is too large to be moved: box what it seldom needs"
            );
        }
        Self(Arc::new(move |request| {
            let answer = service.clone().oneshot(request);
            Box::pin(answer.map(|answer| {
                let Ok(response) = answer;
                response.map(|body| body.map_err(Into::into).boxed_unsync())
            }))
        }))
    }
}

/// The service as hyper wants it: adds the `Peer`, counts the request.
#[derive(Clone)]
pub(crate) struct Dispatch {
    pub(crate) service: Service,
    pub(crate) peer: Peer,
    pub(crate) activity: Arc<Activity>,
}

impl hyper::service::Service<Request<Incoming>> for Dispatch {
    type Response = Response<Counted>;
    type Error = Infallible;
    type Future = Respond;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer.clone());
        let in_flight = Some(InFlight::new(self.activity.clone()));
        let (request, unread) = received(request, &self.activity);
        Respond {
            in_flight,
            answer: (self.service.0)(request),
            response: None,
            unread,
        }
    }
}

/// The service's future, and after it the end of the request's body; hands its guard over to the response body.
pub(crate) struct Respond {
    answer: Answer,
    response: Option<Response<AnswerBody>>,
    unread: Option<Unread>,
    in_flight: Option<InFlight>,
}

impl Future for Respond {
    type Output = Result<Response<Counted>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut response = match this.response.take() {
            Some(response) => response,
            None => ready!(this.answer.as_mut().poll(cx)),
        };
        if let Some(unread) = &mut this.unread
            && unread.poll_settle(cx, &mut response).is_pending()
        {
            this.response = Some(response);
            return Poll::Pending;
        }
        let in_flight = this.in_flight.take();
        Poll::Ready(Ok(response.map(|body| Counted {
            body,
            _in_flight: in_flight,
        })))
    }
}

/// A response body that keeps its connection from counting as idle.
pub(crate) struct Counted {
    body: AnswerBody,
    _in_flight: Option<InFlight>,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    #[inline]
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The stream as hyper reads it: tells the watchdog about request heads, and is handed back when hyper lets go of it.
#[derive(Debug)]
pub(crate) struct Watched {
    /// There until this is dropped.
    stream: Option<Stream>,
    activity: Arc<Activity>,
    first: bool,
    back: Option<oneshot::Sender<Stream>>,
}

impl Watched {
    /// The stream, and where it comes back.
    pub(crate) fn new(
        stream: Stream,
        activity: Arc<Activity>,
    ) -> (Self, oneshot::Receiver<Stream>) {
        let (back, returned) = oneshot::channel();
        let watched = Self {
            stream: Some(stream),
            activity,
            first: true,
            back: Some(back),
        };
        (watched, returned)
    }

    fn stream(&mut self) -> Pin<&mut Stream> {
        Pin::new(self.stream.as_mut().expect("it goes back on drop only"))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let (Some(stream), Some(back)) = (self.stream.take(), self.back.take()) {
            // Nobody waits for it where the connection was cut.
            let _ = back.send(stream);
        }
    }
}

impl AsyncRead for Watched {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(this.stream().poll_read(cx, buf))?;
        if buf.filled().len() > before {
            this.activity
                .read(&buf.filled()[before..], this.first, Activity::now);
            this.first = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().stream().poll_write(cx, buf)
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().stream().poll_write_vectored(cx, bufs)
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(Stream::is_write_vectored)
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream().poll_flush(cx)
    }

    #[inline]
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Quiet = Quiet {
        header: Duration::from_secs(10),
        idle: Some(Duration::from_secs(180)),
    };

    const SECOND: u64 = 1000;

    #[tokio::test]
    async fn a_slow_head_is_cut_and_an_idle_connection_is_drained() {
        let activity = Activity::new();
        assert_eq!(
            activity.verdict(QUIET, 0),
            Verdict::Wait(Duration::from_secs(10))
        );
        assert_eq!(
            activity.verdict(QUIET, 179 * SECOND),
            Verdict::Wait(Duration::from_secs(1))
        );
        assert_eq!(activity.verdict(QUIET, 180 * SECOND), Verdict::Drain);

        activity.read(b"PO", true, |_| 0);
        activity.read(b"ST", false, |_| 9 * SECOND);
        assert_eq!(
            activity.verdict(QUIET, 9 * SECOND),
            Verdict::Wait(Duration::from_secs(1))
        );
        assert_eq!(activity.verdict(QUIET, 10 * SECOND), Verdict::Cut);
    }

    #[tokio::test]
    async fn requests_and_http2_connections_are_left_alone() {
        let activity = Arc::new(Activity::new());
        activity.read(b"GET", true, |_| 0);
        let request = InFlight::new(activity.clone());
        assert_eq!(
            activity.verdict(QUIET, 1000 * SECOND),
            Verdict::Wait(Duration::from_secs(10))
        );
        drop(request);
        assert!(matches!(
            activity.verdict(QUIET, 100 * SECOND),
            Verdict::Wait(_)
        ));

        let activity = Activity::new();
        activity.read(b"PRI * HTTP/2.0", true, |_| 0);
        activity.read(b"settings", false, |_| 0);
        assert!(matches!(
            activity.verdict(QUIET, 20 * SECOND),
            Verdict::Wait(_)
        ));
    }
}
