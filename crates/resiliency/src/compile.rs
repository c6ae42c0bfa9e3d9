//! From Resiliency resources to rules: every field is parsed once, here, and a bad one is named by its place.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crds::Kind;
use crds::resiliency::{ActorPolicyNames, CircuitBreaker, Retry as RetrySpec};
use expressions::Expression;
use values::GoDuration;

use crate::backoff::{Growth, Settings};
use crate::breaker::{self, Counts};
use crate::builtin::{Builtin, FEWEST_RETRIES};
use crate::matching::{self, Codes, GRPC_CODES, HTTP_CODES, Matching};
use crate::policy::Retry;
use crate::unknown;

/// A resource that says something impossible.
#[derive(Debug, thiserror::Error)]
#[error("resiliency policy {resource}: {section} {entry}: field {field}")]
pub struct Error {
    /// Name of the resource.
    pub resource: String,
    /// What kind of entry is wrong, e.g. `retry` or `target actor`.
    pub section: &'static str,
    /// Name of the entry.
    pub entry: String,
    /// Name of the field as the resource spells it.
    pub field: &'static str,
    /// What is wrong with it.
    pub source: Box<Cause>,
}

/// What is wrong with a field.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// Neither a Go duration nor a number of milliseconds.
    #[error(transparent)]
    Duration(values::duration::Error),
    /// Not one of the words the field takes.
    #[error("`{found}` is not one of {expected}")]
    Word {
        /// The word.
        found: String,
        /// The words it may be.
        expected: &'static str,
    },
    /// A number outside the field's range.
    #[error("{found} is not between {least} and {most}")]
    Range {
        /// The number.
        found: i64,
        /// The smallest allowed.
        least: i64,
        /// The largest allowed.
        most: i64,
    },
    /// A list of status codes that does not parse.
    #[error(transparent)]
    Codes(matching::Error),
    /// A trip condition that does not compile.
    #[error(transparent)]
    Expression(expressions::Error),
    /// A circuit breaker for actors without a scope.
    #[error("a circuit breaker of actors needs a scope")]
    MissingScope,
}

/// Circuit breakers kept for one app unless its target says otherwise.
pub(crate) const DEFAULT_APP_BREAKERS: usize = 100;

/// Circuit breakers kept for one actor type unless its target says otherwise.
pub(crate) const DEFAULT_ACTOR_BREAKERS: usize = 5000;

/// The most circuit breakers a target may ask to keep.
const MOST_BREAKERS: i64 = 1_000_000;

/// Which resource an entry comes from; labels of the metrics.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) name: Arc<str>,
    pub(crate) namespace: Arc<str>,
}

/// An entry with its resource.
#[derive(Clone, Debug)]
pub(crate) struct Sourced<T> {
    pub(crate) origin: Origin,
    pub(crate) value: T,
}

/// Names of the policies of one target.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    pub(crate) timeout: Option<String>,
    pub(crate) retry: Option<String>,
    pub(crate) breaker: Option<String>,
}

/// What shares a circuit breaker among actors of a type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Scope {
    #[default]
    Type,
    /// Each actor has its own; `both` means the same.
    Id,
}

/// Everything the resources say, later ones over earlier ones.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) timeouts: HashMap<String, Sourced<Option<Duration>>>,
    pub(crate) retries: HashMap<String, Sourced<Arc<Retry>>>,
    pub(crate) breakers: HashMap<String, Sourced<breaker::Settings>>,
    pub(crate) apps: HashMap<String, Sourced<(Names, usize)>>,
    pub(crate) actors: HashMap<String, Sourced<(Names, Scope, usize)>>,
    /// Inbound and outbound.
    pub(crate) components: HashMap<String, Sourced<[Names; 2]>>,
}

impl Book {
    /// Reads one resource; nothing of it is kept if anything in it is wrong.
    pub(crate) fn add(&mut self, resource: &crds::Resiliency) -> Result<Origin, Error> {
        let origin = Origin {
            name: Arc::from(resource.name()),
            namespace: Arc::from(resource.namespace().unwrap_or_default()),
        };
        for field in unknown::fields(&resource.spec) {
            tracing::warn!(resource = %resource.name(), "unknown field {field} is ignored");
        }
        let mut page = Self::default();
        page.policies(resource, &origin)?;
        page.targets(resource, &origin)?;
        self.timeouts.extend(page.timeouts);
        self.retries.extend(page.retries);
        self.breakers.extend(page.breakers);
        self.apps.extend(page.apps);
        self.actors.extend(page.actors);
        self.components.extend(page.components);
        Ok(origin)
    }

    fn policies(&mut self, resource: &crds::Resiliency, origin: &Origin) -> Result<(), Error> {
        let policies = &resource.spec.policies;
        for (name, text) in &policies.timeouts {
            let place = Place::new(resource, "timeout", name);
            let value = Some(place.duration("timeout", text)?).filter(|it| !it.is_zero());
            self.timeouts.insert(name.clone(), origin.with(value));
        }
        for (name, spec) in &policies.retries {
            let mut retry = retry(spec, &Place::new(resource, "retry", name))?;
            match Builtin::named(name) {
                Some(builtin) if builtin.is_protected() => {
                    tracing::warn!(policy = %name, "policy is protected, the override is ignored");
                    continue;
                }
                Some(_) => raise_to_minimum(name, &mut retry),
                None => {}
            }
            self.retries
                .insert(name.clone(), origin.with(Arc::new(retry)));
        }
        for (name, spec) in &policies.circuit_breakers {
            let settings = breaker(spec, &Place::new(resource, "circuit breaker", name))?;
            self.breakers.insert(name.clone(), origin.with(settings));
        }
        Ok(())
    }

    fn targets(&mut self, resource: &crds::Resiliency, origin: &Origin) -> Result<(), Error> {
        let targets = &resource.spec.targets;
        for (name, spec) in &targets.apps {
            let place = Place::new(resource, "target app", name);
            let names = names(&spec.timeout, &spec.retry, &spec.circuit_breaker);
            let size = place.cache_size(spec.circuit_breaker_cache_size, DEFAULT_APP_BREAKERS)?;
            self.apps.insert(name.clone(), origin.with((names, size)));
        }
        for (name, spec) in &targets.actors {
            let place = Place::new(resource, "target actor", name);
            let names = names(&spec.timeout, &spec.retry, &spec.circuit_breaker);
            let scope = scope(spec, &place)?;
            let size = place.cache_size(spec.circuit_breaker_cache_size, DEFAULT_ACTOR_BREAKERS)?;
            self.actors
                .insert(name.clone(), origin.with((names, scope, size)));
        }
        for (name, spec) in &targets.components {
            let side = |side: &Option<crds::resiliency::PolicyNames>| {
                side.as_ref().map_or_else(Names::default, |spec| {
                    names(&spec.timeout, &spec.retry, &spec.circuit_breaker)
                })
            };
            let sides = [side(&spec.inbound), side(&spec.outbound)];
            self.components.insert(name.clone(), origin.with(sides));
        }
        Ok(())
    }
}

impl Origin {
    fn with<T>(&self, value: T) -> Sourced<T> {
        Sourced {
            origin: self.clone(),
            value,
        }
    }
}

fn names(timeout: &Option<String>, retry: &Option<String>, breaker: &Option<String>) -> Names {
    Names {
        timeout: timeout.clone(),
        retry: retry.clone(),
        breaker: breaker.clone(),
    }
}

// Compat: Q-resiliency-builtin-minimum. Whoever overrides a built-in retry and leaves `maxRetries` out
// (endless everywhere else) gets three retries.
fn raise_to_minimum(name: &str, retry: &mut Retry) {
    let retries = &mut retry.backoff.max_retries;
    if retries.is_none_or(|retries| retries < FEWEST_RETRIES) {
        tracing::warn!(policy = %name, "a built-in policy retries at least {FEWEST_RETRIES} times");
        *retries = Some(FEWEST_RETRIES);
    }
}

fn retry(spec: &RetrySpec, place: &Place<'_>) -> Result<Retry, Error> {
    let delay = place.optional("duration", &spec.duration, Duration::from_secs(5))?;
    let longest = place.optional("maxInterval", &spec.max_interval, Duration::from_secs(60))?;
    let growth = match spec
        .policy
        .as_deref()
        .map(str::to_ascii_lowercase)
        .as_deref()
    {
        None | Some("constant") => Growth::Constant { delay },
        Some("exponential") => Growth::exponential(longest),
        Some(_) => {
            return Err(place.wrong(
                "policy",
                Cause::Word {
                    found: spec.policy.clone().unwrap_or_default(),
                    expected: "constant, exponential",
                },
            ));
        }
    };
    // Any negative number is "without end"; more than fits is, for practical purposes, the same.
    let max_retries = match spec.max_retries {
        None => None,
        Some(count) if count < 0 => None,
        Some(count) => Some(u32::try_from(count).unwrap_or(u32::MAX)),
    };
    let mut matching = Matching::default();
    if let Some(lists) = &spec.matching {
        matching.http = place.codes(
            "matching.httpStatusCodes",
            &lists.http_status_codes,
            &HTTP_CODES,
        )?;
        matching.grpc = place.codes(
            "matching.gRPCStatusCodes",
            &lists.grpc_status_codes,
            &GRPC_CODES,
        )?;
    }
    Ok(Retry {
        backoff: Settings {
            growth,
            max_retries,
        },
        matching,
    })
}

fn breaker(spec: &CircuitBreaker, place: &Place<'_>) -> Result<breaker::Settings, Error> {
    let max_requests = match spec.max_requests {
        None => 1,
        Some(count) => {
            let count = place.number("maxRequests", count, 0, i64::from(u32::MAX))?;
            u32::try_from(count).unwrap_or(u32::MAX).max(1)
        }
    };
    let interval = place.optional("interval", &spec.interval, Duration::ZERO)?;
    let open_time = place.optional("timeout", &spec.timeout, Duration::ZERO)?;
    let trip = match &spec.trip {
        None => None,
        Some(text) => {
            let trip = Expression::compile(text)
                .map_err(|error| place.wrong("trip", Cause::Expression(error)))?;
            // Ones, because a ratio over zero requests would fail here and be fine later.
            let ones = Counts {
                requests: 1,
                total_successes: 1,
                total_failures: 1,
                consecutive_successes: 1,
                consecutive_failures: 1,
            };
            if let Err(error) = trip.matches(&breaker::variables(ones)) {
                tracing::warn!(resource = %place.resource, breaker = %place.entry, %error, "trip condition gives no answer, the circuit breaker will not open");
            }
            Some(trip)
        }
    };
    Ok(breaker::Settings {
        max_requests,
        interval: Some(interval).filter(|it| !it.is_zero()),
        open_time: Some(open_time)
            .filter(|it| !it.is_zero())
            .unwrap_or(breaker::DEFAULT_OPEN_TIME),
        trip,
    })
}

fn scope(spec: &ActorPolicyNames, place: &Place<'_>) -> Result<Scope, Error> {
    if spec.circuit_breaker.is_none() {
        return Ok(Scope::default());
    }
    match spec.circuit_breaker_scope.as_deref() {
        Some("type") => Ok(Scope::Type),
        Some("id" | "both") => Ok(Scope::Id),
        Some(found) => Err(place.wrong(
            "circuitBreakerScope",
            Cause::Word {
                found: found.to_owned(),
                expected: "type, id, both",
            },
        )),
        None => Err(place.wrong("circuitBreakerScope", Cause::MissingScope)),
    }
}

/// Where in a resource a value stands.
struct Place<'a> {
    resource: &'a str,
    section: &'static str,
    entry: &'a str,
}

impl<'a> Place<'a> {
    fn new(resource: &'a crds::Resiliency, section: &'static str, entry: &'a str) -> Self {
        Self {
            resource: resource.name(),
            section,
            entry,
        }
    }

    fn wrong(&self, field: &'static str, source: Cause) -> Error {
        Error {
            resource: self.resource.to_owned(),
            section: self.section,
            entry: self.entry.to_owned(),
            field,
            source: Box::new(source),
        }
    }

    /// A Go duration, or a whole number of milliseconds. Negative ones count as zero.
    fn duration(&self, field: &'static str, text: &str) -> Result<Duration, Error> {
        if let Ok(millis) = text.parse::<i64>() {
            return Ok(Duration::from_millis(
                u64::try_from(millis).unwrap_or_default(),
            ));
        }
        text.parse::<GoDuration>()
            .map(GoDuration::saturating_std)
            .map_err(|error| self.wrong(field, Cause::Duration(error)))
    }

    fn optional(
        &self,
        field: &'static str,
        text: &Option<String>,
        default: Duration,
    ) -> Result<Duration, Error> {
        text.as_deref()
            .map_or(Ok(default), |text| self.duration(field, text))
    }

    fn codes(
        &self,
        field: &'static str,
        text: &Option<String>,
        valid: &std::ops::RangeInclusive<i32>,
    ) -> Result<Codes, Error> {
        Codes::parse(text.as_deref().unwrap_or_default(), valid)
            .map_err(|error| self.wrong(field, Cause::Codes(error)))
    }

    fn number(&self, field: &'static str, found: i64, least: i64, most: i64) -> Result<i64, Error> {
        if (least..=most).contains(&found) {
            Ok(found)
        } else {
            Err(self.wrong(field, Cause::Range { found, least, most }))
        }
    }

    fn cache_size(&self, size: Option<i64>, default: usize) -> Result<usize, Error> {
        let Some(size) = size else { return Ok(default) };
        let size = self.number("circuitBreakerCacheSize", size, 1, MOST_BREAKERS)?;
        Ok(usize::try_from(size).unwrap_or(default))
    }
}
