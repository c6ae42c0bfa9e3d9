//! How long placement may say nothing. Its server pings a quiet stream every few seconds, two unless it is told otherwise, and
//! gives a host up that does not answer: whoever is not pinged any more has no actors soon. Q-actor-silence

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use transport::Heard;

/// What a stream may keep silent.
pub struct Silence {
    /// How far two pings are apart, as far as is known; none where placement seems not to ping at all.
    apart: Option<Duration>,
    /// The last stream was broken off.
    before: bool,
}

impl Silence {
    pub fn new() -> Self {
        Self {
            apart: Some(PINGS_APART),
            before: false,
        }
    }

    /// Waits until nothing has come in for too long.
    pub async fn broken(&self, heard: &Heard) {
        let Some(limit) = self.limit() else {
            return std::future::pending().await;
        };
        loop {
            let end = heard.last() + limit;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }

    fn limit(&self) -> Option<Duration> {
        // Less than placement waits for an answer, which is a second at least.
        self.apart.map(|apart| apart + apart / 4 + LATE)
    }

    /// A stream has ended, because it was silent for too long or for another reason. Where two in a row are silent, and nothing
    /// is wrong between them, pings are farther apart.
    pub fn ended(&mut self, silent: bool) {
        if silent && self.before {
            self.apart = self.apart.map(|apart| apart * 2);
            self.apart = self.apart.filter(|apart| *apart <= FARTHEST);
            if self.apart.is_none() {
                tracing::warn!(
                    "placement does not ping its hosts: a dead line to it is noticed late"
                );
            }
        }
        self.before = silent;
    }
}

/// Placement's default.
const PINGS_APART: Duration = Duration::from_secs(2);

/// Twice what can be asked of placement.
const FARTHEST: Duration = Duration::from_secs(20);

const LATE: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_is_noticed_before_placement_gives_a_host_up() {
        let (silence, heard) = (Silence::new(), Heard::default());
        for _ in 0..5 {
            let quiet = timeout(PINGS_APART, silence.broken(&heard)).await;
            assert!(quiet.is_err());
            heard.note();
        }
        let began = Instant::now();
        silence.broken(&heard).await;
        assert!(began.elapsed() < Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn pings_may_be_far_apart_or_none() {
        let (mut silence, heard) = (Silence::new(), Heard::default());
        for _ in 0..3 {
            // A line that was cut, and could not be opened again at once.
            silence.ended(true);
            silence.ended(false);
        }
        silence.ended(true);
        for limit in [2800, 5300, 10_300, 20_300] {
            assert_eq!(silence.limit(), Some(Duration::from_millis(limit)));
            silence.ended(true);
        }
        assert_eq!(silence.limit(), None);
        advance(Duration::from_secs(600)).await;
        let quiet = timeout(Duration::from_secs(600), silence.broken(&heard)).await;
        assert!(quiet.is_err());
    }
}
