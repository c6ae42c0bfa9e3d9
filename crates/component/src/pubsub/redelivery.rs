//! Who delivers a message again when the app wants it again, and when.

use std::time::Duration;

/// Who delivers a message again. A property of the subscription, which its broker states when it opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redelivery {
    /// Nobody: the broker has forgotten the message when it hands it over, or keeps it where nobody gets at it.
    Never,
    /// Nobody, once the broker is told: it keeps the message until then, and with any outcome but [`super::Outcome::Ok`] it
    /// rejects it for good, or dead-letters it. Released, it comes again.
    Reject,
    /// The broker, once it is told [`super::Outcome::Retry`]. A broker that would send the message again at once has the
    /// runtime wait before it says so, by the count of [`super::Delivery::attempt`].
    Broker(Backoff),
    /// The runtime: the broker cannot take a message back (a partition, a session). The message stays under way, the ones
    /// of its order key wait, and it is delivered again after a pause. When the attempts are used up it is dropped; when
    /// the subscription ends before that, it is released.
    InPlace(Backoff),
}

/// Pauses before further attempts: doubled each time, up to the longest. Each message begins with the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The pause after the first attempt.
    pub first: Duration,
    /// No pause is longer.
    pub longest: Duration,
    /// How often a message is delivered in all, the first attempt included; `None` for as long as it takes.
    pub attempts: Option<u32>,
}

impl Backoff {
    /// Again at once, for as long as it takes: for brokers that pause by themselves.
    pub const NONE: Self = Self {
        first: Duration::ZERO,
        longest: Duration::ZERO,
        attempts: None,
    };

    /// For brokers that leave it to us and whose metadata say nothing.
    pub const DEFAULT: Self = Self {
        first: Duration::from_millis(100),
        longest: Duration::from_secs(30),
        attempts: None,
    };

    /// The same pause each time, for as long as it takes.
    pub const fn constant(pause: Duration) -> Self {
        Self {
            first: pause,
            longest: pause,
            attempts: None,
        }
    }

    /// How long to wait after the attempt of that number, counted from 1; `None` where it was the last.
    pub fn pause_after(&self, attempt: u32) -> Option<Duration> {
        if self.attempts.is_some_and(|most| attempt >= most) {
            return None;
        }
        let doublings = attempt.saturating_sub(1).min(u32::BITS - 1);
        Some(self.first.saturating_mul(1 << doublings).min(self.longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_attempts_end() {
        let second = Duration::from_secs(1);
        let backoff = Backoff {
            first: second,
            longest: second * 3,
            attempts: Some(4),
        };
        let pauses: Vec<_> = (1..=5)
            .map(|attempt| backoff.pause_after(attempt))
            .collect();
        assert_eq!(
            pauses,
            [Some(second), Some(second * 2), Some(second * 3), None, None]
        );
        assert_eq!(
            Backoff::constant(second).pause_after(u32::MAX),
            Some(second)
        );
        assert_eq!(Backoff::NONE.pause_after(7), Some(Duration::ZERO));
    }
}
