//! The body of a request for more than one attempt: what an attempt has read is kept, up to a limit, and the next one reads it
//! again. Nothing is held back for it: the first attempt streams as it would alone. Q-invoke-replay

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use component::{Body, BoxError, body};
use http_body::{Frame, SizeHint};
use http_body_util::LengthLimitError;
use parking_lot::Mutex;

use crate::Error;

/// What a piece costs besides its bytes, so that many small ones stay within the limit.
const PIECE: usize = 64;

/// A request's body between attempts. Only the newest attempt reads it.
pub struct Replay(Arc<Mutex<Shared>>);

struct Shared {
    rest: Body,
    ended: bool,
    broke: Option<Broke>,
    kept: Kept,
    /// How much more may be kept.
    room: usize,
    attempt: u32,
}

/// What has been read of the body so far.
enum Kept {
    Whole(Vec<Bytes>),
    /// Something that was read is gone, so no other attempt can have it.
    Lost,
}

/// Why a body has no end.
#[derive(Clone, Debug)]
enum Broke {
    TooLarge,
    Off(String),
}

/// The body as one attempt reads it.
struct Reader {
    shared: Arc<Mutex<Shared>>,
    attempt: u32,
    /// Pieces read so far of those that are kept.
    position: usize,
}

impl Replay {
    /// The body of the first attempt, and what others are made of. Up to `limit` bytes are kept; of a body that is known
    /// to be larger, nothing is.
    pub fn new(body: Body, limit: u64) -> (Self, Body) {
        let empty = http_body::Body::is_end_stream(&body);
        let lower = http_body::Body::size_hint(&body).lower();
        let limit = if lower > limit { 0 } else { limit };
        let shared = Shared {
            rest: body,
            ended: empty,
            broke: None,
            kept: Kept::Whole(Vec::new()),
            room: usize::try_from(limit).unwrap_or(usize::MAX),
            attempt: 1,
        };
        let replay = Self(Arc::new(Mutex::new(shared)));
        let first = if empty {
            body::empty()
        } else {
            replay.reader(1)
        };
        (replay, first)
    }

    /// The whole body again, unless a part of it is gone.
    pub fn again(&self) -> Option<Body> {
        let mut shared = self.0.lock();
        let Kept::Whole(kept) = &shared.kept else {
            return None;
        };
        if shared.broke.is_some() {
            return None;
        }
        if shared.ended && kept.is_empty() {
            return Some(body::empty());
        }
        shared.attempt += 1;
        let attempt = shared.attempt;
        drop(shared);
        Some(self.reader(attempt))
    }

    /// Why the caller's body broke off, if it did: that, and not what became of the attempt, is what went wrong.
    pub fn broke(&self) -> Option<Error> {
        let broke = self.0.lock().broke.clone()?;
        Some(match broke {
            Broke::TooLarge => Error::TooLarge,
            Broke::Off(problem) => Error::Body(format!("the request body broke off: {problem}")),
        })
    }

    fn reader(&self, attempt: u32) -> Body {
        body::streamed(Reader {
            shared: Arc::clone(&self.0),
            attempt,
            position: 0,
        })
    }
}

impl Shared {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        let Kept::Whole(kept) = &mut self.kept else {
            return;
        };
        let cost = frame.data_ref().map(|data| data.len().max(PIECE));
        match (frame.data_ref(), cost) {
            (Some(data), Some(cost)) if cost <= self.room => {
                self.room -= cost;
                kept.push(data.clone());
            }
            _ => self.kept = Kept::Lost,
        }
    }
}

/// Why a body ended without an end.
impl From<&BoxError> for Broke {
    fn from(error: &BoxError) -> Self {
        if too_large(error.as_ref()) {
            Self::TooLarge
        } else {
            Self::Off(component::error::chain(error.as_ref()))
        }
    }
}

fn too_large(error: &(dyn std::error::Error + 'static)) -> bool {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain
        .into_iter()
        .any(|error| error.is::<LengthLimitError>())
}

impl http_body::Body for Reader {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let mut shared = this.shared.lock();
        if shared.attempt != this.attempt {
            return Poll::Ready(Some(Err("another attempt has begun".into())));
        }
        if let Kept::Whole(kept) = &shared.kept
            && let Some(piece) = kept.get(this.position)
        {
            this.position += 1;
            return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
        }
        if shared.ended {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut shared.rest).poll_frame(context));
        match &frame {
            None => shared.ended = true,
            Some(Ok(frame)) => {
                shared.keep(frame);
                this.position += 1;
            }
            Some(Err(error)) => {
                shared.broke = Some(error.into());
                shared.ended = true;
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let shared = self.shared.lock();
        let left = match &shared.kept {
            Kept::Whole(kept) => kept.len().saturating_sub(self.position),
            Kept::Lost => 0,
        };
        left == 0 && shared.broke.is_none() && (shared.ended || shared.rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let shared = self.shared.lock();
        let kept: u64 = match &shared.kept {
            Kept::Whole(kept) => kept
                .iter()
                .skip(self.position)
                .map(|it| it.len() as u64)
                .sum(),
            Kept::Lost => 0,
        };
        let rest = shared.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(kept.saturating_add(rest.lower()));
        if let Some(upper) = rest.upper() {
            hint.set_upper(kept.saturating_add(upper));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::{BodyExt, Limited, StreamBody};

    use super::*;

    fn pieces(pieces: &'static [&'static str]) -> Body {
        let frames = pieces
            .iter()
            .map(|piece| Ok::<_, BoxError>(Frame::data(Bytes::from_static(piece.as_bytes()))));
        body::streamed(StreamBody::new(stream::iter(frames)))
    }

    async fn whole(body: Body) -> Bytes {
        body.collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn what_one_attempt_has_read_the_next_reads_again() {
        let (replay, mut first) = Replay::new(pieces(&["ab", "cd", "ef"]), 1 << 10);
        let piece = first.frame().await.unwrap().unwrap();
        assert_eq!(piece.into_data().unwrap(), "ab");
        let second = replay.again().unwrap();
        assert!(first.frame().await.unwrap().is_err(), "only one may read");
        assert_eq!(whole(second).await, "abcdef");
        assert_eq!(whole(replay.again().unwrap()).await, "abcdef");
        assert!(replay.broke().is_none());
    }

    #[tokio::test]
    async fn a_body_over_the_limit_can_be_repeated_only_until_it_is_read() {
        let (replay, first) = Replay::new(pieces(&["ab", "cd"]), PIECE as u64);
        drop(first);
        let second = replay.again().unwrap();
        assert_eq!(whole(second).await, "abcd");
        assert!(replay.again().is_none());
        let large = body::full(vec![0; 100]);
        let (replay, first) = Replay::new(large, 99);
        assert_eq!(http_body::Body::size_hint(&first).exact(), Some(100));
        assert_eq!(whole(first).await.len(), 100);
        assert!(replay.again().is_none());
    }

    #[tokio::test]
    async fn many_small_pieces_cost_what_they_occupy() {
        let (replay, first) = Replay::new(pieces(&["a"; 10]), 9 * PIECE as u64);
        assert_eq!(whole(first).await.len(), 10);
        assert!(replay.again().is_none());
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_not_repeated_and_says_why() {
        let limited = body::streamed(Limited::new(pieces(&["ab", "cd"]), 3));
        let (replay, first) = Replay::new(limited, 1 << 10);
        assert!(first.collect().await.is_err());
        assert!(replay.again().is_none());
        assert!(matches!(replay.broke(), Some(Error::TooLarge)));
        let frames = [Err::<Frame<Bytes>, BoxError>("gone".into())];
        let broken = body::streamed(StreamBody::new(stream::iter(frames)));
        let (replay, first) = Replay::new(broken, 1 << 10);
        assert!(first.collect().await.is_err());
        let problem = replay.broke().unwrap().to_string();
        assert!(problem.ends_with("gone"), "{problem}");
    }

    #[tokio::test]
    async fn nothing_is_the_same_every_time() {
        let (replay, first) = Replay::new(body::empty(), 0);
        assert!(http_body::Body::is_end_stream(&first));
        assert!(http_body::Body::is_end_stream(&replay.again().unwrap()));
    }
}
