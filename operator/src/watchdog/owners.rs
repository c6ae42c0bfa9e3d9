//! Whether evictions are of use, without I/O. Of an owner one pod goes at a time, and the next one only once the pod that came
//! for it has a sidecar and is ready. When what comes has none either, something else is wrong (a selector of the webhook, a
//! requester that the injector refuses), and more evictions would only do harm, also later: nothing that time alone mends.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

/// How long a pod may take to come for one that was evicted, and to be ready.
pub const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Owners that are remembered. Of those that come on top nothing is evicted.
pub const MOST_OWNERS: usize = 10_000;

/// Whether a pod of an owner may be evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Evict,
    /// Not yet: another pod of it is being replaced.
    Wait,
    /// No: what comes back has no sidecar, or does not come.
    Keep,
}

/// The owners whose pods were evicted and have not been replaced by better ones.
#[derive(Debug, Default)]
pub struct Owners {
    owners: HashMap<String, State>,
    /// The suspects of this round, by owner.
    suspects: HashMap<String, HashSet<String>>,
}

#[derive(Debug)]
enum State {
    Waiting(Waiting),
    GivenUp,
}

/// A pod was evicted, and another one has to come.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub namespace: String,
    /// The pods with a sidecar that the owner had before.
    pub before: HashSet<String>,
    /// Its pods without one that were there before.
    suspects: HashSet<String>,
    since: Instant,
}

impl Owners {
    /// Begins a round: `suspects` are owners and pods without a sidecar.
    pub fn round<'a>(&mut self, suspects: impl Iterator<Item = (&'a str, &'a str)>, now: Instant) {
        self.suspects.clear();
        for (owner, pod) in suspects {
            let pods = self.suspects.entry(owner.to_owned()).or_default();
            pods.insert(pod.to_owned());
        }
        for (name, state) in &mut self.owners {
            let State::Waiting(waiting) = state else {
                continue;
            };
            let mut pods = self.suspects.get(name).into_iter().flatten();
            let comes_back = pods.any(|pod| !waiting.suspects.contains(pod));
            if comes_back || now.saturating_duration_since(waiting.since) >= PATIENCE {
                *state = State::GivenUp;
            }
        }
        if self.owners.len() >= MOST_OWNERS {
            let suspects = &self.suspects;
            self.owners.retain(|name, state| {
                matches!(state, State::Waiting(_)) || suspects.contains_key(name)
            });
        }
    }

    /// Whether a pod of this owner may be evicted.
    pub fn verdict(&self, owner: &str) -> Verdict {
        match self.owners.get(owner) {
            Some(State::Waiting(_)) => Verdict::Wait,
            None if self.owners.len() < MOST_OWNERS => Verdict::Evict,
            _ => Verdict::Keep,
        }
    }

    /// A pod of this owner was evicted; `before` are those of its pods that have a sidecar.
    pub fn evicted(&mut self, owner: &str, namespace: &str, before: HashSet<String>, now: Instant) {
        let waiting = Waiting {
            namespace: namespace.to_owned(),
            before,
            suspects: self.suspects.get(owner).cloned().unwrap_or_default(),
            since: now,
        };
        self.owners
            .insert(owner.to_owned(), State::Waiting(waiting));
    }

    /// The owners that have to bring a pod for one that was evicted.
    pub fn waiting(&self) -> HashMap<String, Waiting> {
        let waiting = |(owner, state): (&String, &State)| match state {
            State::Waiting(waiting) => Some((owner.clone(), waiting.clone())),
            State::GivenUp => None,
        };
        self.owners.iter().filter_map(waiting).collect()
    }

    /// A pod with a sidecar has come.
    pub fn replaced(&mut self, owner: &str) {
        self.owners.remove(owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evicted(owners: &mut Owners, now: Instant) {
        owners.evicted("set", "n", HashSet::new(), now);
    }

    #[test]
    fn the_next_pod_goes_when_another_one_has_come_for_the_first() {
        let (mut owners, now) = (Owners::default(), Instant::now());
        let suspects = [("set", "a"), ("set", "b"), ("other", "x")];
        owners.round(suspects.into_iter(), now);
        evicted(&mut owners, now);
        for _ in 0..2 {
            assert_eq!(owners.verdict("set"), Verdict::Wait);
            assert_eq!(owners.verdict("other"), Verdict::Evict);
            owners.round([("set", "b"), ("other", "x")].into_iter(), now);
        }
        assert_eq!(owners.waiting().len(), 1);
        owners.replaced("set");
        assert_eq!(owners.verdict("set"), Verdict::Evict);
    }

    #[test]
    fn an_owner_whose_pods_come_back_without_or_not_at_all_is_left_alone() {
        let now = Instant::now();
        for (again, later) in [(Some(("set", "c")), now), (None, now + PATIENCE)] {
            let mut owners = Owners::default();
            owners.round([("set", "a")].into_iter(), now);
            evicted(&mut owners, now);
            owners.round(again.into_iter(), later);
            assert_eq!(owners.verdict("set"), Verdict::Keep);
            owners.round([].into_iter(), later);
            let day = Duration::from_secs(24 * 60 * 60);
            owners.round([("set", "d")].into_iter(), later + day);
            assert_eq!(owners.verdict("set"), Verdict::Keep);
        }
    }

    #[test]
    fn what_is_remembered_is_limited() {
        let (mut owners, now) = (Owners::default(), Instant::now());
        let evict = |owners: &mut Owners, name: &str| {
            owners.evicted(name, "n", HashSet::new(), now);
        };
        for count in 0..MOST_OWNERS {
            evict(&mut owners, &count.to_string());
        }
        assert_eq!(owners.verdict("another"), Verdict::Keep);
        owners.round([("7", "a")].into_iter(), now + PATIENCE);
        assert_eq!(owners.owners.len(), 1, "those without pods are forgotten");
        assert_eq!(owners.verdict("another"), Verdict::Evict);
    }
}
