//! The waiting times between attempts, as a pure state machine: constant, or exponential with jitter (contract 10.1).

use std::time::Duration;

use tokio::time::Instant;

/// The shortest wait between two attempts: an endless retry without a delay would occupy a whole core.
/// Q-resiliency-shortest-wait
pub const SHORTEST_DELAY: Duration = Duration::from_millis(1);

/// How the waiting time develops.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Growth {
    /// Always the same delay.
    Constant {
        /// The delay.
        delay: Duration,
    },
    /// Each delay is longer than the one before, up to a limit, and spread at random around its value.
    Exponential {
        /// The first delay, before it is spread.
        initial: Duration,
        /// No delay before spreading is longer than this.
        longest: Duration,
        /// Factor from one delay to the next, at least 1.
        multiplier: f64,
        /// 0.5 spreads a delay of 1 s over 0.5 s to 1.5 s.
        randomization: f64,
        /// No attempt starts later than this after the first one; `None` is no limit.
        max_elapsed: Option<Duration>,
    },
}

impl Growth {
    /// 500 ms growing by half each time, spread by half, for 15 minutes; only the longest delay is up to the resource.
    pub const fn exponential(longest: Duration) -> Self {
        Self::Exponential {
            initial: Duration::from_millis(500),
            longest,
            multiplier: 1.5,
            randomization: 0.5,
            max_elapsed: Some(Duration::from_secs(15 * 60)),
        }
    }
}

/// What a retry policy says about waiting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// How the delay develops.
    pub growth: Growth,
    /// Attempts after the first one; `None` is no limit.
    pub max_retries: Option<u32>,
}

/// The waiting of one call.
#[derive(Debug)]
pub struct Backoff {
    settings: Settings,
    started: Instant,
    retries: u32,
    interval: Duration,
}

impl Backoff {
    /// Begins at `started`, when the first attempt starts.
    pub const fn new(settings: Settings, started: Instant) -> Self {
        let interval = match settings.growth {
            Growth::Constant { delay } => delay,
            Growth::Exponential { initial, .. } => initial,
        };
        Self {
            settings,
            started,
            retries: 0,
            interval,
        }
    }

    /// How long to wait before the next attempt, or `None` to give up. `random` is in 0..1.
    pub fn next(&mut self, now: Instant, random: f64) -> Option<Duration> {
        if self
            .settings
            .max_retries
            .is_some_and(|max| self.retries >= max)
        {
            return None;
        }
        self.retries = self.retries.saturating_add(1);
        match self.settings.growth {
            Growth::Constant { delay } => Some(delay.max(SHORTEST_DELAY)),
            Growth::Exponential {
                longest,
                multiplier,
                randomization,
                max_elapsed,
                ..
            } => {
                let delay = spread(self.interval, randomization, random);
                self.interval = grow(self.interval, multiplier, longest);
                let elapsed = now.saturating_duration_since(self.started);
                if max_elapsed.is_some_and(|limit| elapsed.saturating_add(delay) > limit) {
                    return None;
                }
                Some(delay.max(SHORTEST_DELAY))
            }
        }
    }
}

fn spread(interval: Duration, randomization: f64, random: f64) -> Duration {
    let factor = 1.0 - randomization + 2.0 * randomization * random.clamp(0.0, 1.0);
    scale(interval, factor)
}

fn grow(interval: Duration, multiplier: f64, longest: Duration) -> Duration {
    scale(interval, multiplier).min(longest)
}

fn scale(interval: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(interval.as_secs_f64() * factor.max(0.0)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn millis(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    #[test]
    fn constant_delays_stop_after_the_last_retry() {
        let now = Instant::now();
        let mut backoff = Backoff::new(
            Settings {
                growth: Growth::Constant { delay: millis(200) },
                max_retries: Some(2),
            },
            now,
        );
        assert_eq!(backoff.next(now, 0.3), Some(millis(200)));
        assert_eq!(backoff.next(now, 0.9), Some(millis(200)));
        assert_eq!(backoff.next(now, 0.9), None);
        let mut none = Backoff::new(
            Settings {
                growth: Growth::Constant { delay: millis(200) },
                max_retries: Some(0),
            },
            now,
        );
        assert_eq!(none.next(now, 0.5), None);
    }

    #[test]
    fn endless_retries_never_spin() {
        let now = Instant::now();
        let settings = Settings {
            growth: Growth::Constant {
                delay: Duration::ZERO,
            },
            max_retries: None,
        };
        assert_eq!(
            Backoff::new(settings, now).next(now, 0.0),
            Some(SHORTEST_DELAY)
        );
    }

    #[test]
    fn exponential_delays_grow_to_the_limit_and_end_in_time() {
        let started = Instant::now();
        let mut backoff = Backoff::new(
            Settings {
                growth: Growth::exponential(millis(1500)),
                max_retries: None,
            },
            started,
        );
        let delays: Vec<_> = (0..5)
            .map(|_| backoff.next(started, 0.5).unwrap())
            .collect();
        assert_eq!(
            delays,
            [
                millis(500),
                millis(750),
                millis(1125),
                millis(1500),
                millis(1500)
            ]
        );
        assert_eq!(backoff.next(started, 0.0), Some(millis(750)));
        assert_eq!(backoff.next(started, 1.0), Some(millis(2250)));
        let late = started + Duration::from_secs(15 * 60) - millis(1500);
        assert_eq!(backoff.next(late, 0.5), Some(millis(1500)));
        assert_eq!(backoff.next(late + millis(1), 0.5), None);
    }

    proptest! {
        #[test]
        fn every_delay_stays_inside_its_spread(
            longest in 500_u64..100_000,
            randoms in prop::collection::vec(0.0..1.0_f64, 1..50),
        ) {
            let now = Instant::now();
            let settings = Settings { growth: Growth::exponential(millis(longest)), max_retries: None };
            let mut backoff = Backoff::new(settings, now);
            for random in randoms {
                let delay = backoff.next(now, random).unwrap();
                prop_assert!(delay >= millis(250));
                prop_assert!(delay <= millis(longest * 3 / 2 + 1));
            }
        }
    }
}
