//! Rules that limit how many requests come: in a time, at once, and in all.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use component::{Error, Result};
use parking_lot::Mutex;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::Instant;

use super::window::Window;

/// Longest time in a rule.
pub const DAY: Duration = Duration::from_secs(86_400);

/// How far system rules look back.
const SECOND: Duration = Duration::from_secs(1);

/// Reads a list of rules.
///
/// # Errors
/// Names the field.
pub fn list<T: DeserializeOwned>(field: &str, text: Option<&str>) -> Result<Vec<T>> {
    let Some(text) = text else {
        return Ok(Vec::new());
    };
    serde_json::from_str(text).map_err(|error| Error::invalid_metadata(field, error))
}

/// A rule about how many requests come in a time.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowRule {
    resource: String,
    threshold: f64,
    #[serde(default)]
    token_calculate_strategy: u32,
    #[serde(default)]
    control_behavior: u32,
    #[serde(default)]
    max_queueing_time_ms: u64,
    #[serde(default)]
    stat_interval_in_ms: u64,
}

/// How many requests may come in a time.
pub enum Flow {
    /// What is too much is refused.
    Refuse { most: f64, seen: Box<Mutex<Window>> },
    /// They come one by one, with a pause between them.
    Pace {
        pause: Duration,
        longest: Duration,
        /// When the next may come.
        next: Mutex<Instant>,
    },
}

impl Flow {
    /// Of a rule, with the name of its resource.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(rule: FlowRule) -> Result<(String, Self), String> {
        let FlowRule {
            resource,
            threshold,
            ..
        } = rule;
        let length = match rule.stat_interval_in_ms {
            0 => SECOND,
            length => Duration::from_millis(length),
        };
        if rule.token_calculate_strategy != 0 {
            return Err(format!(
                "{resource}: tokenCalculateStrategy {} is not built in",
                rule.token_calculate_strategy
            ));
        }
        let longest = Duration::from_millis(rule.max_queueing_time_ms);
        if length > DAY || longest > DAY {
            return Err(format!("{resource}: times may be up to a day"));
        }
        if threshold < 0.0 || !threshold.is_finite() {
            return Err(format!("{resource}: threshold {threshold} is none"));
        }
        let flow = match rule.control_behavior {
            0 => Self::Refuse {
                most: threshold,
                seen: Box::new(Mutex::new(Window::new(length))),
            },
            1 if threshold > 0.0 => Self::Pace {
                pause: length.div_f64(threshold.max(1e-6)),
                longest,
                next: Mutex::new(Instant::now()),
            },
            other => return Err(format!("{resource}: controlBehavior {other} is not known")),
        };
        Ok((resource, flow))
    }

    /// When a request may go on, if it may.
    pub fn admits(&self, now: Instant) -> Option<Instant> {
        match self {
            Self::Refuse { most, seen } => {
                let mut seen = seen.lock();
                #[allow(clippy::cast_precision_loss, reason = "so many requests never come")]
                let more = seen.sum(now).all as f64 + 1.0;
                (more <= *most).then(|| {
                    seen.add(now, false, Duration::ZERO);
                    now
                })
            }
            Self::Pace {
                pause,
                longest,
                next,
            } => {
                let mut next = next.lock();
                let at = (*next).max(now);
                (at - now <= *longest).then(|| {
                    *next = at + *pause;
                    at
                })
            }
        }
    }
}

/// A rule about how many requests are under way.
#[derive(Deserialize)]
pub struct ConcurrencyRule {
    resource: String,
    #[serde(alias = "maxConcurrency")]
    threshold: usize,
}

/// How many requests may be under way.
pub struct Concurrency {
    most: usize,
    under_way: AtomicUsize,
}

impl Concurrency {
    /// Of a rule, with the name of its resource.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(rule: ConcurrencyRule) -> Result<(String, Self), String> {
        if rule.threshold == 0 {
            return Err(format!(
                "{}: threshold 0 lets nothing through",
                rule.resource
            ));
        }
        let limit = Self {
            most: rule.threshold,
            under_way: AtomicUsize::new(0),
        };
        Ok((rule.resource, limit))
    }

    /// One more, if there is room.
    pub fn enter(&self) -> bool {
        let more = |now: usize| (now < self.most).then_some(now + 1);
        let entered = self
            .under_way
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        entered.is_ok()
    }

    /// One less.
    pub fn leave(&self) {
        self.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A rule about all requests.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SystemRule {
    metric_type: u32,
    trigger_count: f64,
}

/// Limits for all requests.
pub struct System {
    longest_ms: Option<f64>,
    most_under_way: Option<f64>,
    most_a_second: Option<f64>,
    under_way: AtomicUsize,
    came: Mutex<Window>,
    went: Mutex<Window>,
}

impl System {
    /// Of the rules.
    ///
    /// # Errors
    /// What is wrong with one.
    pub fn new(rules: &[SystemRule]) -> Result<Self, String> {
        let least = |metric: u32| {
            let of_metric = rules.iter().filter(|rule| rule.metric_type == metric);
            of_metric
                .map(|rule| rule.trigger_count)
                .min_by(f64::total_cmp)
        };
        for rule in rules {
            if !matches!(rule.metric_type, 1..=3) {
                let metric = rule.metric_type;
                return Err(format!("metricType {metric} is not built in"));
            }
        }
        Ok(Self {
            longest_ms: least(1),
            most_under_way: least(2),
            most_a_second: least(3),
            under_way: AtomicUsize::new(0),
            came: Mutex::new(Window::new(SECOND)),
            went: Mutex::new(Window::new(SECOND)),
        })
    }

    /// Whether one more may come; it counts as one that came.
    #[allow(clippy::cast_precision_loss, reason = "so many requests never come")]
    pub fn admits(&self, now: Instant) -> bool {
        if let Some(most) = self.most_under_way
            && self.under_way.load(Ordering::Acquire) as f64 >= most
        {
            return false;
        }
        if let Some(longest) = self.longest_ms {
            let went = self.went.lock().sum(now);
            if went.all > 0 && went.took / went.all as f64 > longest {
                return false;
            }
        }
        if let Some(most) = self.most_a_second {
            let mut came = self.came.lock();
            if came.sum(now).all as f64 >= most {
                return false;
            }
            came.add(now, false, Duration::ZERO);
        }
        true
    }

    /// One is under way.
    pub fn enter(&self) {
        self.under_way.fetch_add(1, Ordering::AcqRel);
    }

    /// One has ended. One that was given up would have taken longer, which counts only where it is too long already.
    pub fn leave(&self, now: Instant, took: Duration, given_up: bool) {
        self.under_way.fetch_sub(1, Ordering::AcqRel);
        let Some(longest) = self.longest_ms else {
            return;
        };
        if !given_up || took.as_secs_f64() * 1000.0 > longest {
            self.went.lock().add(now, false, took);
        }
    }
}
