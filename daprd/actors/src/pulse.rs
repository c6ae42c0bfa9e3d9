//! Whether this sidecar has been running. Placement takes the actors of a host that does not answer for a while, and gives them
//! to others: a process that was stopped for so long, and goes on, must not go on with its actors. Q-actor-paused

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep};

/// Beats while the process runs.
pub struct Pulse {
    began: Instant,
    /// Milliseconds since then.
    last: AtomicU64,
    /// A beat came late, and what was known before it is not yet given up.
    missed: AtomicBool,
}

impl Pulse {
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            last: AtomicU64::new(0),
            missed: AtomicBool::new(false),
        }
    }

    /// Whether nothing was missed: else this sidecar may hold nothing until it has heard of placement again.
    pub fn is_steady(&self) -> bool {
        !self.missed.load(Ordering::Acquire) && self.gap() <= LONGEST_GAP
    }

    /// Beats until one comes late, and says how late.
    pub async fn missed(&self) -> Duration {
        loop {
            let gap = self.gap();
            if gap > LONGEST_GAP {
                self.missed.store(true, Ordering::Release);
            }
            self.beat();
            if self.missed.load(Ordering::Acquire) {
                return gap;
            }
            sleep(BEAT).await;
        }
    }

    /// What was known before is given up.
    pub fn recovered(&self) {
        self.beat();
        self.missed.store(false, Ordering::Release);
    }

    fn beat(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    fn gap(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(last)
    }
}

/// Between two beats.
const BEAT: Duration = Duration::from_millis(250);

/// A longer pause counts: placement waits three seconds for a sign of life, unless it is told otherwise.
const LONGEST_GAP: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::time::{advance, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_noticed_at_once_and_until_it_is_dealt_with() {
        let pulse = Pulse::new();
        pulse.recovered();
        assert!(
            timeout(Duration::from_secs(60), pulse.missed())
                .await
                .is_err()
        );
        assert!(pulse.is_steady());
        advance(LONGEST_GAP * 2).await;
        assert!(!pulse.is_steady(), "before any task has noticed");
        let gap = pulse.missed().now_or_never();
        assert!(gap.is_some_and(|gap| gap >= LONGEST_GAP * 2));
        assert!(!pulse.is_steady(), "what was known is not given up");
        pulse.recovered();
        assert!(pulse.is_steady());
        assert_eq!(pulse.missed().now_or_never(), None);
    }
}
