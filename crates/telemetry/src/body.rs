//! A body that counts what passes and tells someone when it is over, whether it ended, failed or was
//! dropped half way.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Buf;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

/// Who wants to know about the end of a body.
pub trait Finish {
    /// Called exactly once, with the bytes that passed. `trailers` are those of a complete body;
    /// `complete` is false for one that was cut off.
    fn finish(self, bytes: u64, trailers: Option<&HeaderMap>, complete: bool);
}

pin_project! {
    /// See the module.
    pub struct Measured<B, F: Finish> {
        #[pin]
        inner: B,
        finish: Option<F>,
        bytes: u64,
    }

    impl<B, F: Finish> PinnedDrop for Measured<B, F> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Some(finish) = this.finish.take() {
                finish.finish(*this.bytes, None, false);
            }
        }
    }
}

impl<B: Body, F: Finish> Measured<B, F> {
    pub(crate) fn new(inner: B, finish: F) -> Self {
        let mut body = Measured {
            finish: Some(finish),
            bytes: 0,
            inner,
        };
        if body.inner.is_end_stream() {
            // Such a body is never polled.
            body.over(None);
        }
        body
    }

    fn over(&mut self, trailers: Option<&HeaderMap>) {
        if let Some(finish) = self.finish.take() {
            finish.finish(self.bytes, trailers, true);
        }
    }
}

impl<B: Body, F: Finish> Body for Measured<B, F> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = std::task::ready!(this.inner.as_mut().poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(chunk) = frame.data_ref() {
                    *this.bytes += chunk.remaining() as u64;
                }
                let trailers = frame.trailers_ref();
                if (trailers.is_some() || this.inner.is_end_stream())
                    && let Some(finish) = this.finish.take()
                {
                    finish.finish(*this.bytes, trailers, true);
                }
            }
            Some(Err(_)) => {
                if let Some(finish) = this.finish.take() {
                    finish.finish(*this.bytes, None, false);
                }
            }
            None => {
                if let Some(finish) = this.finish.take() {
                    finish.finish(*this.bytes, None, true);
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
