//! How many callers may be looked into at a time. Who a caller is costs a request to the API server, or a key set that is fetched
//! again, and anybody may call: what nobody has vouched for yet must not take that from those who need it. Q-sentry-limits

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

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
    turns: Semaphore,
    /// Who is inside or waits. An address is here only as long as that.
    peers: Mutex<Peers>,
}

#[derive(Default)]
struct Peers {
    by_address: HashMap<Option<IpAddr>, usize>,
    total: usize,
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
    _place: Place<'a>,
}

struct Place<'a> {
    gate: &'a Gate,
    address: Option<IpAddr>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            turns: Semaphore::new(REVIEWS),
            peers: Mutex::default(),
        }
    }
}

impl Gate {
    /// Waits for a turn. Callers without an address count as one.
    pub async fn enter(&self, address: Option<IpAddr>) -> Result<Turn<'_>, Busy> {
        let place = self.place(address)?;
        match timeout(WAIT, self.turns.acquire()).await {
            Ok(Ok(turn)) => Ok(Turn {
                _turn: turn,
                _place: place,
            }),
            _ => Err(Busy::All),
        }
    }

    fn place(&self, address: Option<IpAddr>) -> Result<Place<'_>, Busy> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let own = peers.by_address.get(&address).copied().unwrap_or(0);
        if own >= REVIEWS_PER_PEER {
            return Err(Busy::Peer);
        }
        if peers.total >= REVIEWS + WAITING {
            return Err(Busy::All);
        }
        peers.by_address.insert(address, own + 1);
        peers.total += 1;
        Ok(Place {
            gate: self,
            address,
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut peers = self
            .gate
            .peers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        peers.total -= 1;
        if let Some(own) = peers.by_address.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                peers.by_address.remove(&self.address);
            }
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
        let peers = gate.peers.lock().unwrap();
        assert!(
            peers.by_address.is_empty() && peers.total == 0,
            "nobody is remembered"
        );
    }
}
