//! Bodies: one that is read in pieces and goes on whole, and one that is made of pieces.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use component::{
    Body, BoxError,
    body::{self, ReadError},
};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;

/// A body that is read as far as somebody wants it, and kept for whoever comes next.
pub struct Incoming {
    rest: Option<Body>,
    kept: BytesMut,
    at: usize,
    trailers: HeaderMap,
    limit: usize,
}

impl Incoming {
    /// Of which at most `limit` bytes are read.
    pub fn new(body: Body, limit: usize) -> Self {
        use http_body::Body as _;
        Self {
            rest: Some(body).filter(|body| !body.is_end_stream()),
            kept: BytesMut::new(),
            at: 0,
            trailers: HeaderMap::new(),
            limit,
        }
    }

    /// Whether `want` bytes more are there, or all that there are.
    pub fn has(&self, want: usize) -> bool {
        self.rest.is_none() || self.kept.len() - self.at >= want
    }

    /// Reads until it [`has`](Self::has) them.
    ///
    /// # Errors
    /// Where it is too large, or breaks off.
    pub async fn fill(&mut self, want: usize) -> Result<(), ReadError> {
        use http_body::Body as _;
        while !self.has(want) {
            let Some(body) = &mut self.rest else { break };
            match body.frame().await {
                None => self.rest = None,
                Some(Err(error)) => return Err(ReadError::Broken(error.to_string())),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.len() > self.limit - self.kept.len() => {
                        return Err(ReadError::TooLarge { limit: self.limit });
                    }
                    Ok(data) => self.kept.extend_from_slice(&data),
                    Err(frame) => self
                        .trailers
                        .extend(frame.into_trailers().unwrap_or_default()),
                },
            }
            self.rest = self.rest.take().filter(|body| !body.is_end_stream());
        }
        Ok(())
    }

    /// Copies what is there, as far as there is room; says how much, and whether it was the last.
    pub fn take(&mut self, room: &mut [u8]) -> (usize, bool) {
        let unread = &self.kept[self.at..];
        let count = unread.len().min(room.len());
        room[..count].copy_from_slice(&unread[..count]);
        self.at += count;
        (count, self.rest.is_none() && self.at == self.kept.len())
    }

    /// The trailers that have been read.
    pub fn trailers(&mut self) -> &mut HeaderMap {
        &mut self.trailers
    }

    /// The whole body from its beginning, and what is left of it is still streamed.
    pub fn whole(&mut self) -> Body {
        let kept = std::mem::take(&mut self.kept).freeze();
        self.at = 0;
        joined(kept, self.rest.take(), std::mem::take(&mut self.trailers))
    }

    /// All bytes and the trailers.
    pub fn all(self) -> (BytesMut, HeaderMap) {
        (self.kept, self.trailers)
    }
}

/// Bytes, then a body, then trailers, in which those of the body are replaced by the ones of the same name.
pub fn joined(first: Bytes, rest: Option<Body>, trailers: HeaderMap) -> Body {
    match (rest, first.is_empty(), trailers.is_empty()) {
        (None, _, true) => body::full(first),
        (Some(rest), true, true) => rest,
        (rest, _, _) => body::streamed(Joined {
            first: Some(first).filter(|first| !first.is_empty()),
            rest,
            trailers: Some(trailers).filter(|trailers| !trailers.is_empty()),
        }),
    }
}

struct Joined {
    first: Option<Bytes>,
    rest: Option<Body>,
    trailers: Option<HeaderMap>,
}

impl http_body::Body for Joined {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if let Some(rest) = &mut self.rest {
            match ready!(Pin::new(rest).poll_frame(context)) {
                None => self.rest = None,
                Some(Ok(frame)) if frame.is_trailers() => {
                    let mut trailers = frame.into_trailers().unwrap_or_default();
                    trailers.extend(self.trailers.take().unwrap_or_default());
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                frame => return Poll::Ready(frame),
            }
        }
        let trailers = self.trailers.take();
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        let rest = self.rest.as_ref();
        self.first.is_none()
            && self.trailers.is_none()
            && rest.is_none_or(http_body::Body::is_end_stream)
    }

    /// Not exact where trailers follow: of a known length, HTTP/1.1 sends none.
    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().map_or(0, |first| first.len() as u64);
        let rest = self.rest.as_ref().map(http_body::Body::size_hint);
        let rest = rest.unwrap_or_else(|| SizeHint::with_exact(0));
        let mut hint = SizeHint::new();
        hint.set_lower(first.saturating_add(rest.lower()));
        if let Some(upper) = rest.upper()
            && self.trailers.is_none()
        {
            hint.set_upper(first.saturating_add(upper));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn pieces(pieces: &[&'static str]) -> Body {
        let pieces: Vec<_> = pieces
            .iter()
            .map(|piece| Ok::<_, BoxError>(Frame::data(Bytes::from_static(piece.as_bytes()))))
            .collect();
        body::streamed(http_body_util::StreamBody::new(futures::stream::iter(
            pieces,
        )))
    }

    #[tokio::test]
    async fn what_was_read_goes_on_whole() {
        let mut incoming = Incoming::new(pieces(&["abc", "de", "f"]), 5);
        assert!(!incoming.has(1));
        incoming.fill(4).await.unwrap();
        let mut room = [0; 4];
        assert_eq!((incoming.take(&mut room), &room), ((4, false), b"abcd"));
        let error = incoming.fill(2).await.unwrap_err();
        assert!(matches!(error, ReadError::TooLarge { limit: 5 }));
        let mut incoming = Incoming::new(pieces(&["abc", "de", "f"]), 5);
        incoming.fill(4).await.unwrap();
        assert_eq!(body::read(incoming.whole(), 10).await.unwrap(), "abcdef");
    }

    #[tokio::test]
    async fn the_end_is_told_with_the_last_bytes() {
        let mut incoming = Incoming::new(body::full("ab"), 5);
        incoming.fill(2).await.unwrap();
        assert_eq!(incoming.take(&mut [0; 2]), (2, true));
        let incoming = Incoming::new(body::empty(), 5);
        assert!(incoming.has(1));
    }

    #[tokio::test]
    async fn trailers_come_last() {
        use http_body::Body as _;
        let mut mine = HeaderMap::new();
        mine.insert("x-sum", HeaderValue::from_static("1"));
        let body = joined("a".into(), Some(pieces(&["b"])), mine);
        assert_eq!(body.size_hint().exact(), None);
        let mut incoming = Incoming::new(body, 5);
        incoming.fill(usize::MAX).await.unwrap();
        assert_eq!(incoming.trailers().len(), 1);
        let again = Incoming::new(incoming.whole(), 5);
        let mut again = again;
        again.fill(usize::MAX).await.unwrap();
        let (bytes, trailers) = again.all();
        assert_eq!(
            (&*bytes, &trailers["x-sum"]),
            (&b"ab"[..], &HeaderValue::from_static("1"))
        );
    }
}
