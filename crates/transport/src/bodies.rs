//! Reading bodies on ports that anybody may reach, within a limit of memory that no caller can fill by claims: room is given for
//! what comes, and a body that stops coming is given up. Q-peer-limits

use std::net::IpAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::gate::{PeerGate, Place};

/// How long the next piece of a body may take.
pub const IDLE: Duration = Duration::from_secs(1);
/// One address has this part of everything.
pub const SHARE: usize = 16;
/// Bytes that each body may have from its first piece on. Most are smaller.
const SMALL: usize = 64 << 10;
/// Memory is counted in these, in bytes.
const UNIT: usize = 1 << 10;

/// How much may be read at a time.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Bytes of the largest body.
    pub largest: usize,
    /// Bodies at a time.
    pub count: usize,
    /// Bytes for what is large of all of them.
    pub memory: usize,
}

/// Room for bodies.
pub struct Bodies {
    limits: BodyLimits,
    count: Semaphore,
    count_of_one: PeerGate,
    memory: Semaphore,
    memory_of_one: PeerGate,
}

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is larger than the largest.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// Nothing more has come in time.
    #[error("the body has not come: nothing more within {IDLE:?}")]
    Idle,
    /// The connection broke.
    #[error("the body cannot be read")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A body, and its room for as long as it is held.
pub struct Held<'a> {
    /// The body.
    pub bytes: Bytes,
    _room: Vec<Room<'a>>,
}

/// Given back when it is dropped, first that of all and then that of the address.
struct Room<'a> {
    _all: Option<SemaphorePermit<'a>>,
    _own: Place,
}

impl Bodies {
    /// No body is read yet.
    #[must_use]
    pub fn new(limits: BodyLimits) -> Self {
        let share = |all: usize| (all / SHARE).max(1);
        // They wait and refuse nothing.
        Self {
            limits,
            count: Semaphore::new(limits.count),
            count_of_one: PeerGate::new(share(limits.count), || ()),
            memory: Semaphore::new(limits.memory / UNIT),
            memory_of_one: PeerGate::new(share(limits.memory / UNIT), || ()),
        }
    }

    /// Reads a body that `address` sends. It waits for others, so it is for the caller to give up at last.
    ///
    /// # Errors
    /// When the body is too large, or does not come.
    pub async fn read<B>(&self, address: Option<IpAddr>, body: B) -> Result<Held<'_>, BodyError>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let largest = self.limits.largest;
        let least = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        let most = body.size_hint().upper();
        let most = most.and_then(|most| usize::try_from(most).ok());
        if least > largest {
            return Err(BodyError::TooLarge(largest));
        }
        let mut body = std::pin::pin!(body);
        let mut room = Vec::with_capacity(2);
        let mut bytes = BytesMut::new();
        loop {
            // What has come waits at the connection, which has its own limit, until there is room for it.
            let Some(piece) = next(&mut body).await? else {
                return Ok(Held {
                    bytes: bytes.freeze(),
                    _room: room,
                });
            };
            if bytes.len() + piece.len() > largest {
                return Err(BodyError::TooLarge(largest));
            }
            if room.is_empty() {
                let own = self.count_of_one.enter(address, 1).await;
                // Never closed.
                let all = self.count.acquire().await.ok();
                room.push(Room {
                    _all: all,
                    _own: own,
                });
            }
            if room.len() == 1 && bytes.len() + piece.len() > SMALL {
                // All that may still come, so that no two wait for each other with parts in their hands.
                let units = most.unwrap_or(largest).min(largest).div_ceil(UNIT);
                let units = units.min(self.limits.memory / UNIT);
                let units = u32::try_from(units).unwrap_or(u32::MAX);
                let own = self.memory_of_one.enter(address, units).await;
                let all = self.memory.acquire_many(units).await.ok();
                room.push(Room {
                    _all: all,
                    _own: own,
                });
            }
            bytes.extend_from_slice(&piece);
        }
    }

    /// Addresses that have a body here.
    #[must_use]
    pub fn peers(&self) -> usize {
        self.count_of_one.peers()
    }
}

impl std::fmt::Debug for Bodies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Bodies").field(&self.limits).finish()
    }
}

/// The next piece of a body; none at its end.
async fn next<B>(body: &mut std::pin::Pin<&mut B>) -> Result<Option<Bytes>, BodyError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    loop {
        let frame = tokio::time::timeout(IDLE, body.frame());
        match frame.await.map_err(|_| BodyError::Idle)? {
            None => return Ok(None),
            Some(Err(error)) => return Err(BodyError::Broken(error.into())),
            Some(Ok(frame)) => {
                if let Ok(piece) = frame.into_data() {
                    return Ok(Some(piece));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt as _;
    use http_body::Frame;
    use http_body_util::{Full, Limited, StreamBody};
    use std::convert::Infallible;

    const LIMITS: BodyLimits = BodyLimits {
        largest: 1 << 20,
        count: 64,
        memory: 16 << 20,
    };

    fn address(number: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, number]))
    }

    /// Begins with so many bytes, claims to be as large as it may be, and never goes on.
    fn stuck(
        begins: usize,
    ) -> impl Body<Data = Bytes, Error = Box<dyn std::error::Error + Send + Sync>> {
        let begins = (begins > 0).then(|| Ok::<_, Infallible>(Frame::data(vec![0; begins].into())));
        let stream = futures::stream::iter(begins).chain(futures::stream::pending());
        Limited::new(StreamBody::new(stream), LIMITS.largest)
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_are_read_whole_and_have_room_as_long_as_they_are_held() {
        let bodies = Bodies::new(LIMITS);
        for size in [0, 1, SMALL, SMALL + 1, LIMITS.largest] {
            let body = Full::new(Bytes::from(vec![7; size]));
            let held = bodies.read(address(1), body).await.unwrap();
            assert_eq!(
                (held.bytes.len(), bodies.peers()),
                (size, usize::from(size > 0))
            );
        }
        assert_eq!((bodies.peers(), bodies.memory_of_one.peers()), (0, 0));
        let body = Full::new(Bytes::from(vec![7; LIMITS.largest + 1]));
        let refused = bodies.read(address(1), body).await.err();
        assert!(matches!(refused, Some(BodyError::TooLarge(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_takes_no_room_of_others_and_is_given_up_soon() {
        let bodies = Bodies::new(LIMITS);
        for begins in [0, 1, SMALL + 1] {
            // Those of a few addresses, and more than all room is for.
            let stuck = (0..SHARE * 8).map(|count| {
                let host = u8::try_from(count % (SHARE - 1)).unwrap();
                bodies.read(address(host), stuck(begins))
            });
            let stuck = futures::future::join_all(stuck);
            let began = tokio::time::Instant::now();
            let other = async {
                tokio::task::yield_now().await;
                let body = Full::new(Bytes::from(vec![7; LIMITS.largest]));
                let held = bodies.read(address(200), body).await.unwrap();
                assert_eq!(held.bytes.len(), LIMITS.largest);
                assert!(began.elapsed() < IDLE, "{begins}");
            };
            let (stuck, ()) = tokio::join!(stuck, other);
            let is_idle = |it: &Result<Held<'_>, BodyError>| matches!(it, Err(BodyError::Idle));
            assert!(stuck.iter().all(is_idle));
            assert_eq!(bodies.peers(), 0);
        }
    }
}
