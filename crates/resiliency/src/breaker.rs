//! The circuit breaker as a pure state machine: closed, open, half-open (contract 10.1).
//! Requests are counted in generations; the result of a request that began in an earlier generation is ignored.

use std::time::Duration;

use expressions::{Expression, Variables};
use tokio::time::Instant;

/// How long a breaker stays open when its policy does not say.
pub const DEFAULT_OPEN_TIME: Duration = Duration::from_secs(60);

/// Consecutive failures above which a breaker opens when its policy has no trip condition.
pub const DEFAULT_TRIP_AFTER: u32 = 5;

/// What a circuit breaker policy says.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Requests that may pass while half-open, and successes in a row that close the breaker; at least 1.
    pub max_requests: u32,
    /// How often the counts are cleared while closed; `None` is never.
    pub interval: Option<Duration>,
    /// How long the breaker stays open before it lets a request try again.
    pub open_time: Duration,
    /// When a failure opens the breaker; `None` is more than [`DEFAULT_TRIP_AFTER`] failures in a row.
    pub trip: Option<Expression>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_requests: 1,
            interval: None,
            open_time: DEFAULT_OPEN_TIME,
            trip: None,
        }
    }
}

/// The three states of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Requests pass and are counted.
    Closed,
    /// A few requests pass to see whether the target is back.
    HalfOpen,
    /// No request passes.
    Open,
}

impl State {
    /// The name used in logs and in the label `status` of the metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }
}

/// Why a request may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The breaker is open.
    Open,
    /// The breaker is half-open and enough requests are under way.
    TooManyRequests,
}

/// How an admitted request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The target answered well.
    Success,
    /// The target failed.
    Failure,
    /// Nobody waited for the answer; it says nothing about the target, and its place is free again.
    /// Q-resiliency-abandoned
    Abandoned,
}

/// The right of one request to pass; handed back to [`Breaker::record`].
#[derive(Debug)]
#[must_use = "a half-open breaker stays blocked until the ticket is recorded"]
pub struct Ticket {
    generation: u64,
}

/// Counts of the current generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests let through.
    pub requests: u32,
    /// Requests that succeeded.
    pub total_successes: u32,
    /// Requests that failed.
    pub total_failures: u32,
    /// Successes since the last failure.
    pub consecutive_successes: u32,
    /// Failures since the last success.
    pub consecutive_failures: u32,
}

/// One breaker. It does no I/O and reads no clock: time comes in with every call.
#[derive(Debug)]
pub struct Breaker {
    settings: Settings,
    state: State,
    generation: u64,
    counts: Counts,
    /// When the state ends by itself: the counting interval while closed, the open time while open.
    expiry: Option<Instant>,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(settings: Settings, now: Instant) -> Self {
        let mut breaker = Self {
            settings,
            state: State::Closed,
            generation: 0,
            counts: Counts::default(),
            expiry: None,
        };
        breaker.next_generation(now);
        breaker
    }

    /// Lets a request pass, or says why not.
    ///
    /// # Errors
    /// [`Rejection`] when the breaker is open, or half-open with its places taken.
    pub fn admit(&mut self, now: Instant) -> Result<Ticket, Rejection> {
        match self.state(now) {
            State::Open => return Err(Rejection::Open),
            State::HalfOpen if self.counts.requests >= self.settings.max_requests.max(1) => {
                return Err(Rejection::TooManyRequests);
            }
            State::HalfOpen | State::Closed => {}
        }
        self.counts.requests = self.counts.requests.saturating_add(1);
        Ok(Ticket {
            generation: self.generation,
        })
    }

    /// Takes the result of an admitted request into account.
    pub fn record(&mut self, ticket: Ticket, verdict: Verdict, now: Instant) {
        let state = self.state(now);
        if ticket.generation != self.generation {
            return;
        }
        match (verdict, state) {
            (Verdict::Abandoned, _) => {
                self.counts.requests = self.counts.requests.saturating_sub(1);
            }
            (_, State::Open) => {}
            (Verdict::Success, State::Closed) => self.count_success(),
            (Verdict::Success, State::HalfOpen) => {
                self.count_success();
                if self.counts.consecutive_successes >= self.settings.max_requests.max(1) {
                    self.change(State::Closed, now);
                }
            }
            (Verdict::Failure, State::Closed) => {
                self.count_failure();
                if self.trips() {
                    self.change(State::Open, now);
                }
            }
            (Verdict::Failure, State::HalfOpen) => self.change(State::Open, now),
        }
    }

    /// The state at `now`; an open breaker whose time is over becomes half-open.
    pub fn state(&mut self, now: Instant) -> State {
        if self.expiry.is_some_and(|expiry| expiry < now) {
            match self.state {
                State::Closed => self.next_generation(now),
                State::Open => self.change(State::HalfOpen, now),
                State::HalfOpen => {}
            }
        }
        self.state
    }

    /// The state after the last call, whatever the time is now.
    pub const fn last_state(&self) -> State {
        self.state
    }

    /// The counts of the current generation.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    fn count_success(&mut self) {
        let counts = &mut self.counts;
        counts.total_successes = counts.total_successes.saturating_add(1);
        counts.consecutive_successes = counts.consecutive_successes.saturating_add(1);
        counts.consecutive_failures = 0;
    }

    fn count_failure(&mut self) {
        let counts = &mut self.counts;
        counts.total_failures = counts.total_failures.saturating_add(1);
        counts.consecutive_failures = counts.consecutive_failures.saturating_add(1);
        counts.consecutive_successes = 0;
    }

    /// A trip condition that gives an error does not trip: opening on a broken condition would cut a healthy target off.
    fn trips(&self) -> bool {
        match &self.settings.trip {
            None => self.counts.consecutive_failures > DEFAULT_TRIP_AFTER,
            Some(trip) => trip.matches(&variables(self.counts)).unwrap_or(false),
        }
    }

    fn change(&mut self, state: State, now: Instant) {
        if self.state != state {
            self.state = state;
            self.next_generation(now);
        }
    }

    fn next_generation(&mut self, now: Instant) {
        self.generation += 1;
        self.counts = Counts::default();
        self.expiry = match self.state {
            State::Closed => self.settings.interval.and_then(|it| now.checked_add(it)),
            State::Open => now.checked_add(self.settings.open_time),
            State::HalfOpen => None,
        };
    }
}

/// The counts under the names a trip condition uses.
pub(crate) fn variables(counts: Counts) -> Variables {
    Variables::integers([
        ("requests", i64::from(counts.requests)),
        ("totalSuccesses", i64::from(counts.total_successes)),
        ("totalFailures", i64::from(counts.total_failures)),
        (
            "consecutiveSuccesses",
            i64::from(counts.consecutive_successes),
        ),
        (
            "consecutiveFailures",
            i64::from(counts.consecutive_failures),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        breaker: Breaker,
        now: Instant,
    }

    impl Bench {
        fn new(settings: Settings) -> Self {
            let now = Instant::now();
            Self {
                breaker: Breaker::new(settings, now),
                now,
            }
        }

        fn pass(&mut self, verdict: Verdict) -> Result<State, Rejection> {
            let ticket = self.breaker.admit(self.now)?;
            self.breaker.record(ticket, verdict, self.now);
            Ok(self.breaker.state(self.now))
        }

        fn wait(&mut self, duration: Duration) -> State {
            self.now += duration + Duration::from_nanos(1);
            self.breaker.state(self.now)
        }
    }

    #[test]
    fn six_failures_in_a_row_open_by_default() {
        let mut bench = Bench::new(Settings::default());
        for _ in 0..5 {
            assert_eq!(bench.pass(Verdict::Failure), Ok(State::Closed));
        }
        assert_eq!(bench.pass(Verdict::Success), Ok(State::Closed));
        for _ in 0..5 {
            assert_eq!(bench.pass(Verdict::Failure), Ok(State::Closed));
        }
        assert_eq!(bench.pass(Verdict::Failure), Ok(State::Open));
        assert_eq!(bench.pass(Verdict::Success), Err(Rejection::Open));
        bench.now += DEFAULT_OPEN_TIME;
        assert_eq!(
            bench.breaker.state(bench.now),
            State::Open,
            "only after the whole time"
        );
        assert_eq!(bench.wait(Duration::ZERO), State::HalfOpen);
        assert_eq!(bench.pass(Verdict::Success), Ok(State::Closed));
    }

    #[test]
    fn half_open_lets_a_few_pass_and_needs_as_many_successes() {
        let mut bench = Bench::new(Settings {
            max_requests: 2,
            trip: Some(Expression::compile("totalFailures > 0").unwrap()),
            ..Settings::default()
        });
        assert_eq!(bench.pass(Verdict::Failure), Ok(State::Open));
        assert_eq!(bench.wait(DEFAULT_OPEN_TIME), State::HalfOpen);
        let first = bench.breaker.admit(bench.now).unwrap();
        let second = bench.breaker.admit(bench.now).unwrap();
        assert_eq!(
            bench.pass(Verdict::Success),
            Err(Rejection::TooManyRequests)
        );
        bench.breaker.record(first, Verdict::Success, bench.now);
        assert_eq!(bench.breaker.state(bench.now), State::HalfOpen);
        bench.breaker.record(second, Verdict::Success, bench.now);
        assert_eq!(bench.breaker.state(bench.now), State::Closed);

        assert_eq!(bench.pass(Verdict::Failure), Ok(State::Open));
        assert_eq!(bench.wait(DEFAULT_OPEN_TIME), State::HalfOpen);
        assert_eq!(bench.pass(Verdict::Failure), Ok(State::Open));
    }

    #[test]
    fn an_abandoned_probe_frees_its_place() {
        let mut bench = Bench::new(Settings {
            trip: Some(Expression::compile("requests >= 1").unwrap()),
            ..Settings::default()
        });
        assert_eq!(bench.pass(Verdict::Failure), Ok(State::Open));
        assert_eq!(bench.wait(DEFAULT_OPEN_TIME), State::HalfOpen);
        assert_eq!(bench.pass(Verdict::Abandoned), Ok(State::HalfOpen));
        assert_eq!(bench.pass(Verdict::Success), Ok(State::Closed));
    }

    #[test]
    fn results_of_an_earlier_generation_do_not_count() {
        let mut bench = Bench::new(Settings {
            interval: Some(Duration::from_secs(10)),
            trip: Some(Expression::compile("totalFailures > 1").unwrap()),
            ..Settings::default()
        });
        let slow = bench.breaker.admit(bench.now).unwrap();
        assert_eq!(bench.pass(Verdict::Failure), Ok(State::Closed));
        assert_eq!(bench.wait(Duration::from_secs(10)), State::Closed);
        assert_eq!(
            bench.breaker.counts(),
            Counts::default(),
            "the interval is over"
        );
        bench.breaker.record(slow, Verdict::Failure, bench.now);
        assert_eq!(bench.breaker.counts(), Counts::default());
        assert_eq!(bench.pass(Verdict::Failure), Ok(State::Closed));
        assert_eq!(bench.pass(Verdict::Failure), Ok(State::Open));
    }

    #[test]
    fn a_broken_condition_never_trips() {
        let mut bench = Bench::new(Settings {
            trip: Some(Expression::compile("nothing > 1").unwrap()),
            ..Settings::default()
        });
        for _ in 0..100 {
            assert_eq!(bench.pass(Verdict::Failure), Ok(State::Closed));
        }
    }
}
