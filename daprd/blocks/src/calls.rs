//! One component call: under its policy, counted and timed; a panic in it is its error.

use std::{future::Future, panic::AssertUnwindSafe, time::Instant};

use component::{Error, ErrorKind};
use futures::FutureExt;
use resiliency::{Outcome, Policy, policy, repeatable};
use telemetry::{Counter, Histogram, Meter};

/// The calls of one kind, and their count and latency (contract 10.8: `component/<kind>/count`, `latencies`) where they are
/// counted.
pub struct Calls {
    counted: Option<(Counter, Histogram)>,
    namespace: String,
}

const LABELS: [&str; 4] = ["component", "namespace", "operation", "success"];

impl Calls {
    pub fn new(meter: &Meter, kind: Option<&str>, namespace: &str) -> Self {
        let counted = kind.map(|kind| {
            let count = meter.counter(
                &format!("component/{kind}/count"),
                "Calls of a component",
                &LABELS,
            );
            let latencies = meter.latency(
                &format!("component/{kind}/latencies"),
                "Latency of the calls of a component, in milliseconds",
                &LABELS,
            );
            (count, latencies)
        });
        Self {
            counted,
            namespace: namespace.to_owned(),
        }
    }

    /// Runs `attempt` under `policy`. Only failures that may pass by themselves are tried again, and those with a gRPC code of
    /// which `judge` says so.
    pub async fn run<T, F, Fut>(
        &self,
        policy: &Policy,
        component: &str,
        operation: &str,
        judge: impl Fn(i32) -> Outcome,
        mut attempt: F,
    ) -> Result<T, Error>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let began = Instant::now();
        let result = policy
            .run(
                repeatable(|_| guarded(component, operation, attempt())),
                |error| outcome(error, &judge),
            )
            .await
            .map_err(flatten);
        let success = if result.is_ok() { "true" } else { "false" };
        let labels = [component, self.namespace.as_str(), operation, success];
        if let Some((count, latencies)) = &self.counted {
            count.add(&labels, 1);
            latencies.observe_duration(&labels, began.elapsed());
        }
        result
    }
}

/// Runs a call of a component; a panic in it is its error.
pub async fn guarded<T>(
    component: &str,
    operation: &str,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let outcome = AssertUnwindSafe(call).catch_unwind().await;
    outcome.unwrap_or_else(|_| Err(panicked(component, operation)))
}

/// The panic itself is counted and logged where all are, by the program's hook; here it gets the name of its component.
fn panicked(component: &str, operation: &str) -> Error {
    tracing::error!(target: "dapr.runtime", "component {component} panicked in {operation}");
    Error::new(
        ErrorKind::Internal,
        format!("component {component} panicked in {operation}"),
    )
}

/// Failures of the caller's own making are answers: they neither retry nor count against the circuit breaker. What a gRPC code
/// is, `judge` says.
fn outcome(error: &Error, judge: impl Fn(i32) -> Outcome) -> Outcome {
    match error.grpc_code() {
        Some(code) => judge(code),
        None if error.kind().is_transient() => Outcome::Retryable,
        None => Outcome::Permanent,
    }
}

/// A policy's own verdict becomes the component error that a caller would have seen from a backend that is away.
fn flatten(error: policy::Error<Error>) -> Error {
    match error {
        policy::Error::Inner(error) => error,
        other => Error::new(ErrorKind::Unavailable, other.to_string()),
    }
}
