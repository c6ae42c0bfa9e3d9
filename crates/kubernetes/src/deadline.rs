//! Deadlines around a client's transport: until an answer begins, for each piece of it, and for all of it. An API server
//! that dies after it has taken a request says nothing more, and neither does its connection.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use kube::client::Body;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tower::{BoxError, Layer, Service};

/// How long an answer may take to begin. A write that admission webhooks look at takes up to ten seconds for each.
pub const ANSWER: Duration = Duration::from_secs(30);
/// How long a watch may take to begin, which nothing has to be done for.
pub const WATCH_ANSWER: Duration = Duration::from_secs(15);
/// How long the next piece of an answer may take.
pub const READ: Duration = Duration::from_secs(15);
/// How long an answer may take altogether.
pub const WHOLE: Duration = Duration::from_secs(60);
/// How long a watch may say nothing after the time at which it should have ended by itself.
const WATCH_SLACK: Duration = Duration::from_secs(10);
/// How long a watch lasts that does not say so, and at most; API servers choose up to an hour.
const WATCH_DEFAULT: Duration = Duration::from_secs(60 * 60);

/// The API server did not answer in time.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the kubernetes api has not answered within {0:?}")]
pub struct Overdue(pub Duration);

/// Puts deadlines on every request.
#[derive(Clone, Copy, Debug)]
pub struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Deadline<S> {
        Deadline { inner }
    }
}

/// A transport with deadlines.
#[derive(Clone, Debug)]
pub struct Deadline<S> {
    inner: S,
}

impl<S, B> Service<Request<Body>> for Deadline<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: HttpBody<Data = Bytes>,
{
    type Response = Response<LimitedBody<B>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let limits = Limits::of(request.uri().query().unwrap_or_default());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let began = Instant::now();
            match tokio::time::timeout(limits.answer, answer).await {
                Ok(Ok(response)) => Ok(response.map(|body| LimitedBody::new(body, limits, began))),
                Ok(Err(error)) => Err(error.into()),
                Err(_) => Err(Overdue(limits.answer).into()),
            }
        })
    }
}

/// How long the parts of one answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    answer: Duration,
    read: Duration,
    whole: Option<Duration>,
}

impl Limits {
    /// A watch goes on for as long as it says; everything else ends soon.
    fn of(query: &str) -> Self {
        if !is_watch(query) {
            return Self {
                answer: ANSWER,
                read: READ,
                whole: Some(WHOLE),
            };
        }
        let lasts = parameter(query, "timeoutSeconds").and_then(|seconds| seconds.parse().ok());
        Self {
            answer: WATCH_ANSWER,
            read: lasts
                .map_or(WATCH_DEFAULT, Duration::from_secs)
                .min(WATCH_DEFAULT)
                + WATCH_SLACK,
            whole: None,
        }
    }
}

/// Whether a request with this query is a watch.
pub fn is_watch(query: &str) -> bool {
    matches!(parameter(query, "watch"), Some("true" | "1"))
}

/// A parameter of a query, as `kube` writes it: once, and not escaped.
pub fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    Some(value)
}

pin_project! {
    /// An answer whose pieces have to come in time.
    pub struct LimitedBody<B> {
        #[pin]
        inner: B,
        limits: Limits,
        end: Option<Instant>,
        // Boxed, because a body has to stay small where thousands wait.
        sleep: Pin<Box<Sleep>>,
    }
}

impl<B> LimitedBody<B> {
    fn new(inner: B, limits: Limits, began: Instant) -> Self {
        let end = limits.whole.map(|whole| began + whole);
        let mut body = Self {
            inner,
            limits,
            end,
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
        };
        body.sleep.as_mut().reset(next_deadline(&limits, end));
        body
    }
}

fn next_deadline(limits: &Limits, end: Option<Instant>) -> Instant {
    let read = Instant::now() + limits.read;
    end.map_or(read, |end| read.min(end))
}

impl<B> HttpBody for LimitedBody<B>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        if let Poll::Ready(frame) = this.inner.poll_frame(context) {
            this.sleep
                .as_mut()
                .reset(next_deadline(this.limits, *this.end));
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        ready!(this.sleep.as_mut().poll(context));
        let whole = this
            .limits
            .whole
            .filter(|_| this.end.is_some_and(|end| Instant::now() >= end));
        Poll::Ready(Some(Err(Overdue(whole.unwrap_or(this.limits.read)).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_watches_go_on() {
        let plain = Limits::of("limit=250&labelSelector=watch%3Dtrue");
        assert_eq!((plain.read, plain.whole), (READ, Some(WHOLE)));
        let watch = Limits::of("&watch=true&timeoutSeconds=60&allowWatchBookmarks=true");
        assert_eq!(
            (watch.read, watch.whole),
            (Duration::from_secs(60) + WATCH_SLACK, None)
        );
        let seconds = u64::MAX;
        for query in ["watch=1", &format!("watch=1&timeoutSeconds={seconds}")] {
            assert_eq!(Limits::of(query).read, WATCH_DEFAULT + WATCH_SLACK);
        }
    }
}
