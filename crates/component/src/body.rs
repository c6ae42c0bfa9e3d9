//! The streamed HTTP body that middleware, invocation and the app channel hand along: never buffered whole.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};

/// The error of a body that broke off.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A streamed HTTP body.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A body of no bytes.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body of bytes that are in memory already.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Erases the type of a streamed body.
pub fn streamed<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// A body that keeps something until it has been read, or is dropped.
pub fn held<T: Send + Unpin + 'static>(body: Body, kept: T) -> Body {
    streamed(Held { body, _kept: kept })
}

struct Held<T> {
    body: Body,
    _kept: T,
}

impl<T: Unpin> http_body::Body for Held<T> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// Why a body could not be read whole.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It has more bytes than may be held in memory.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// Most bytes allowed.
        limit: usize,
    },
    /// It broke off.
    #[error("the body broke off: {0}")]
    Broken(String),
}

/// Reads a whole body of at most `limit` bytes.
///
/// # Errors
/// [`ReadError`].
pub async fn read<B>(mut body: B, limit: usize) -> Result<Bytes, ReadError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut whole = Bytes::new();
    let mut parts: Option<BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ReadError::Broken(error.to_string()))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let length = parts.as_ref().map_or(whole.len(), BytesMut::len);
        if length.saturating_add(data.len()) > limit {
            return Err(ReadError::TooLarge { limit });
        }
        match &mut parts {
            Some(parts) => parts.extend_from_slice(&data),
            // Most bodies come in one piece, which needs no copy.
            None if whole.is_empty() => whole = data,
            None => {
                let mut joined = BytesMut::from(&whole[..]);
                joined.extend_from_slice(&data);
                parts = Some(joined);
            }
        }
    }
    Ok(parts.map_or(whole, BytesMut::freeze))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        assert_eq!(read(full("1234"), 4).await.unwrap(), "1234");
        assert!(matches!(
            read(full("12345"), 4).await,
            Err(ReadError::TooLarge { limit: 4 })
        ));
    }

    #[tokio::test]
    async fn pieces_are_joined() {
        let pieces = ["ab", "", "cd", "e"].map(|piece| {
            Ok::<_, BoxError>(http_body::Frame::data(Bytes::from_static(piece.as_bytes())))
        });
        let body = http_body_util::StreamBody::new(futures::stream::iter(pieces));
        assert_eq!(read(body, 5).await.unwrap(), "abcde");
    }
}
