//! Request bodies, and what becomes of one that is answered before it was read to its end.
//!
//! On HTTP/1.1 such a connection has to be closed, and closing a socket with unread bytes resets it: the client would
//! lose the answer. So what has arrived already is read for nothing; if more is to come, the answer says that the
//! connection closes, and the server goes on reading for a while after it (`server::linger`). HTTP/2 has
//! `RST_STREAM(NO_ERROR)` for this, which the stack sends by itself.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Version, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;

use crate::connection::Activity;

/// The body of a received request.
#[derive(Debug)]
pub struct RequestBody {
    /// None once it has ended.
    body: Option<Incoming>,
    /// Where an unread rest goes; none where nobody asks for it.
    rest: Option<Rest>,
}

/// Takes what its reader leaves of a body.
#[derive(Clone, Debug)]
pub(crate) struct Rest(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    left: Mutex<Option<Incoming>>,
    activity: Arc<Activity>,
    /// The client waits until it is told to go on: reading the body would tell it.
    waits: bool,
}

/// Most bytes of an unwanted body that are read to keep the connection; beyond it closing is cheaper.
const MOST_DISCARDED: usize = 256 << 10;
/// How often the connection is polled again before a rest counts as not yet sent: once for bytes that have arrived with the
/// head, once for the end that follows them.
const MOST_ROUNDS: u8 = 2;

/// Makes the body of a request; its rest is of interest on HTTP/1 alone.
pub(crate) fn received(
    request: Request<Incoming>,
    activity: &Arc<Activity>,
) -> (Request<RequestBody>, Option<Unread>) {
    activity.unread.store(false, Ordering::Relaxed);
    let is_http1 = request.version() < Version::HTTP_2;
    let rest = (is_http1 && !request.body().is_end_stream()).then(|| {
        Rest(Arc::new(Shared {
            left: Mutex::new(None),
            activity: Arc::clone(activity),
            waits: request.headers().contains_key(header::EXPECT),
        }))
    });
    let unread = rest.clone().map(|rest| Unread {
        rest,
        body: None,
        discarded: 0,
        rounds: 0,
    });
    let request = request.map(|body| RequestBody {
        body: Some(body),
        rest,
    });
    (request, unread)
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    #[inline]
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = Pin::new(body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        frame
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let (Some(body), Some(Rest(shared))) = (self.body.take(), &self.rest)
            && !body.is_end_stream()
        {
            shared.activity.unread.store(true, Ordering::Relaxed);
            *shared.left.lock() = Some(body);
        }
    }
}

/// Settles, once the answer is known, what becomes of a body that was not read to its end.
pub(crate) struct Unread {
    rest: Rest,
    body: Option<Incoming>,
    discarded: usize,
    rounds: u8,
}

impl Unread {
    /// Reads what has arrived of a body whose reader is gone, never waiting for the client; if that was not all, the answer
    /// says that the connection closes.
    pub(crate) fn poll_settle<B>(
        &mut self,
        cx: &mut Context<'_>,
        response: &mut Response<B>,
    ) -> Poll<()> {
        if self.body.is_none() {
            // Still read by somebody, who answers while the request goes on, or read to its end.
            let Some(body) = self.rest.0.left.lock().take() else {
                return Poll::Ready(());
            };
            self.body = Some(body);
        }
        while !self.rest.0.waits
            && self.discarded <= MOST_DISCARDED
            && let Some(body) = &mut self.body
        {
            if body.is_end_stream() {
                return self.ended();
            }
            match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.discarded += frame.data_ref().map_or(0, Bytes::len);
                }
                Poll::Ready(None) => return self.ended(),
                Poll::Ready(Some(Err(_))) => break,
                Poll::Pending if self.rounds < MOST_ROUNDS => {
                    self.rounds += 1;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Pending => break,
            }
        }
        self.body = None;
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
        Poll::Ready(())
    }

    fn ended(&mut self) -> Poll<()> {
        self.body = None;
        self.rest.0.activity.unread.store(false, Ordering::Relaxed);
        Poll::Ready(())
    }
}
