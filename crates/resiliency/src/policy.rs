//! A policy and how it is applied to a call: a timeout per attempt, inside a circuit breaker, inside retries.
//! Most calls have no policy; for those `run` is the call itself, without an allocation.

#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::backoff::{self, Backoff};
use crate::breaker::{Breaker, Rejection, State, Ticket, Verdict};
use crate::matching::Matching;
use crate::metrics::{Kind, Reporter};

/// Why a call under a policy failed.
#[derive(Debug, thiserror::Error)]
pub enum Error<E> {
    /// The call itself failed, and no retry was left or allowed.
    #[error(transparent)]
    Inner(E),
    /// The last attempt took longer than the policy's timeout.
    #[error("timed out after {0:?}")]
    Timeout(Duration),
    /// The circuit breaker is open; the call was not made.
    #[error("circuit breaker is open")]
    CircuitOpen,
    /// The circuit breaker is half-open and busy; the call was not made.
    #[error("too many requests")]
    TooManyRequests,
}

impl<E> Error<E> {
    /// The call's own error, if there is one.
    pub fn into_inner(self) -> Option<E> {
        match self {
            Self::Inner(error) => Some(error),
            Self::Timeout(_) | Self::CircuitOpen | Self::TooManyRequests => None,
        }
    }

    /// Turns the call's own error into another.
    pub fn map<F>(self, change: impl FnOnce(E) -> F) -> Error<F> {
        match self {
            Self::Inner(error) => Error::Inner(change(error)),
            Self::Timeout(after) => Error::Timeout(after),
            Self::CircuitOpen => Error::CircuitOpen,
            Self::TooManyRequests => Error::TooManyRequests,
        }
    }
}

impl<E> From<Rejection> for Error<E> {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Open => Self::CircuitOpen,
            Rejection::TooManyRequests => Self::TooManyRequests,
        }
    }
}

/// What a failed attempt means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer that only looks like an error: it is returned, and the circuit breaker counts a success.
    Success,
    /// A failure that another attempt may mend.
    Retryable,
    /// The call did not get through to the target: the one failure that the built-in retries are for.
    Unreached,
    /// A failure that no other attempt will mend.
    Permanent,
    /// The caller's own doing, which says nothing about the target: it is not retried, and no circuit breaker counts it.
    Abandoned,
    /// A failure with an HTTP status code; the policy's list says whether it is retried.
    Http(u16),
    /// A failure with a gRPC status code; the policy's list says whether it is retried.
    Grpc(i32),
}

/// What a retry policy says.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// How long to wait between attempts, and how many there are.
    pub backoff: backoff::Settings,
    /// Which status codes are retried.
    pub matching: Matching,
}

impl Outcome {
    const fn verdict(self) -> Verdict {
        match self {
            Self::Success => Verdict::Success,
            Self::Abandoned => Verdict::Abandoned,
            _ => Verdict::Failure,
        }
    }
}

/// Which failures a retry is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Covers {
    /// Those that its list of codes names.
    #[default]
    Failures,
    /// Only [`Outcome::Unreached`]: a built-in retry, where nobody has asked for another.
    Unreached,
}

impl Retry {
    fn allows(&self, covers: Covers, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Unreached => true,
            _ if covers == Covers::Unreached => false,
            Outcome::Success | Outcome::Permanent | Outcome::Abandoned => false,
            Outcome::Retryable => true,
            Outcome::Http(code) => self.matching.http.contains(i32::from(code)),
            Outcome::Grpc(code) => self.matching.grpc.contains(code),
        }
    }
}

/// A call as a policy makes it: the first attempt, and what makes another one of it. Whoever makes a call has to say whether
/// there can be another, and a policy has no way to repeat one without asking.
pub struct Call<Attempt, Again> {
    first: Attempt,
    again: Again,
}

impl<Attempt, Again> Call<Attempt, Again>
where
    Again: FnMut(u32) -> Option<Attempt>,
{
    /// `again` gets the number of the attempt, from 2, once the one before is over; `None` ends the call with the failure
    /// that there was.
    pub const fn new(first: Attempt, again: Again) -> Self {
        Self { first, again }
    }
}

impl<Attempt> Call<Attempt, fn(u32) -> Option<Attempt>> {
    /// A call that can be made only once.
    pub const fn once(attempt: Attempt) -> Self {
        Self {
            first: attempt,
            again: |_| None,
        }
    }
}

/// A call that can be made as often as the policy says, since nothing is used up by an attempt. `attempt` gets its number,
/// from 1.
pub fn repeatable<Attempt>(
    mut attempt: impl FnMut(u32) -> Attempt,
) -> Call<Attempt, impl FnMut(u32) -> Option<Attempt>> {
    Call {
        first: attempt(1),
        again: move |number| Some(attempt(number)),
    }
}

/// The rules of one target; a clone shares the circuit breaker. The default lets every call through.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    rules: Option<Arc<Rules>>,
}

/// What a policy does; at least one of the three is set.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) name: String,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Option<Arc<Retry>>,
    pub(crate) covers: Covers,
    pub(crate) breaker: Option<Mutex<Breaker>>,
    pub(crate) reporter: Option<Reporter>,
}

impl Policy {
    pub(crate) fn new(rules: Rules) -> Self {
        if let (Some(breaker), Some(reporter)) = (&rules.breaker, &rules.reporter) {
            reporter.breaker_state(breaker.lock().last_state());
        }
        let empty = rules.timeout.is_none() && rules.retry.is_none() && rules.breaker.is_none();
        Self {
            rules: (!empty).then(|| Arc::new(rules)),
        }
    }

    /// Whether the policy does nothing.
    pub const fn is_none(&self) -> bool {
        self.rules.is_none()
    }

    /// Whether a call may be made more than once, so that its body must be kept for another attempt.
    pub fn has_retries(&self) -> bool {
        self.retry()
            .is_some_and(|retry| retry.backoff.max_retries != Some(0))
    }

    /// Whether answers count as failures, and not only calls that did not get through.
    pub fn judges_answers(&self) -> bool {
        let Some(rules) = self.rules.as_deref() else {
            return false;
        };
        rules.breaker.is_some() || rules.retry.is_some() && rules.covers == Covers::Failures
    }

    /// The retry rules, if there are any.
    pub fn retry(&self) -> Option<&Retry> {
        self.rules.as_ref()?.retry.as_deref()
    }

    /// How long one attempt may take.
    pub fn timeout(&self) -> Option<Duration> {
        self.rules.as_ref()?.timeout
    }

    /// The state of the circuit breaker, if there is one.
    pub fn breaker_state(&self) -> Option<State> {
        let rules = self.rules.as_ref()?;
        let breaker = rules.breaker.as_ref()?;
        Some(rules.with_breaker(breaker, |breaker| breaker.state(Instant::now())))
    }

    /// Notes in the metrics that the policy was picked for a call.
    pub(crate) fn picked(&self) {
        let Some(rules) = &self.rules else { return };
        let Some(reporter) = &rules.reporter else {
            return;
        };
        if rules.timeout.is_some() {
            reporter.used(Kind::Timeout, "");
        }
        if rules.retry.is_some() && rules.covers == Covers::Failures {
            reporter.used(Kind::Retry, "");
        }
        if let Some(state) = self.breaker_state() {
            reporter.used(Kind::CircuitBreaker, state.name());
        }
    }

    /// Makes the call, as often as the policy says and the call allows.
    /// Dropping the future drops the attempt under way and frees its place in the circuit breaker.
    ///
    /// # Errors
    /// The error of the last attempt, a timeout, or the refusal of the circuit breaker.
    pub async fn run<T, E, Attempt, Again, Classify>(
        &self,
        call: Call<Attempt, Again>,
        classify: Classify,
    ) -> Result<T, Error<E>>
    where
        Attempt: Future<Output = Result<T, E>>,
        Again: FnMut(u32) -> Option<Attempt>,
        Classify: Fn(&E) -> Outcome,
    {
        let Call { first, mut again } = call;
        let Some(rules) = self.rules.as_deref() else {
            return first.await.map_err(Error::Inner);
        };
        // In one place from first to last: attempts are large, and each move would be room in every future around this one.
        let mut slot = pin!(Some(first));
        let mut backoff = rules
            .retry
            .as_deref()
            .map(|retry| Backoff::new(retry.backoff, Instant::now()));
        let mut progress = Progress::default();
        loop {
            progress.attempt = progress.attempt.saturating_add(1);
            let admission = rules.admit()?;
            let attempt = slot.as_mut().as_pin_mut();
            let attempt = attempt.expect("one is put there before each round");
            let result = rules.attempt(attempt, &mut progress).await;
            // One that took too long ends before the pause, not after it.
            slot.set(None);
            let error = match result {
                Ok(value) => {
                    admission.record(Verdict::Success);
                    if progress.attempt > 1 {
                        tracing::info!(attempts = progress.attempt, policy = %rules.name, "recovered");
                    }
                    return Ok(value);
                }
                Err(error) => error,
            };
            let outcome = match &error {
                Error::Inner(inner) => classify(inner),
                Error::Timeout(_) | Error::CircuitOpen | Error::TooManyRequests => {
                    Outcome::Retryable
                }
            };
            admission.record(outcome.verdict());
            let delay = backoff
                .as_mut()
                .filter(|_| rules.allows(outcome))
                .and_then(|backoff| backoff.next(Instant::now(), fastrand::f64()));
            let Some(delay) = delay else {
                return Err(error);
            };
            let Some(next) = again(progress.attempt.saturating_add(1)) else {
                return Err(error);
            };
            slot.set(Some(next));
            rules.retrying(&mut progress, delay);
            tokio::time::sleep(delay).await;
        }
    }
}

/// What one call has been through so far.
#[derive(Default)]
struct Progress {
    attempt: u32,
    reported_timeout: bool,
    reported_retry: bool,
}

impl Rules {
    fn allows(&self, outcome: Outcome) -> bool {
        let retry = self.retry.as_deref();
        retry.is_some_and(|retry| retry.allows(self.covers, outcome))
    }

    async fn attempt<T, E>(
        &self,
        attempt: Pin<&mut impl Future<Output = Result<T, E>>>,
        progress: &mut Progress,
    ) -> Result<T, Error<E>> {
        let Some(limit) = self.timeout else {
            return attempt.await.map_err(Error::Inner);
        };
        if let Ok(result) = tokio::time::timeout(limit, attempt).await {
            return result.map_err(Error::Inner);
        }
        if !std::mem::replace(&mut progress.reported_timeout, true)
            && let Some(reporter) = &self.reporter
        {
            reporter.activated(Kind::Timeout, "");
        }
        Err(Error::Timeout(limit))
    }

    fn retrying(&self, progress: &mut Progress, delay: Duration) {
        // Once per call: a call that is retried for an hour would otherwise fill the log.
        if std::mem::replace(&mut progress.reported_retry, true) {
            return;
        }
        if let Some(reporter) = &self.reporter
            && self.covers == Covers::Failures
        {
            reporter.activated(Kind::Retry, "");
        }
        tracing::warn!(policy = %self.name, ?delay, "call failed, retrying");
    }

    fn admit(&self) -> Result<Admission<'_>, Rejection> {
        let ticket = match &self.breaker {
            Some(breaker) => {
                Some(self.with_breaker(breaker, |breaker| breaker.admit(Instant::now()))?)
            }
            None => None,
        };
        Ok(Admission {
            rules: self,
            ticket,
        })
    }

    /// Every access goes through here, so that no change of state goes unreported.
    fn with_breaker<R>(
        &self,
        breaker: &Mutex<Breaker>,
        access: impl FnOnce(&mut Breaker) -> R,
    ) -> R {
        let mut breaker = breaker.lock();
        let before = breaker.last_state();
        let result = access(&mut breaker);
        let after = breaker.last_state();
        drop(breaker);
        if before != after {
            tracing::info!(policy = %self.name, from = before.name(), to = after.name(), "circuit breaker changed state");
            if let Some(reporter) = &self.reporter {
                reporter.activated(Kind::CircuitBreaker, after.name());
                reporter.breaker_state(after);
            }
        }
        result
    }
}

/// One request's place in the circuit breaker. Dropped without a verdict, it counts as abandoned.
struct Admission<'a> {
    rules: &'a Rules,
    ticket: Option<Ticket>,
}

impl Admission<'_> {
    fn record(mut self, verdict: Verdict) {
        self.settle(verdict);
    }

    fn settle(&mut self, verdict: Verdict) {
        if let (Some(ticket), Some(breaker)) = (self.ticket.take(), &self.rules.breaker) {
            self.rules.with_breaker(breaker, |breaker| {
                breaker.record(ticket, verdict, Instant::now())
            });
        }
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        self.settle(Verdict::Abandoned);
    }
}
