//! Breakers: nothing comes through for a while once too much of what came was slow or failed, and then one request tries.

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
                seen: Window::new(Duration::from_millis(interval)),
            }),
        };
        Ok((rule.resource, breaker))
    }

    /// Whether a request comes through.
    pub fn admits(&self, now: Instant) -> bool {
        let mut inner = self.inner.lock();
        match inner.state {
            State::Closed => true,
            State::Open { until } | State::HalfOpen { until } if now >= until => {
                let until = now + LONGEST_TRY;
                inner.state = State::HalfOpen { until };
                true
            }
            State::Open { .. } | State::HalfOpen { .. } => false,
        }
    }

    /// What became of a request.
    pub fn record(&self, now: Instant, took: Duration, failed: bool) {
        let bad = match self.strategy {
            Strategy::SlowRatio => took > self.slow,
            Strategy::ErrorRatio | Strategy::ErrorCount => failed,
        };
        let mut inner = self.inner.lock();
        let open = State::Open {
            until: now + self.pause,
        };
        match inner.state {
            State::Closed => {
                inner.seen.add(now, bad, took);
                let seen = inner.seen.sum(now);
                if bad && self.is_too_much(seen) {
                    inner.state = open;
                }
            }
            State::HalfOpen { .. } if bad => inner.state = open,
            State::HalfOpen { .. } => {
                inner.state = State::Closed;
                inner.seen.clear();
            }
            // It came through before.
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
