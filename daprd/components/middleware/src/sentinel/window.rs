//! Counts of what happened in the last while, in slices that are forgotten one by one.

use std::time::Duration;

use tokio::time::Instant;

/// Slices of a window.
const SLICES: usize = 10;

/// What is counted of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Count {
    /// All of them.
    pub all: u64,
    /// Those that a rule is about: too slow, or failed.
    pub bad: u64,
    /// Milliseconds that they took together.
    pub took: f64,
}

/// Counts in a while.
pub struct Window {
    slice: Duration,
    began: Instant,
    /// Number of the slice that was written last, since the window began.
    last: u64,
    counts: [Count; SLICES],
}

impl Window {
    /// An empty one that looks back so far.
    pub fn new(length: Duration) -> Self {
        Self {
            slice: (length / SLICES as u32).max(Duration::from_nanos(1)),
            began: Instant::now(),
            last: 0,
            counts: [Count::default(); SLICES],
        }
    }

    /// What happened since so long ago.
    pub fn sum(&mut self, now: Instant) -> Count {
        self.forget(now);
        let add = |sum: Count, one: &Count| Count {
            all: sum.all + one.all,
            bad: sum.bad + one.bad,
            took: sum.took + one.took,
        };
        self.counts.iter().fold(Count::default(), add)
    }

    /// One more.
    pub fn add(&mut self, now: Instant, bad: bool, took: Duration) {
        let slice = self.forget(now);
        let count = &mut self.counts[slice];
        count.all += 1;
        count.bad += u64::from(bad);
        count.took += took.as_secs_f64() * 1000.0;
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        self.counts = [Count::default(); SLICES];
    }

    fn forget(&mut self, now: Instant) -> usize {
        let passed = now.saturating_duration_since(self.began).as_nanos() / self.slice.as_nanos();
        let number = u64::try_from(passed).unwrap_or(u64::MAX).max(self.last);
        let slices = SLICES as u64;
        for old in (self.last + 1..=number).rev().take(SLICES) {
            self.counts[(old % slices) as usize] = Count::default();
        }
        self.last = number;
        (number % slices) as usize
    }
}
