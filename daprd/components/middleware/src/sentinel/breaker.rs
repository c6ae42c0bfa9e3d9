//! Breakers: nothing comes through for a while once too much of what came was slow or failed, and then one request tries.
//! Whoever comes through has a ticket, which is handed back with what became of the request: a trial that nobody hears of would
//! block all others.

use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    rules::DAY,
    window::{Count, Window},
};

/// How far a rule looks back that does not say so.
const DEFAULT_INTERVAL: u64 = 1000;

/// What became of a request that came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered, and the answer was read.
    Good,
    /// It was answered with an error, or its answer broke off.
    Failed,
    /// Nobody waited for the end of it, which says nothing of what would have come; that it was slow can be said.
    Abandoned,
}

/// The right of a request to come through.
#[derive(Debug)]
#[must_use = "a breaker that is half open lets nobody through until the ticket is handed back"]
pub struct Ticket {
    /// Of which time it is: what came through before the breaker opened or closed says nothing of the time since.
    round: u64,
}

/// A request that tries and never ends does not keep the breaker half open for longer.
const LONGEST_TRY: Duration = Duration::from_secs(60);

/// A rule about slow or failed requests.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BreakerRule {
    resource: String,
    #[serde(default)]
    strategy: u32,
    #[serde(default)]
    retry_timeout_ms: u64,
    #[serde(default)]
    min_request_amount: u64,
    #[serde(default)]
    stat_interval_ms: u64,
    #[serde(default)]
    max_allowed_rt_ms: u64,
    #[serde(default, alias = "maxSlowRequestRatio")]
    threshold: f64,
}

/// What a breaker looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strategy {
    SlowRatio,
    ErrorRatio,
    ErrorCount,
}

/// A breaker.
pub struct Breaker {
    strategy: Strategy,
    threshold: f64,
    at_least: u64,
    slow: Duration,
    pause: Duration,
    inner: Mutex<Inner>,
}

struct Inner {
    state: State,
    /// Counts changes of the state.
    round: u64,
    seen: Window,
}

#[derive(Clone, Copy)]
enum State {
    Closed,
    Open {
        until: Instant,
    },
    /// One request tries, and another one may if nothing is heard of it.
    HalfOpen {
        until: Instant,
    },
}

impl Breaker {
    /// Of a rule, with the name of its resource.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(rule: BreakerRule) -> Result<(String, Self), String> {
        let strategy = match rule.strategy {
            0 => Strategy::SlowRatio,
            1 => Strategy::ErrorRatio,
            2 => Strategy::ErrorCount,
            other => return Err(format!("{}: strategy {other} is not known", rule.resource)),
        };
        let is_ratio = strategy != Strategy::ErrorCount;
        let wrong = rule.threshold.is_nan() || rule.threshold < 0.0;
        if wrong || (is_ratio && rule.threshold > 1.0) {
            return Err(format!(
                "{}: threshold {} is none",
                rule.resource, rule.threshold
            ));
        }
        let interval = match rule.stat_interval_ms {
            0 => DEFAULT_INTERVAL,
            interval => interval,
        };
        let pause = Duration::from_millis(rule.retry_timeout_ms);
        if pause > DAY || Duration::from_millis(interval) > DAY {
            return Err(format!("{}: times may be up to a day", rule.resource));
        }
        let breaker = Self {
            strategy,
            threshold: rule.threshold,
            at_least: rule.min_request_amount.max(1),
            slow: Duration::from_millis(rule.max_allowed_rt_ms),
            pause,
            inner: Mutex::new(Inner {
                state: State::Closed,
                round: 0,
                seen: Window::new(Duration::from_millis(interval)),
            }),
        };
        Ok((rule.resource, breaker))
    }

    /// Lets a request through, if it may come.
    pub fn admits(&self, now: Instant) -> Option<Ticket> {
        let mut inner = self.inner.lock();
        match inner.state {
            State::Closed => {}
            State::Open { until } | State::HalfOpen { until } if now >= until => {
                let until = now + LONGEST_TRY;
                inner.becomes(State::HalfOpen { until });
            }
            State::Open { .. } | State::HalfOpen { .. } => return None,
        }
        Some(Ticket { round: inner.round })
    }

    /// What became of a request.
    #[allow(clippy::needless_pass_by_value, reason = "a ticket counts once")]
    pub fn record(&self, ticket: Ticket, now: Instant, took: Duration, outcome: Outcome) {
        let mut inner = self.inner.lock();
        if ticket.round != inner.round {
            return;
        }
        let bad = match (self.strategy, outcome) {
            (Strategy::SlowRatio, _) if took > self.slow => true,
            (_, Outcome::Abandoned) => {
                if let State::HalfOpen { .. } = inner.state {
                    // The next one tries.
                    inner.becomes(State::Open { until: now });
                }
                return;
            }
            (Strategy::SlowRatio, _) => false,
            (Strategy::ErrorRatio | Strategy::ErrorCount, outcome) => outcome == Outcome::Failed,
        };
        let open = State::Open {
            until: now + self.pause,
        };
        match inner.state {
            State::Closed => {
                inner.seen.add(now, bad, took);
                let seen = inner.seen.sum(now);
                if bad && self.is_too_much(seen) {
                    inner.becomes(open);
                }
            }
            State::HalfOpen { .. } if bad => inner.becomes(open),
            State::HalfOpen { .. } => {
                inner.becomes(State::Closed);
                inner.seen.clear();
            }
            // Nobody comes through while it is open.
            State::Open { .. } => {}
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "so many requests never come")]
    fn is_too_much(&self, seen: Count) -> bool {
        if seen.all < self.at_least {
            return false;
        }
        match self.strategy {
            Strategy::ErrorCount => seen.bad as f64 >= self.threshold,
            _ => {
                let ratio = seen.bad as f64 / seen.all as f64;
                // All of them is never more than 1.
                ratio > self.threshold || ratio >= 1.0
            }
        }
    }
}

impl Inner {
    fn becomes(&mut self, state: State) {
        self.state = state;
        self.round += 1;
    }
}
