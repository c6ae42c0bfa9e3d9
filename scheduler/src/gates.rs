//! Limits on how many reminders of an actor type are out at a time, per namespace, and optionally of a name in the type
//! (contract 8.4, concurrency). What finds no room stands in a queue, first come first served.

use std::collections::{HashMap, VecDeque};

use proto::scheduler::v1::{ConcurrencyLimit, concurrency_limit::Target};

use crate::metrics::Metrics;
use crate::ownership::Share;

/// A job that waits: its place, and the revision by which it is known to be the same one.
pub(crate) type Waiter = (u32, u64);

/// All limits.
pub(crate) struct Gates {
    gates: HashMap<String, Gate>,
    /// Which part of each limit is this replica's.
    share: Share,
    metrics: Metrics,
}

struct Gate {
    limit: u32,
    inside: u32,
    waiting: VecDeque<Waiter>,
    /// Streams that asked for the limit.
    askers: u32,
}

/// What came of asking for room.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Inside, of these gates.
    Inside(Vec<String>),
    /// In the queue of the first gate.
    Waits,
    /// The queue is full.
    Full,
}

impl Gates {
    pub fn new(metrics: Metrics) -> Self {
        Self {
            gates: HashMap::new(),
            share: Share { index: 0, total: 1 },
            metrics,
        }
    }

    /// Each limit is divided among the replicas; what is left over is for the first ones, and each has room for one at least.
    pub fn divide(&mut self, share: Share) {
        self.share = share;
    }

    /// Takes over what a stream asks for; what was asked for last counts. Returns what has to be given back with
    /// [`Gates::release`] when the stream ends.
    pub fn ask(&mut self, namespace: &str, limits: &[ConcurrencyLimit]) -> Vec<String> {
        let mut asked = Vec::new();
        for limit in limits {
            let Some(Target::Actor(actor)) = &limit.target else {
                continue;
            };
            let Ok(most @ 1..) = u32::try_from(limit.max_concurrent) else {
                continue;
            };
            let key = key(namespace, &actor.r#type, limit.name.as_deref());
            let gate = self.gates.entry(key.clone()).or_insert_with(|| Gate {
                limit: most,
                inside: 0,
                waiting: VecDeque::new(),
                askers: 0,
            });
            gate.limit = most;
            gate.askers += 1;
            asked.push(key);
        }
        asked
    }

    /// A stream that asked for limits is gone. Returns who waited at gates that nobody asks for any more.
    pub fn release(&mut self, asked: &[String]) -> Vec<Waiter> {
        let mut free = Vec::new();
        for key in asked {
            let Some(gate) = self.gates.get_mut(key) else {
                continue;
            };
            gate.askers -= 1;
            if gate.askers == 0 {
                free.extend(gate.waiting.drain(..));
                self.gates.remove(key);
                self.metrics.pending(shown(key), 0);
            }
        }
        free
    }

    /// Asks for room for a reminder.
    pub fn enter(
        &mut self,
        namespace: &str,
        actor_type: &str,
        name: Option<&str>,
        waiter: Waiter,
    ) -> Entry {
        let keys = self.keys(namespace, actor_type, name);
        let full = keys.iter().find(|key| !self.has_room(key));
        let Some(full) = full else {
            return Entry::Inside(self.go_in(keys));
        };
        let throttled = shown(full).to_owned();
        let first = &keys[0];
        let gate = self.gates.get_mut(first).expect("keys are of gates");
        if gate.waiting.len() >= MAX_WAITING {
            return Entry::Full;
        }
        self.metrics.throttled(&throttled);
        gate.waiting.push_back(waiter);
        self.metrics.pending(shown(first), gate.waiting.len());
        Entry::Waits
    }

    /// Asks again for one that waits, without queueing it.
    pub fn enter_again(
        &mut self,
        namespace: &str,
        actor_type: &str,
        name: Option<&str>,
    ) -> Option<Vec<String>> {
        let keys = self.keys(namespace, actor_type, name);
        keys.iter()
            .all(|key| self.has_room(key))
            .then(|| self.go_in(keys))
    }

    /// One is out again.
    pub fn leave(&mut self, key: &str) {
        if let Some(gate) = self.gates.get_mut(key) {
            gate.inside = gate.inside.saturating_sub(1);
            self.metrics.inflight(shown(key), gate.inside);
        }
    }

    /// Takes the queue of a gate, to be given back by [`Gates::put_back`].
    pub fn take_waiting(&mut self, key: &str) -> VecDeque<Waiter> {
        let gate = self.gates.get_mut(key);
        gate.map(|gate| std::mem::take(&mut gate.waiting))
            .unwrap_or_default()
    }

    /// Those who still wait, in their order.
    pub fn put_back(&mut self, key: &str, mut waiting: VecDeque<Waiter>) {
        if let Some(gate) = self.gates.get_mut(key) {
            waiting.append(&mut gate.waiting);
            gate.waiting = waiting;
            self.metrics.pending(shown(key), gate.waiting.len());
        }
    }

    /// The gates at which somebody waits.
    pub fn crowded(&self) -> Vec<String> {
        let crowded = self
            .gates
            .iter()
            .filter(|(_, gate)| !gate.waiting.is_empty());
        crowded.map(|(key, _)| key.clone()).collect()
    }

    fn keys(&self, namespace: &str, actor_type: &str, name: Option<&str>) -> Vec<String> {
        if self.gates.is_empty() {
            return Vec::new();
        }
        let named = name.map(|name| key(namespace, actor_type, Some(name)));
        let keys = [Some(key(namespace, actor_type, None)), named];
        let keys = keys.into_iter().flatten();
        keys.filter(|key| self.gates.contains_key(key)).collect()
    }

    pub fn has_room(&self, key: &str) -> bool {
        let gate = self.gates.get(key);
        gate.is_none_or(|gate| gate.inside < self.part(gate.limit))
    }

    fn part(&self, limit: u32) -> u32 {
        let Share { index, total } = self.share;
        let (each, left) = (u64::from(limit) / total, u64::from(limit) % total);
        let part = each + u64::from(index < left);
        u32::try_from(part).unwrap_or(limit).max(1)
    }

    fn go_in(&mut self, keys: Vec<String>) -> Vec<String> {
        for key in &keys {
            if let Some(gate) = self.gates.get_mut(key) {
                gate.inside += 1;
                self.metrics.inflight(shown(key), gate.inside);
            }
        }
        keys
    }
}

fn key(namespace: &str, actor_type: &str, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("{namespace}||{actor_type}:{name}"),
        None => format!("{namespace}||{actor_type}"),
    }
}

/// Metrics do not name the namespace.
fn shown(key: &str) -> &str {
    key.split_once("||").map_or(key, |(_, key)| key)
}

/// Reminders that wait at one gate, some of which may have been deleted meanwhile; what comes due beyond looks again later.
pub(crate) const MAX_WAITING: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;
    use proto::scheduler::v1::ConcurrencyLimitActor;

    fn limit(kind: &str, name: Option<&str>, most: i32) -> ConcurrencyLimit {
        ConcurrencyLimit {
            max_concurrent: most,
            name: name.map(str::to_owned),
            target: Some(Target::Actor(ConcurrencyLimitActor {
                r#type: kind.to_owned(),
            })),
        }
    }

    #[test]
    fn a_name_needs_room_at_both_gates() {
        let mut gates = Gates::new(Metrics::detached());
        let asked = gates.ask("ns", &[limit("t", None, 2), limit("t", Some("n"), 1)]);
        let both = Entry::Inside(vec!["ns||t".to_owned(), "ns||t:n".to_owned()]);
        assert_eq!(gates.enter("ns", "t", Some("n"), (1, 1)), both);
        assert_eq!(gates.enter("ns", "t", Some("n"), (2, 2)), Entry::Waits);
        assert_eq!(
            gates.enter("ns", "t", None, (3, 3)),
            Entry::Inside(vec!["ns||t".to_owned()])
        );
        assert_eq!(gates.enter("ns", "t", None, (4, 4)), Entry::Waits);
        gates.leave("ns||t:n");
        assert_eq!(gates.enter_again("ns", "t", Some("n")), None);
        gates.leave("ns||t");
        assert!(gates.enter_again("ns", "t", Some("n")).is_some());
        assert_eq!(gates.crowded(), ["ns||t"]);
        assert_eq!(gates.release(&asked), [(2, 2), (4, 4)]);
        assert_eq!(
            gates.enter("ns", "t", None, (5, 5)),
            Entry::Inside(Vec::new())
        );
    }

    #[test]
    fn replicas_divide_a_limit_and_have_room_for_one_at_least() {
        let parts = |limit, total| {
            let part = |index| {
                let mut gates = Gates::new(Metrics::detached());
                gates.divide(Share { index, total });
                gates.part(limit)
            };
            (0..total).map(part).collect::<Vec<_>>()
        };
        assert_eq!(parts(5, 1), [5]);
        assert_eq!(parts(5, 3), [2, 2, 1]);
        assert_eq!(parts(2, 3), [1, 1, 1]);
    }

    #[test]
    fn another_namespace_has_its_own_room_and_limits_that_are_none_do_not_count() {
        let mut gates = Gates::new(Metrics::detached());
        gates.ask("a", &[limit("t", None, 1), limit("u", None, 0)]);
        assert!(matches!(
            gates.enter("a", "t", None, (1, 1)),
            Entry::Inside(_)
        ));
        assert_eq!(gates.enter("a", "t", None, (2, 2)), Entry::Waits);
        assert_eq!(
            gates.enter("b", "t", None, (3, 3)),
            Entry::Inside(Vec::new())
        );
        assert_eq!(
            gates.enter("a", "u", None, (4, 4)),
            Entry::Inside(Vec::new())
        );
    }
}
