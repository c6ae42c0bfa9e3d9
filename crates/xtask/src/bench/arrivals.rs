//! When events arrive at the app, counted from when they were to be published: the time is written into the event.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::process::pause;
use super::samples::Samples;

/// Where an event has its time: nanoseconds since the beginning. As it is here, the event is in no figure.
pub(super) const STAMP: &str = "@00000000000000000000";

/// The arrivals of a phase. Clones are the same.
#[derive(Clone)]
pub(super) struct Arrivals {
    beginning: Instant,
    latencies: Arc<Mutex<Vec<Duration>>>,
}

impl Default for Arrivals {
    fn default() -> Self {
        Arrivals {
            beginning: Instant::now(),
            latencies: Arc::default(),
        }
    }
}

impl Arrivals {
    /// What an event has in place of [`STAMP`].
    pub fn stamp(&self, time: Instant) -> String {
        let nanos = time.saturating_duration_since(self.beginning).as_nanos();
        format!("@{nanos:0width$}", width = STAMP.len() - 1)
    }

    /// Notes that an event arrived, now.
    pub fn note(&self, event: &[u8]) {
        let now = self.beginning.elapsed();
        if let Some(published) = time(event).filter(|time| !time.is_zero()) {
            let mut latencies = self
                .latencies
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            latencies.push(now.saturating_sub(published));
        }
    }

    /// Takes what arrived, once it is as many as expected, or they are no longer to be waited for.
    pub fn take(&self, expected: usize, patience: Duration) -> Samples {
        let end = Instant::now() + patience;
        loop {
            let mut latencies = self
                .latencies
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if latencies.len() >= expected || Instant::now() > end {
                let arrived = std::mem::take(&mut *latencies);
                let missing = expected.saturating_sub(arrived.len());
                return Samples::new(arrived, u64::try_from(missing).unwrap_or(u64::MAX));
            }
            drop(latencies);
            pause(Duration::from_millis(1));
        }
    }
}

fn time(event: &[u8]) -> Option<Duration> {
    let digits = event
        .windows(STAMP.len())
        .find(|window| window[0] == b'@' && window[1..].iter().all(u8::is_ascii_digit))?;
    let nanos = std::str::from_utf8(&digits[1..]).ok()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_carry_their_time() {
        let arrivals = Arrivals::default();
        let stamp = arrivals.stamp(arrivals.beginning + Duration::from_nanos(12_345));
        assert_eq!(stamp.len(), STAMP.len());
        let event = format!("{{\"source\":\"@1\",\"data\":\"{stamp}xx\"}}");
        assert_eq!(time(event.as_bytes()), Some(Duration::from_nanos(12_345)));
        arrivals.note(event.as_bytes());
        arrivals.note(STAMP.as_bytes());
        arrivals.note(b"");
        let samples = arrivals.take(2, Duration::ZERO);
        assert_eq!((samples.len(), samples.failures), (1, 1));
        assert_eq!(arrivals.take(0, Duration::ZERO).len(), 0);
    }
}
