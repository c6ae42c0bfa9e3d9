//! What is left of a request body once the answer is known.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use component::{Body, BoxError, body};
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;

/// Most bytes that are read for nothing; beyond it closing the connection is cheaper.
const DRAIN_LIMIT: usize = 256 << 10;

/// A body whose rest can still be read after its reader is gone.
struct Shared(Arc<Mutex<Body>>);

/// The rest of a body.
pub struct Leftover(Arc<Mutex<Body>>);

/// Splits a body into the one that is read and the handle for its rest.
pub fn share(body: Body) -> (Body, Leftover) {
    let shared = Arc::new(Mutex::new(body));
    let reader = body::streamed(Shared(Arc::clone(&shared)));
    (reader, Leftover(shared))
}

impl Leftover {
    /// Reads what is left, unless somebody still reads: an answer may begin before its request ends.
    pub async fn drain(self) {
        if let Some(rest) = Arc::into_inner(self.0) {
            // Whether it was read whole decides only whether the connection is kept.
            let _ = body::read(rest.into_inner(), DRAIN_LIMIT).await;
        }
    }
}

impl http_body::Body for Shared {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut *self.0.lock()).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_that_is_still_read_is_left_alone() {
        let (reader, leftover) = share(body::full("abc"));
        leftover.drain().await;
        assert_eq!(body::read(reader, 9).await.unwrap(), "abc");
    }

    #[tokio::test]
    async fn the_rest_is_read_once_its_reader_is_gone() {
        let (reader, leftover) = share(body::full("abc"));
        drop(reader);
        leftover.drain().await;
    }
}
