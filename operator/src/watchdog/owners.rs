//! Whether evictions are of use, without I/O: when the pod that an owner makes for an evicted one has no sidecar either,
//! something else is wrong (a selector of the webhook, a requester that the injector refuses), and more evictions
//! would only do harm.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

/// How long an owner is left alone whose pods come back without a sidecar.
pub const GIVE_UP: Duration = Duration::from_secs(60 * 60);

/// The owners whose pods were evicted and that still have pods without a sidecar.
#[derive(Debug, Default)]
pub struct Owners {
    owners: HashMap<String, Owner>,
    /// The suspects of this round, by owner.
    suspects: HashMap<String, HashSet<String>>,
}

#[derive(Debug, Default)]
struct Owner {
    /// Its pods from before the last eviction.
    before: HashSet<String>,
    given_up: Option<Instant>,
}

impl Owners {
    /// Begins a round: `suspects` are owners and pods without a sidecar.
    pub fn round<'a>(&mut self, suspects: impl Iterator<Item = (&'a str, &'a str)>, now: Instant) {
        self.suspects.clear();
        for (owner, pod) in suspects {
            let pods = self.suspects.entry(owner.to_owned()).or_default();
            pods.insert(pod.to_owned());
        }
        let suspects = &self.suspects;
        self.owners.retain(|name, owner| {
            let Some(pods) = suspects.get(name) else {
                return false;
            };
            match owner.given_up {
                Some(since) => now.saturating_duration_since(since) < GIVE_UP,
                None => {
                    let is_new = pods.iter().any(|pod| !owner.before.contains(pod));
                    owner.given_up = is_new.then_some(now);
                    true
                }
            }
        });
    }

    /// Whether a pod of this owner may be evicted.
    pub fn may_evict(&self, owner: &str) -> bool {
        let known = self.owners.get(owner);
        known.is_none_or(|owner| owner.given_up.is_none())
    }

    /// A pod of this owner was evicted.
    pub fn evicted(&mut self, owner: &str) {
        let known = self.owners.entry(owner.to_owned()).or_default();
        let suspects = self.suspects.get(owner).into_iter().flatten();
        known.before.extend(suspects.cloned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_whose_pods_come_back_without_is_left_alone_for_a_while() {
        let (mut owners, now) = (Owners::default(), Instant::now());
        owners.round(
            [("set", "a"), ("set", "b"), ("other", "x")].into_iter(),
            now,
        );
        assert!(owners.may_evict("set"));
        owners.evicted("set");
        assert!(owners.may_evict("set"), "its other pods in the same round");
        owners.round([("set", "b"), ("other", "x")].into_iter(), now);
        assert!(owners.may_evict("set"), "the replacement has a sidecar");
        owners.round([("set", "b"), ("set", "c")].into_iter(), now);
        assert!(!owners.may_evict("set") && owners.may_evict("other"));
        owners.round(
            [("set", "c")].into_iter(),
            now + GIVE_UP - Duration::from_secs(1),
        );
        assert!(!owners.may_evict("set"));
        owners.round([("set", "c")].into_iter(), now + GIVE_UP);
        assert!(owners.may_evict("set"), "another try");
    }

    #[test]
    fn what_is_well_is_forgotten() {
        let (mut owners, now) = (Owners::default(), Instant::now());
        owners.round([("set", "a")].into_iter(), now);
        owners.evicted("set");
        owners.round([].into_iter(), now);
        assert!(owners.owners.is_empty() && owners.suspects.is_empty());
    }
}
