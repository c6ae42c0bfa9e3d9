//! What a worker keeps of the histories it was sent, as far as its sidecar knows. A worker that has less asks for the rest.

use std::collections::HashMap;

/// The past of an instance at a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// The run that the events are of: another one begins with nothing.
    pub execution: String,
    /// How many there are.
    pub events: usize,
}

/// The pasts that one worker has, by instance.
#[derive(Default)]
pub struct Warm(HashMap<String, Past>);

impl Warm {
    pub fn has(&self, instance: &str) -> bool {
        self.0.contains_key(instance)
    }

    /// The worker is sent a turn: how many events of its past it has from before.
    pub fn sent(&mut self, instance: &str, past: Past) -> usize {
        let known = self
            .0
            .get(instance)
            .filter(|known| known.execution == past.execution && known.events <= past.events)
            .map_or(0, |known| known.events);
        if self.0.len() >= MOST && !self.has(instance) {
            // Any will do: it costs its instance one whole history.
            if let Some(other) = self.0.keys().next().cloned() {
                self.0.remove(&other);
            }
        }
        self.0.insert(instance.to_owned(), past);
        known
    }

    pub fn forget(&mut self, instance: &str) {
        self.0.remove(instance);
    }
}

/// Most instances that are kept in mind for a worker.
const MOST: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn past(execution: &str, events: usize) -> Past {
        Past {
            execution: execution.to_owned(),
            events,
        }
    }

    #[test]
    fn a_past_grows_within_a_run_and_begins_anew_with_another() {
        let mut warm = Warm::default();
        assert_eq!(warm.sent("a", past("1", 3)), 0);
        assert_eq!(warm.sent("a", past("1", 5)), 3);
        assert_eq!(warm.sent("a", past("1", 5)), 5);
        assert_eq!(warm.sent("a", past("2", 9)), 0, "another run");
        assert_eq!(
            warm.sent("a", past("2", 4)),
            0,
            "shorter than what was known"
        );
        assert_eq!(warm.sent("b", past("2", 4)), 0);
        warm.forget("a");
        assert_eq!(warm.sent("a", past("2", 4)), 0);
    }

    #[test]
    fn only_so_many_are_kept_in_mind() {
        let mut warm = Warm::default();
        for n in 0..MOST + 10 {
            warm.sent(&n.to_string(), past("1", 1));
        }
        assert_eq!(warm.0.len(), MOST);
        assert!(warm.has(&(MOST + 9).to_string()), "the newest is kept");
    }
}
