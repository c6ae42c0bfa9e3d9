//! A gate that no single caller can fill: how much of something, such as connections or bytes of bodies, one address may have
//! at a time. It is for ports that anybody may reach before anybody knows who calls; what all callers together may have is
//! limited where the thing itself is. Q-peer-limits

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is told of each refusal, to count it.
type Refused = Arc<dyn Fn() + Send + Sync>;

/// So much for each address. Clones are the same gate. What has no address, as on unix sockets, counts as one caller.
#[derive(Clone)]
pub struct PeerGate(Arc<Shared>);

struct Shared {
    each: usize,
    refused: Refused,
    /// Who has something or waits for it. An address is here only as long as that.
    peers: Mutex<HashMap<Option<IpAddr>, Peer>>,
}

struct Peer {
    room: Arc<Semaphore>,
    users: usize,
}

/// A part of what an address may have, given back when it is dropped.
pub struct Place {
    permit: Option<OwnedSemaphorePermit>,
    shared: Arc<Shared>,
    address: Option<IpAddr>,
}

impl PeerGate {
    /// A gate that lets each address have `each`. `refused` is called whenever one is sent away.
    pub fn new(each: usize, refused: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared {
            each: each.min(Semaphore::MAX_PERMITS),
            refused: Arc::new(refused),
            peers: Mutex::default(),
        }))
    }

    /// Takes `parts` of what the address may have; none if it has too much already.
    #[must_use]
    pub fn try_enter(&self, address: Option<IpAddr>, parts: u32) -> Option<Place> {
        let (room, mut place) = self.place(address);
        place.permit = room.try_acquire_many_owned(parts).ok();
        if place.permit.is_none() {
            (self.0.refused)();
            return None;
        }
        Some(place)
    }

    /// Waits for `parts` of what the address may have, in turn with others of the same address. It takes all there is where
    /// that is less.
    pub async fn enter(&self, address: Option<IpAddr>, parts: u32) -> Place {
        let (room, mut place) = self.place(address);
        let most = u32::try_from(self.0.each).unwrap_or(u32::MAX);
        // Never closed.
        place.permit = room.acquire_many_owned(parts.min(most)).await.ok();
        place
    }

    fn place(&self, address: Option<IpAddr>) -> (Arc<Semaphore>, Place) {
        let address = address.map(caller);
        let mut peers = self.0.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = peers.entry(address).or_insert_with(|| Peer {
            room: Arc::new(Semaphore::new(self.0.each)),
            users: 0,
        });
        peer.users += 1;
        let place = Place {
            permit: None,
            shared: self.0.clone(),
            address,
        };
        (peer.room.clone(), place)
    }

    /// Addresses that have something or wait.
    #[must_use]
    pub fn peers(&self) -> usize {
        let peers = self.0.peers.lock();
        peers.unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Who calls from an address. Of IPv6 a network of 64 bits is the least that anybody has.
fn caller(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
        address => address,
    }
}

/// The bits of an IPv6 address that name a network.
const NETWORK: u128 = !0 << 64;

impl std::fmt::Debug for PeerGate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerGate")
            .field("each", &self.0.each)
            .finish_non_exhaustive()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.permit.take());
        let peers = &self.shared.peers;
        let mut peers = peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peers.get_mut(&self.address) {
            peer.users -= 1;
            if peer.users == 0 {
                peers.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn address(number: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, number]))
    }

    #[test]
    fn one_address_has_its_part_and_nobody_else_s() {
        let refused = Arc::new(AtomicUsize::new(0));
        let counted = refused.clone();
        let gate = PeerGate::new(3, move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let two = gate.try_enter(address(1), 2).unwrap();
        assert!(gate.try_enter(address(1), 2).is_none(), "more than three");
        let one = gate.try_enter(address(1), 1).unwrap();
        assert!(gate.try_enter(address(2), 3).is_some());
        assert!(gate.try_enter(None, 3).is_some());
        assert_eq!(refused.load(Ordering::Relaxed), 1);
        drop(two);
        assert!(gate.try_enter(address(1), 2).is_some());
        assert_eq!(gate.peers(), 1);
        drop(one);
        assert_eq!(gate.peers(), 0, "nobody is remembered");
    }

    #[test]
    fn all_addresses_of_a_network_are_one_caller() {
        let gate = PeerGate::new(1, || ());
        let enter = |text: &str| gate.try_enter(text.parse().ok(), 1);
        let _held = enter("2001:db8:0:1::1").unwrap();
        assert!(enter("2001:db8:0:1:ffff::2").is_none());
        let _other = enter("2001:db8:0:2::1").unwrap();
        let _old = enter("10.0.0.1").unwrap();
        assert!(enter("::ffff:10.0.0.1").is_none());
        assert!(enter("::ffff:10.0.0.2").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn callers_of_one_address_wait_for_each_other() {
        let gate = PeerGate::new(2, || ());
        let all = gate.enter(address(1), 100).await;
        let other = gate.enter(address(2), 1).await;
        let (next, ()) = tokio::join!(gate.enter(address(1), 1), async {
            tokio::task::yield_now().await;
            assert_eq!(gate.peers(), 2);
            drop(all);
        });
        drop((next, other));
        let full = gate.enter(address(1), 2).await;
        {
            let mut given_up = Box::pin(gate.enter(address(1), 1));
            assert!(futures::poll!(&mut given_up).is_pending());
        }
        drop(full);
        assert_eq!(gate.peers(), 0, "nor who gave up");
    }
}
