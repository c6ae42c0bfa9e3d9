//! Who hosts which actor, as placement says. Between a new table and the word that everybody has it, actors that move by it
//! have no host: whoever asks waits. All others keep theirs, and nobody notices. Q-actor-unmoved

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use placement_table::{Host, Rings};
use tokio::{sync::watch, time::timeout};

use crate::{ActorId, Error};

/// Where an actor lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    Here,
    There(Host),
    /// No host has its type.
    Nobody,
}

/// The tables, and what is known of them. Sync, but for those who wait.
pub struct Directory {
    own: String,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// There is a table that everybody has.
    known: bool,
    rings: Arc<Rings>,
    /// What everybody had before the table that is handed out.
    before: Option<Arc<Rings>>,
}

impl Directory {
    /// The directory of the sidecar at `own`, `host:port`.
    pub fn new(own: String) -> Self {
        Self {
            own,
            state: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// A table that not everybody has yet.
    pub fn install(&self, rings: Rings) {
        let mut state = self.state.lock();
        let old = std::mem::replace(&mut state.rings, Arc::new(rings));
        state.before.get_or_insert(old);
        drop(state);
        self.changed();
    }

    /// Everybody has the last table.
    pub fn settle(&self) {
        let mut state = self.state.lock();
        state.known = true;
        state.before = None;
        drop(state);
        self.changed();
    }

    /// Nothing is known any more.
    pub fn clear(&self) {
        *self.state.lock() = State::default();
        self.changed();
    }

    fn changed(&self) {
        self.changes.send_modify(|number| *number += 1);
    }

    /// Moves on with everything that changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Where an actor lives; `None` while that is not known.
    fn look_up(&self, actor: &ActorId) -> Option<Owner> {
        let state = self.state.lock();
        if !state.known {
            return None;
        }
        let owner = owner(&state.rings, actor);
        if let Some(before) = &state.before
            && owner_address(before, actor) != owner.map(|host| &host.address)
        {
            return None;
        }
        Some(match owner {
            None => Owner::Nobody,
            Some(host) if is_own(&host.address, &self.own) => Owner::Here,
            Some(host) => Owner::There(host.clone()),
        })
    }

    /// Whether an actor is this sidecar's at this moment, with no table on its way that says otherwise.
    pub fn is_here(&self, actor: &ActorId) -> bool {
        self.look_up(actor) == Some(Owner::Here)
    }

    /// Whether the last table gives an actor to this sidecar, whoever has it.
    pub fn is_ours(&self, actor: &ActorId) -> bool {
        let rings = Arc::clone(&self.state.lock().rings);
        owner_address(&rings, actor).is_some_and(|address| is_own(address, &self.own))
    }

    /// Whether this sidecar is in no table any more.
    pub fn is_left(&self) -> bool {
        let state = self.state.lock();
        let mut hosts = state.rings.values().flat_map(|ring| ring.hosts());
        state.before.is_none() && !hosts.any(|host| is_own(&host.address, &self.own))
    }

    /// Waits until it is known where an actor lives.
    ///
    /// # Errors
    /// [`Error::Disseminating`] where that takes too long.
    pub async fn owner(&self, actor: &ActorId) -> Result<Owner, Error> {
        // Nearly always it is known: nobody has to be told then.
        if let Some(owner) = self.look_up(actor) {
            return Ok(owner);
        }
        let mut changes = self.changes();
        let found = async {
            loop {
                changes.mark_unchanged();
                if let Some(owner) = self.look_up(actor) {
                    return owner;
                }
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let found = timeout(LONGEST_WAIT, found).await;
        found.map_err(|_| Error::Disseminating)
    }
}

fn owner<'r>(rings: &'r Rings, actor: &ActorId) -> Option<&'r Host> {
    rings.get(&actor.kind)?.owner(&actor.id)
}

fn owner_address<'r>(rings: &'r Rings, actor: &ActorId) -> Option<&'r String> {
    owner(rings, actor).map(|host| &host.address)
}

/// A sidecar on a machine of its own may be known by any of the names of that machine.
fn is_own(address: &str, own: &str) -> bool {
    if address == own {
        return true;
    }
    let (Some((host, port)), Some((own_host, own_port))) =
        (address.rsplit_once(':'), own.rsplit_once(':'))
    else {
        return false;
    };
    port == own_port && is_loopback(host) && is_loopback(own_host)
}

fn is_loopback(host: &str) -> bool {
    ["localhost", "127.0.0.1", "[::1]", "::1"].contains(&host)
}

/// How long a caller may wait for placement.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use placement_table::Ring;

    use super::*;

    fn rings(hosts: &[&str]) -> Rings {
        let hosts = hosts.iter().map(|address| Host {
            address: (*address).to_owned(),
            app_id: "app".to_owned(),
        });
        Rings::from([("kind".to_owned(), Ring::new(hosts, 100))])
    }

    fn actors() -> Vec<ActorId> {
        let actor = |id: u32| ActorId {
            kind: "kind".to_owned(),
            id: id.to_string(),
        };
        (0..100).map(actor).collect()
    }

    #[test]
    fn only_actors_that_move_wait() {
        let directory = Directory::new("127.0.0.1:1".to_owned());
        let all = actors();
        assert!(all.iter().all(|actor| directory.look_up(actor).is_none()));
        directory.install(rings(&["127.0.0.1:1"]));
        assert!(all.iter().all(|actor| directory.look_up(actor).is_none()));
        directory.settle();
        assert!(
            all.iter()
                .all(|actor| directory.look_up(actor) == Some(Owner::Here))
        );
        directory.install(rings(&["127.0.0.1:1", "127.0.0.1:2"]));
        let waiting = all
            .iter()
            .filter(|it| directory.look_up(it).is_none())
            .count();
        assert!((20..80).contains(&waiting), "{waiting}");
        for actor in &all {
            assert_eq!(directory.is_ours(actor), directory.look_up(actor).is_some());
        }
        // A second table before anybody was released takes them back.
        directory.install(rings(&["127.0.0.1:1"]));
        assert!(
            all.iter()
                .all(|actor| directory.look_up(actor) == Some(Owner::Here))
        );
        directory.settle();
        directory.clear();
        assert!(all.iter().all(|actor| directory.look_up(actor).is_none()));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_hears_and_does_not_wait_for_ever() {
        let directory = Directory::new("localhost:1".to_owned());
        let actor = &actors()[0];
        let answer = directory.owner(actor).await;
        assert!(matches!(answer, Err(Error::Disseminating)));
        let release = async {
            directory.install(rings(&["127.0.0.1:1"]));
            directory.settle();
        };
        let (answer, ()) = tokio::join!(directory.owner(actor), release);
        assert_eq!(answer.unwrap(), Owner::Here);
        let nobody = ActorId {
            kind: "other".to_owned(),
            id: "1".to_owned(),
        };
        assert_eq!(directory.owner(&nobody).await.unwrap(), Owner::Nobody);
    }
}
