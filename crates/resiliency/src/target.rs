//! One target of calls (an app, an actor type, one side of a component) and its circuit breakers.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::breaker::{self, Breaker};
use crate::cache::Cache;
use crate::compile::Origin;
use crate::metrics::{Direction, Instruments, Reporter};
use crate::policy::{Covers, Policy, Retry, Rules};

/// Targets that only default policies rule, kept for one kind of target; the longest unused is forgotten.
const MOST_DEFAULT_TARGETS: usize = 1000;

/// The rules of a target, before they are bound to one.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Option<Arc<Retry>>,
    pub(crate) covers: Covers,
    pub(crate) breaker: Option<breaker::Settings>,
    pub(crate) origin: Origin,
    pub(crate) direction: Direction,
    /// How many circuit breakers one target keeps.
    pub(crate) breakers: usize,
    pub(crate) instruments: Option<Arc<Instruments>>,
}

impl Template {
    pub(crate) const fn is_empty(&self) -> bool {
        self.timeout.is_none() && self.retry.is_none() && self.breaker.is_none()
    }

    fn policy(&self, target: &Arc<str>) -> Policy {
        Policy::new(Rules {
            name: target.to_string(),
            timeout: self.timeout,
            retry: self.retry.clone(),
            covers: self.covers,
            breaker: self
                .breaker
                .clone()
                .map(|settings| Mutex::new(Breaker::new(settings, Instant::now()))),
            reporter: self.instruments.as_ref().map(|instruments| Reporter {
                instruments: Arc::clone(instruments),
                name: Arc::clone(&self.origin.name),
                namespace: Arc::clone(&self.origin.namespace),
                direction: self.direction,
                target: Arc::clone(target),
            }),
        })
    }
}

/// A target with its rules.
#[derive(Debug)]
pub(crate) struct Target {
    label: Arc<str>,
    template: Template,
    policies: Bound,
}

#[derive(Debug)]
enum Bound {
    /// Without a circuit breaker there is no state, and all calls share one policy.
    One(Policy),
    /// One policy, with its circuit breaker, for each endpoint or actor.
    Each(Mutex<Cache<Policy>>),
}

impl Target {
    pub(crate) fn new(label: String, template: Template) -> Self {
        let label: Arc<str> = Arc::from(label);
        let policies = if template.breaker.is_some() {
            Bound::Each(Mutex::new(Cache::new(template.breakers)))
        } else {
            Bound::One(template.policy(&label))
        };
        Self {
            label,
            template,
            policies,
        }
    }

    /// The policy of calls that share the circuit breaker `key`.
    pub(crate) fn policy(&self, key: &str) -> Policy {
        let policy = match &self.policies {
            Bound::One(policy) => policy.clone(),
            Bound::Each(cache) => cache
                .lock()
                .entry(key, || self.template.policy(&self.label)),
        };
        policy.picked();
        policy
    }
}

/// Targets that no resource names: a default policy rules them, each with circuit breakers of its own.
#[derive(Debug)]
pub(crate) struct Unnamed {
    template: Template,
    prefix: &'static str,
    targets: Mutex<Cache<Arc<Target>>>,
}

impl Unnamed {
    /// `None` when no default policy applies. `prefix` is what the metrics put before a target's name.
    pub(crate) fn new(prefix: &'static str, template: Template) -> Option<Self> {
        (!template.is_empty()).then(|| Self {
            template,
            prefix,
            targets: Mutex::new(Cache::new(MOST_DEFAULT_TARGETS)),
        })
    }

    pub(crate) fn target(&self, name: &str) -> Arc<Target> {
        self.targets.lock().entry(name, || {
            let label = format!("{}_{name}", self.prefix);
            Arc::new(Target::new(label, self.template.clone()))
        })
    }
}
