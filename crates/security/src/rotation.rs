//! When to renew the workload certificate: time in, decision out (contract 6.4).
//!
//! Life is counted from the arrival of a certificate, not from the begin of its validity: that lies in the past by as much as
//! clocks may differ, and where this is more than the certificate's life, every renewal would be due at once. Q-renewal

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Longest sleep between two looks at the clock, so that a suspended machine or a changed clock is noticed.
const CHECK: Duration = Duration::from_secs(60);
/// Pause after a failed renewal.
const RETRY: Duration = Duration::from_secs(10);
/// First pause after a failure to get the first certificate; it doubles up to `STARTING_RETRY`. Shorter than
/// `RETRY`, since nothing works before, and programs are often started before Sentry.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const STARTING_RETRY: Duration = Duration::from_secs(2);
/// A certificate is renewed when this part of its life has passed.
const RENEW_AT: i32 = 2;
/// Renewals come earlier by up to this part of the pause before them: sidecars that began together do not go on together.
const EARLIER: f64 = 0.1;
/// Pauses after failures get longer by up to this part, for the same reason.
const LATER: f64 = 0.5;
/// Shortest pause between two renewals that succeed.
const SHORTEST: Duration = Duration::from_secs(1);

/// What the owner of a [`Rotation`] has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask for a certificate, then report with [`Rotation::renewed`] or [`Rotation::failed`].
    Renew,
    /// Ask again after this time, at most a minute.
    Wait(Duration),
}

/// The timing of one workload certificate.
#[derive(Debug)]
pub struct Rotation {
    due: Timestamp,
    /// Failures in a row before the first certificate; none once there was one.
    starting: Option<u32>,
}

impl Default for Rotation {
    fn default() -> Self {
        Self::new()
    }
}

impl Rotation {
    /// Without a certificate: the first one is due at once.
    #[must_use]
    pub fn new() -> Self {
        Self {
            due: Timestamp::MIN,
            starting: Some(0),
        }
    }

    /// What to do at `now`.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Effect {
        match Duration::try_from(self.due.duration_since(now)) {
            Ok(left) if !left.is_zero() => Effect::Wait(left.min(CHECK)),
            _ => Effect::Renew,
        }
    }

    /// A certificate arrived, valid between the two; `not_after` is the earlier of certificate and JWT. `chance` is
    /// between 0 and 1.
    pub fn renewed(
        &mut self,
        now: Timestamp,
        not_before: Timestamp,
        not_after: Timestamp,
        chance: f64,
    ) {
        // Where this clock is behind, what is left seems to be more than there ever was.
        let life = not_after.duration_since(not_before.max(now));
        self.starting = None;
        self.due = match Duration::try_from(life / RENEW_AT) {
            Ok(half) if !half.is_zero() => {
                later(now, half.mul_f64(1.0 - EARLIER * chance).max(SHORTEST))
            }
            // It is over by this clock, and asking in a loop would not make it better.
            _ => later(now, RETRY.mul_f64(1.0 + LATER * chance)),
        };
    }

    /// The request failed. `chance` is between 0 and 1.
    pub fn failed(&mut self, now: Timestamp, chance: f64) {
        let pause = match &mut self.starting {
            None => RETRY,
            Some(failures) => {
                let pause = FIRST_RETRY
                    .saturating_mul(1 << (*failures).min(10))
                    .min(STARTING_RETRY);
                *failures += 1;
                pause
            }
        };
        self.due = later(now, pause.mul_f64(1.0 + LATER * chance));
    }

    /// Renew now, whatever the certificate says.
    pub fn force(&mut self) {
        self.due = Timestamp::MIN;
    }

    /// When the next renewal is due.
    #[must_use]
    pub fn due(&self) -> Timestamp {
        self.due
    }
}

fn later(now: Timestamp, pause: Duration) -> Timestamp {
    let pause = SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX);
    now.checked_add(pause).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    #[test]
    fn renews_at_half_life_and_looks_each_minute() {
        let mut rotation = Rotation::new();
        assert_eq!(rotation.next(at(0)), Effect::Renew);
        rotation.renewed(at(0), at(-900), at(86_400), 0.0);
        assert_eq!(rotation.due(), at(43_200));
        assert_eq!(rotation.next(at(0)), Effect::Wait(Duration::from_secs(60)));
        assert_eq!(
            rotation.next(at(43_190)),
            Effect::Wait(Duration::from_secs(10))
        );
        assert_eq!(rotation.next(at(43_200)), Effect::Renew);
        rotation.failed(at(43_200), 0.0);
        assert_eq!(
            rotation.next(at(43_200)),
            Effect::Wait(Duration::from_secs(10))
        );
        assert_eq!(rotation.next(at(43_210)), Effect::Renew);
    }

    #[test]
    fn the_first_certificate_is_asked_for_more_eagerly() {
        let mut rotation = Rotation::new();
        let mut pauses = Vec::new();
        for _ in 0..5 {
            rotation.failed(at(0), 0.0);
            let Effect::Wait(pause) = rotation.next(at(0)) else {
                panic!("a pause")
            };
            pauses.push(u64::try_from(pause.as_millis()).unwrap());
        }
        assert_eq!(pauses, [250, 500, 1000, 2000, 2000]);
        rotation.force();
        assert_eq!(rotation.next(at(0)), Effect::Renew);
    }

    #[test]
    fn life_counts_from_the_arrival() {
        let due = |not_before: i64, not_after: i64, chance: f64| {
            let mut rotation = Rotation::new();
            rotation.renewed(at(0), at(not_before), at(not_after), chance);
            rotation.due().duration_since(at(0)).as_secs()
        };
        // Ten minutes of life, a quarter of an hour between clocks.
        assert_eq!(due(-900, 600, 0.0), 300);
        assert_eq!(due(-1000, 10, 0.0), 5);
        // This clock is ten minutes behind, or past the end.
        assert_eq!(due(600, 4200, 0.0), 1800);
        assert_eq!(due(-1000, -10, 0.0), 10);
        // Not all at once.
        assert_eq!(due(-900, 7200, 1.0), 3240);
        assert_eq!(due(-1000, -10, 1.0), 15);
        assert_eq!(due(-900, 1, 1.0), 1);
    }
}
