//! Policies against calls that succeed, fail, hang and are dropped, in paused time.

use std::cell::Cell;
use std::future::pending;
use std::time::Duration;

use super::*;
use crate::backoff::Growth;
use crate::breaker::Settings;
use crate::matching::Codes;

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("status {0}")]
struct Status(u16);

fn http(status: &Status) -> Outcome {
    Outcome::Http(status.0)
}

fn rules() -> Rules {
    Rules {
        name: "test".to_owned(),
        timeout: None,
        retry: None,
        breaker: None,
        covers: Covers::Failures,
        reporter: None,
    }
}

fn retry(max_retries: Option<u32>) -> Retry {
    Retry {
        backoff: backoff::Settings {
            growth: Growth::Constant {
                delay: Duration::from_secs(1),
            },
            max_retries,
        },
        matching: Matching::default(),
    }
}

fn retrying(max_retries: Option<u32>) -> Policy {
    Policy::new(Rules {
        retry: Some(Arc::new(retry(max_retries))),
        ..rules()
    })
}

fn guarded(settings: Settings) -> Policy {
    Policy::new(Rules {
        breaker: Some(Mutex::new(Breaker::new(settings, Instant::now()))),
        ..rules()
    })
}

fn trips_at_once() -> Settings {
    Settings {
        trip: Some(expressions::Expression::compile("totalFailures > 0").unwrap()),
        ..Settings::default()
    }
}

#[tokio::test]
async fn no_policy_is_the_call_itself() {
    let policy = Policy::default();
    assert!(policy.is_none() && !policy.has_retries());
    let calls = Cell::new(0);
    let result = policy
        .run(
            repeatable(|attempt| {
                calls.set(calls.get() + attempt);
                async { Err::<(), _>(Status(500)) }
            }),
            http,
        )
        .await;
    assert!(matches!(result, Err(Error::Inner(Status(500)))));
    assert_eq!(calls.get(), 1);
    assert!(Policy::new(rules()).is_none());
}

#[tokio::test(start_paused = true)]
async fn retries_until_the_call_succeeds() {
    let started = Instant::now();
    let result = retrying(Some(5))
        .run(
            repeatable(|attempt| async move {
                if attempt < 4 {
                    Err(Status(503))
                } else {
                    Ok(attempt)
                }
            }),
            http,
        )
        .await;
    assert_eq!(result.unwrap(), 4);
    assert_eq!(started.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn retries_end_with_the_last_error() {
    let calls = Cell::new(0);
    let result = retrying(Some(2))
        .run(
            repeatable(|attempt| {
                calls.set(attempt);
                async move { Err::<(), _>(Status(500 + attempt as u16)) }
            }),
            http,
        )
        .await;
    assert!(matches!(result, Err(Error::Inner(Status(503)))));
    assert_eq!(calls.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn codes_and_outcomes_decide_what_is_retried() {
    let mut matching = retry(Some(1));
    matching.matching.http = Codes::parse("500-599", &crate::matching::HTTP_CODES).unwrap();
    matching.matching.grpc = Codes::parse("14", &crate::matching::GRPC_CODES).unwrap();
    let policy = Policy::new(Rules {
        retry: Some(Arc::new(matching)),
        ..rules()
    });
    for (outcome, attempts) in [
        (Outcome::Http(500), 2),
        (Outcome::Http(404), 1),
        (Outcome::Grpc(14), 2),
        (Outcome::Grpc(5), 1),
        (Outcome::Retryable, 2),
        (Outcome::Permanent, 1),
        (Outcome::Success, 1),
    ] {
        let calls = Cell::new(0);
        let result: Result<(), _> = policy
            .run(
                repeatable(|attempt| {
                    calls.set(attempt);
                    async { Err(Status(1)) }
                }),
                |_| outcome,
            )
            .await;
        assert!(result.is_err());
        assert_eq!(calls.get(), attempts, "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_attempt_has_its_own_timeout() {
    let policy = Policy::new(Rules {
        timeout: Some(Duration::from_secs(2)),
        retry: Some(Arc::new(retry(Some(2)))),
        ..rules()
    });
    let started = Instant::now();
    let result: Result<(), Error<Status>> = policy.run(repeatable(|_| pending()), http).await;
    assert!(matches!(result, Err(Error::Timeout(after)) if after == Duration::from_secs(2)));
    assert_eq!(started.elapsed(), Duration::from_secs(3 * 2 + 2));
    let result = policy
        .run(
            repeatable(|attempt| async move {
                if attempt == 1 {
                    pending::<()>().await;
                }
                Ok::<_, Status>(attempt)
            }),
            http,
        )
        .await;
    assert_eq!(result.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_refuses_and_closes_again() {
    let policy = guarded(trips_at_once());
    let fail = |_| async { Err::<(), _>(Status(500)) };
    assert!(matches!(
        policy.run(repeatable(fail), http).await,
        Err(Error::Inner(_))
    ));
    assert_eq!(policy.breaker_state(), Some(State::Open));
    let refused = policy
        .run(repeatable(|_| async { panic!("not called") }), http)
        .await;
    assert!(matches!(refused, Err::<(), _>(Error::CircuitOpen)));
    tokio::time::advance(Duration::from_secs(61)).await;
    let answer = policy
        .run(repeatable(|_| async { Ok::<_, Status>(7) }), http)
        .await;
    assert_eq!(answer.unwrap(), 7);
    assert_eq!(policy.breaker_state(), Some(State::Closed));
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_ends_retries() {
    let policy = Policy::new(Rules {
        retry: Some(Arc::new(retry(None))),
        breaker: Some(Mutex::new(Breaker::new(trips_at_once(), Instant::now()))),
        ..rules()
    });
    let result: Result<(), _> = policy
        .run(repeatable(|_| async { Err(Status(500)) }), http)
        .await;
    assert!(matches!(result, Err(Error::CircuitOpen)));
}

#[tokio::test]
async fn what_only_looks_like_an_error_keeps_the_breaker_closed() {
    let policy = guarded(trips_at_once());
    let result: Result<(), _> = policy
        .run(repeatable(|_| async { Err(Status(404)) }), |_| {
            Outcome::Success
        })
        .await;
    assert!(matches!(result, Err(Error::Inner(Status(404)))));
    assert_eq!(policy.breaker_state(), Some(State::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_probe_does_not_block_the_breaker() {
    let policy = guarded(trips_at_once());
    let fail = |_| async { Err::<(), _>(Status(500)) };
    policy.run(repeatable(fail), http).await.unwrap_err();
    tokio::time::advance(Duration::from_secs(61)).await;
    {
        let probe = policy.run(repeatable(|_| pending::<Result<(), Status>>()), http);
        let probe = tokio::time::timeout(Duration::from_secs(1), probe).await;
        assert!(probe.is_err(), "the probe hangs and is dropped");
    }
    assert_eq!(policy.breaker_state(), Some(State::HalfOpen));
    policy
        .run(repeatable(|_| async { Ok::<_, Status>(()) }), http)
        .await
        .unwrap();
    assert_eq!(policy.breaker_state(), Some(State::Closed));
}

#[tokio::test(start_paused = true)]
async fn one_probe_at_a_time() {
    let policy = guarded(trips_at_once());
    let fail = |_| async { Err::<(), _>(Status(500)) };
    policy.run(repeatable(fail), http).await.unwrap_err();
    tokio::time::advance(Duration::from_secs(61)).await;
    let slow = policy.run(
        repeatable(|_| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, Status>(())
        }),
        http,
    );
    let second = async {
        tokio::task::yield_now().await;
        policy
            .run(repeatable(|_| async { Ok::<_, Status>(()) }), http)
            .await
    };
    let (slow, second) = futures::future::join(slow, second).await;
    slow.unwrap();
    assert!(matches!(second, Err(Error::TooManyRequests)));
}

#[tokio::test(start_paused = true)]
async fn a_call_says_whether_it_can_be_repeated_and_nothing_repeats_it_otherwise() {
    let policy = Policy::new(Rules {
        timeout: Some(Duration::from_secs(1)),
        retry: Some(Arc::new(retry(None))),
        ..rules()
    });
    let started = Instant::now();
    let result: Result<(), Error<Status>> = policy.run(Call::once(pending()), http).await;
    assert!(matches!(result, Err(Error::Timeout(_))));
    assert_eq!(started.elapsed(), Duration::from_secs(1));
    for outcome in [
        Outcome::Retryable,
        Outcome::Unreached,
        Outcome::Http(503),
        Outcome::Grpc(14),
    ] {
        let attempt = async { Err::<(), _>(Status(503)) };
        let result = policy.run(Call::once(attempt), |_| outcome).await;
        assert!(matches!(result, Err(Error::Inner(Status(503)))));
    }
    let attempt = |number: u32| async move { Err::<(), _>(Status(number as u16)) };
    let twice = Call::new(attempt(1), |number| (number < 3).then(|| attempt(number)));
    let result = policy.run(twice, http).await;
    assert!(matches!(result, Err(Error::Inner(Status(2)))));
}

#[tokio::test]
async fn what_the_caller_did_is_not_held_against_the_target() {
    let policy = guarded(trips_at_once());
    let attempt = async { Err::<(), _>(Status(1)) };
    let result = policy
        .run(Call::once(attempt), |_| Outcome::Abandoned)
        .await;
    assert!(result.is_err());
    assert_eq!(policy.breaker_state(), Some(State::Closed));
}

#[test]
fn errors_read_like_a_sentence() {
    let open: Error<Status> = Error::CircuitOpen;
    assert_eq!(open.to_string(), "circuit breaker is open");
    assert_eq!(Error::Inner(Status(500)).to_string(), "status 500");
    assert_eq!(
        Error::Inner(Status(500))
            .map(|status| status.0)
            .into_inner(),
        Some(500)
    );
}
