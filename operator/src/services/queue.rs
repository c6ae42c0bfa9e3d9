//! Which Service to look at next, without I/O: one at a time each, a limited number altogether, and failures again after a
//! growing pause.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use kubernetes::Key;
use tokio::time::Instant;

/// Services that are looked at at the same time (contract 5.2).
pub const MOST_RUNNING: usize = 100;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// The work to do.
#[derive(Debug, Default)]
pub struct Queue {
    /// By time, so that the first is the next.
    due: BTreeSet<(Instant, Key)>,
    when: HashMap<Key, Instant>,
    running: HashSet<Key>,
    /// Asked for while running: to be looked at again.
    stale: HashSet<Key>,
    failures: HashMap<Key, u32>,
}

impl Queue {
    /// Asks for a Service to be looked at.
    pub fn offer(&mut self, key: Key, now: Instant) {
        if self.running.contains(&key) {
            self.stale.insert(key);
        } else {
            self.schedule(key, now);
        }
    }

    /// The next Service to look at now; [`Queue::done`] has to follow.
    pub fn take(&mut self, now: Instant) -> Option<Key> {
        if self.running.len() >= MOST_RUNNING {
            return None;
        }
        let (when, key) = self.due.first()?;
        if *when > now {
            return None;
        }
        let key = key.clone();
        self.due.pop_first();
        self.when.remove(&key);
        self.running.insert(key.clone());
        Some(key)
    }

    /// Takes in how it went.
    pub fn done(&mut self, key: Key, success: bool, now: Instant) {
        self.running.remove(&key);
        let stale = self.stale.remove(&key);
        if success {
            self.failures.remove(&key);
            if stale {
                self.schedule(key, now);
            }
            return;
        }
        let failures = self.failures.entry(key.clone()).or_default();
        let pause = FIRST_PAUSE * 2_u32.saturating_pow((*failures).min(20));
        *failures = failures.saturating_add(1);
        let pause = if stale {
            Duration::ZERO
        } else {
            pause.min(LONGEST_PAUSE)
        };
        self.schedule(key, now + pause);
    }

    /// When [`Queue::take`] has something next, if nothing else happens.
    pub fn next_due(&self) -> Option<Instant> {
        let (when, _) = self.due.first()?;
        (self.running.len() < MOST_RUNNING).then_some(*when)
    }

    fn schedule(&mut self, key: Key, at: Instant) {
        match self.when.get(&key) {
            Some(&planned) if planned <= at => return,
            Some(&planned) => {
                self.due.remove(&(planned, key.clone()));
            }
            None => {}
        }
        self.when.insert(key.clone(), at);
        self.due.insert((at, key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("n", name)
    }

    #[test]
    fn each_runs_once_at_a_time() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.offer(key("a"), now);
        queue.offer(key("a"), now);
        assert_eq!(queue.take(now), Some(key("a")));
        assert_eq!(queue.take(now), None);
        queue.offer(key("a"), now);
        assert_eq!(queue.take(now), None, "it runs");
        queue.done(key("a"), true, now);
        assert_eq!(
            queue.take(now),
            Some(key("a")),
            "it was asked for meanwhile"
        );
        queue.done(key("a"), true, now);
        assert_eq!((queue.take(now), queue.next_due()), (None, None));
    }

    #[test]
    fn failures_wait_longer_and_longer() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        queue.offer(key("a"), now);
        let mut pauses = Vec::new();
        for _ in 0..14 {
            assert_eq!(queue.take(now), Some(key("a")));
            queue.done(key("a"), false, now);
            let due = queue.next_due().unwrap();
            pauses.push(due - now);
            assert_eq!(queue.take(due - Duration::from_millis(1)), None);
            now = due;
        }
        assert_eq!(pauses[..3], [FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4]);
        assert_eq!(pauses.last(), Some(&LONGEST_PAUSE));
        queue.take(now).unwrap();
        queue.done(key("a"), true, now);
        queue.offer(key("a"), now);
        queue.take(now).unwrap();
        queue.done(key("a"), false, now);
        assert_eq!(
            queue.next_due(),
            Some(now + FIRST_PAUSE),
            "success starts anew"
        );
    }

    #[test]
    fn asking_again_cuts_a_pause_short() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.offer(key("a"), now);
        queue.take(now).unwrap();
        queue.done(key("a"), false, now);
        queue.offer(key("a"), now);
        assert_eq!(queue.take(now), Some(key("a")));
    }

    #[test]
    fn a_limited_number_runs() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for index in 0..=MOST_RUNNING {
            queue.offer(key(&index.to_string()), now);
        }
        let running: Vec<_> = std::iter::from_fn(|| queue.take(now)).collect();
        assert_eq!(running.len(), MOST_RUNNING);
        assert_eq!(queue.next_due(), None);
        queue.done(running[0].clone(), true, now);
        assert!(queue.take(now).is_some());
    }
}
