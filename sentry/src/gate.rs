//! How many callers may be looked into at a time. Who a caller is costs a request to the API server, or a key set that is fetched
//! again, and anybody may call: what nobody has vouched for yet must not take that from those who need it. Q-sentry-limits

use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use transport::{PeerGate, Place};

/// Tokens that are looked into at a time.
pub const REVIEWS: usize = 32;
/// Of them, and of those that wait, so many from one address.
pub const REVIEWS_PER_PEER: usize = 8;
/// Callers that wait for their turn.
const WAITING: usize = 1024;
/// Longest wait for a turn; below the time after which callers give up a try.
pub const WAIT: Duration = Duration::from_secs(2);

/// Lets callers in, so many at a time.
pub struct Gate {
    peers: PeerGate,
    places: Semaphore,
    turns: Semaphore,
}

/// Why a caller is sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    #[error("more than {REVIEWS_PER_PEER} certificate requests at a time from one address")]
    Peer,
    #[error("too many certificate requests at a time, try again")]
    All,
}

/// A turn, over when it is dropped.
pub struct Turn<'a> {
    _turn: SemaphorePermit<'a>,
    _place: SemaphorePermit<'a>,
    _own: Place,
}

impl Default for Gate {
    /// The service counts all that it refuses.
    fn default() -> Self {
        Self {
            peers: PeerGate::new(REVIEWS_PER_PEER, || ()),
            places: Semaphore::new(REVIEWS + WAITING),
            turns: Semaphore::new(REVIEWS),
        }
    }
}

impl Gate {
    /// Waits for a turn. Callers without an address count as one.
    pub async fn enter(&self, address: Option<IpAddr>) -> Result<Turn<'_>, Busy> {
        let own = self.peers.try_enter(address, 1).ok_or(Busy::Peer)?;
        let place = self.places.try_acquire().map_err(|_| Busy::All)?;
        match timeout(WAIT, self.turns.acquire()).await {
            Ok(Ok(turn)) => Ok(Turn {
                _turn: turn,
                _place: place,
                _own: own,
            }),
            _ => Err(Busy::All),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: usize) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, u8::try_from(number).unwrap()]))
    }

    #[tokio::test(start_paused = true)]
    async fn one_caller_does_not_take_the_turns_of_all() {
        let gate = Gate::default();
        let mut inside = Vec::new();
        for _ in 0..REVIEWS_PER_PEER {
            inside.push(gate.enter(address(1)).await.ok().unwrap());
        }
        assert_eq!(gate.enter(address(1)).await.err(), Some(Busy::Peer));
        assert!(gate.enter(address(2)).await.is_ok());
        inside.pop();
        assert!(gate.enter(address(1)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_waited_for_but_not_for_ever() {
        let gate = Gate::default();
        let mut inside = Vec::new();
        for number in 0..REVIEWS {
            inside.push(gate.enter(address(number)).await.ok().unwrap());
        }
        let began = tokio::time::Instant::now();
        assert_eq!(gate.enter(address(100)).await.err(), Some(Busy::All));
        assert_eq!(began.elapsed(), WAIT);
        let (entered, ()) = tokio::join!(gate.enter(address(100)), async {
            tokio::task::yield_now().await;
            inside.pop();
        });
        assert!(entered.is_ok());
        drop(entered);
        drop(inside);
        assert_eq!(gate.peers.peers(), 0, "nobody is remembered");
    }
}
