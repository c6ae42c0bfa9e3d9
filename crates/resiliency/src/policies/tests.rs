//! Resources in, policies out: lookups, overrides, errors and metrics.

use std::time::Duration;

use super::*;
use crate::backoff::{Growth, Settings};
use crate::breaker::State;
use crate::matching::{Codes, HTTP_CODES};
use crate::policy::{Outcome, repeatable};

fn resource(name: &str, spec: serde_json::Value) -> crds::Resiliency {
    let mut resource: crds::Resiliency =
        serde_json::from_value(serde_json::json!({ "spec": spec })).unwrap();
    resource.metadata.name = Some(name.to_owned());
    resource
}

fn meter() -> (prometheus::Registry, Meter) {
    let registry = prometheus::Registry::new();
    let meter = Meter::new(&registry, telemetry::MetricOptions::default()).unwrap();
    (registry, meter)
}

fn compile(spec: serde_json::Value) -> Arc<Policies> {
    Policies::compile(&[resource("test", spec)], meter().1).unwrap()
}

fn app(policies: &Policies, app_id: &str) -> Policy {
    policies.app_endpoint(app_id, &format!("{app_id}:method"))
}

/// Whether a call that fails with `outcome` is made again.
async fn retries(policy: &Policy, outcome: Outcome) -> bool {
    let calls = std::cell::Cell::new(0);
    let attempt = |number| {
        calls.set(number);
        async move { if number == 1 { Err(()) } else { Ok(()) } }
    };
    let result = policy.run(repeatable(attempt), |()| outcome).await;
    assert_eq!(result.is_ok(), calls.get() > 1);
    calls.get() > 1
}

fn metric(registry: &prometheus::Registry, name: &str, labels: &[(&str, &str)]) -> f64 {
    registry
        .gather()
        .iter()
        .filter(|family| family.name() == name)
        .flat_map(|family| family.get_metric())
        .filter(|metric| {
            labels.iter().all(|(key, value)| {
                metric
                    .get_label()
                    .iter()
                    .any(|label| label.name() == *key && label.value() == *value)
            })
        })
        .map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
        .sum()
}

#[test]
fn without_resources_there_are_only_built_in_retries() {
    let policies = Policies::default();
    assert!(!app(&policies, "a").judges_answers());
    assert!(policies.actor("t", "1").is_none());
    assert!(policies.actor_turn("t").is_none());
    assert!(
        policies
            .component_outbound("c", ComponentKind::Statestore)
            .is_none()
    );
    assert!(
        policies
            .component_inbound("c", ComponentKind::Pubsub)
            .is_none()
    );
    for (builtin, retries) in
        Builtin::ALL
            .into_iter()
            .zip([Some(3), Some(3), None, Some(3), Some(5)])
    {
        let policy = policies.builtin(builtin);
        assert_eq!(
            policy.retry().unwrap().backoff.max_retries,
            retries,
            "{builtin:?}"
        );
        assert!(policy.has_retries());
    }
}

#[test]
fn targets_get_the_policies_they_name() {
    let policies = compile(serde_json::json!({
        "policies": {
            "timeouts": {"short": "5s", "plain": "250", "none": "0s"},
            "retries": {
                "often": {"policy": "Exponential", "maxInterval": "15s", "maxRetries": 10},
                "some": {"duration": "200ms", "maxRetries": 2, "matching": {"httpStatusCodes": "429,500-599"}},
                "endless": {},
            },
            "circuitBreakers": {"cb": {"maxRequests": 2, "interval": "8s", "timeout": "45s", "trip": "consecutiveFailures > 8"}},
        },
        "targets": {
            "apps": {"shop": {"timeout": "short", "retry": "some", "circuitBreaker": "cb"}, "bare": {}, "typo": {"retry": "nothing"}},
            "actors": {"Cart": {"timeout": "plain", "retry": "often", "circuitBreaker": "cb", "circuitBreakerScope": "both"}},
            "components": {"store": {"outbound": {"retry": "endless", "timeout": "none"}, "inbound": {"timeout": "short"}}},
        },
    }));
    let shop = app(&policies, "shop");
    assert_eq!(shop.timeout(), Some(Duration::from_secs(5)));
    let retry = shop.retry().unwrap();
    assert_eq!(
        retry.backoff,
        Settings {
            growth: Growth::Constant {
                delay: Duration::from_millis(200)
            },
            max_retries: Some(2)
        }
    );
    assert_eq!(
        retry.matching.http,
        Codes::parse("429,500-599", &HTTP_CODES).unwrap()
    );
    assert_eq!(shop.breaker_state(), Some(State::Closed));
    assert!(policies.names_app("bare") && app(&policies, "bare").is_none());
    assert!(policies.names_app("typo") && app(&policies, "typo").is_none());
    assert!(!policies.names_app("other"));

    let call = policies.actor("Cart", "1");
    assert_eq!(
        (call.timeout(), call.breaker_state()),
        (None, Some(State::Closed))
    );
    assert_eq!(
        call.retry().unwrap().backoff,
        Settings {
            growth: Growth::exponential(Duration::from_secs(15)),
            max_retries: Some(10)
        }
    );
    let turn = policies.actor_turn("Cart");
    assert_eq!(turn.timeout(), Some(Duration::from_millis(250)));
    assert!(turn.retry().is_none() && turn.breaker_state().is_none());

    let outbound = policies.component_outbound("store", ComponentKind::Statestore);
    assert_eq!(outbound.timeout(), None);
    assert_eq!(
        outbound.retry().unwrap().backoff,
        Settings {
            growth: Growth::Constant {
                delay: Duration::from_secs(5)
            },
            max_retries: None
        }
    );
    let inbound = policies.component_inbound("store", ComponentKind::Statestore);
    assert_eq!(inbound.timeout(), Some(Duration::from_secs(5)));
    assert!(inbound.retry().is_none());
}

async fn fail(policy: &Policy) {
    let result: Result<(), _> = policy
        .run(repeatable(|_| async { Err(()) }), |()| Outcome::Permanent)
        .await;
    assert!(result.is_err());
}

fn guarded_targets() -> serde_json::Value {
    serde_json::json!({
        "policies": {"circuitBreakers": {
            "cb": {"trip": "totalFailures > 0"},
            "DefaultCircuitBreakerPolicy": {"trip": "totalFailures > 0"},
        }},
        "targets": {
            "apps": {"shop": {"circuitBreaker": "cb", "circuitBreakerCacheSize": 2}},
            "actors": {
                "ById": {"circuitBreaker": "cb", "circuitBreakerScope": "id"},
                "ByType": {"circuitBreaker": "cb", "circuitBreakerScope": "type"},
            },
        },
    })
}

#[tokio::test]
async fn circuit_breakers_are_per_endpoint_and_bounded() {
    let policies = compile(guarded_targets());
    fail(&policies.app_endpoint("shop", "shop:a")).await;
    assert_eq!(
        policies.app_endpoint("shop", "shop:a").breaker_state(),
        Some(State::Open)
    );
    assert_eq!(
        policies.app_endpoint("shop", "shop:b").breaker_state(),
        Some(State::Closed)
    );
    for other in 0..10 {
        policies.app_endpoint("shop", &format!("shop:{other}"));
    }
    assert_eq!(
        policies.app_endpoint("shop", "shop:a").breaker_state(),
        Some(State::Closed)
    );

    fail(&policies.actor("ById", "1")).await;
    assert_eq!(
        policies.actor("ById", "1").breaker_state(),
        Some(State::Open)
    );
    assert_eq!(
        policies.actor("ById", "2").breaker_state(),
        Some(State::Closed)
    );
    fail(&policies.actor("ByType", "1")).await;
    assert_eq!(
        policies.actor("ByType", "2").breaker_state(),
        Some(State::Open)
    );
}

#[tokio::test]
async fn targets_under_a_default_policy_do_not_share_a_breaker() {
    let policies = compile(guarded_targets());
    fail(&app(&policies, "one")).await;
    assert_eq!(app(&policies, "one").breaker_state(), Some(State::Open));
    assert_eq!(app(&policies, "two").breaker_state(), Some(State::Closed));
    let kind = ComponentKind::Pubsub;
    fail(&policies.component_outbound("bus", kind)).await;
    assert_eq!(
        policies.component_outbound("bus", kind).breaker_state(),
        Some(State::Open)
    );
    assert_eq!(
        policies.component_inbound("bus", kind).breaker_state(),
        Some(State::Closed)
    );
}

#[test]
fn the_most_specific_default_wins() {
    let policies = compile(serde_json::json!({"policies": {"timeouts": {
        "DefaultTimeoutPolicy": "1s",
        "DefaultAppTimeoutPolicy": "2s",
        "DefaultComponentTimeoutPolicy": "3s",
        "DefaultComponentOutboundTimeoutPolicy": "4s",
        "DefaultStatestoreComponentOutboundTimeoutPolicy": "5s",
    }}}));
    let seconds = |policy: Policy| policy.timeout().unwrap().as_secs();
    assert_eq!(seconds(policies.actor_turn("t")), 1);
    assert_eq!(seconds(app(&policies, "a")), 2);
    assert_eq!(
        seconds(policies.component_inbound("c", ComponentKind::Pubsub)),
        3
    );
    assert_eq!(
        seconds(policies.component_outbound("c", ComponentKind::Pubsub)),
        4
    );
    assert_eq!(
        seconds(policies.component_outbound("c", ComponentKind::Statestore)),
        5
    );
    assert!(
        policies.actor("t", "1").is_none(),
        "no timeout before the lock is held"
    );
}

#[tokio::test(start_paused = true)]
async fn apps_without_retries_have_the_built_in_ones_for_what_did_not_get_through() {
    let nothing = Policies::default();
    let timeout =
        compile(serde_json::json!({"policies": {"timeouts": {"DefaultTimeoutPolicy": "1s"}}}));
    let default = compile(serde_json::json!({"policies": {"retries": {
        "DefaultAppRetryPolicy": {"maxRetries": 1, "matching": {"httpStatusCodes": "503"}},
    }}}));
    let named = compile(serde_json::json!({"targets": {"apps": {"a": {}}}}));
    for (policies, unreached, failed) in [
        (&nothing, true, false),
        (&timeout, true, false),
        (&default, true, true),
        (&named, false, false),
    ] {
        let policy = app(policies, "a");
        assert_eq!(retries(&policy, Outcome::Unreached).await, unreached);
        assert_eq!(retries(&policy, Outcome::Retryable).await, failed);
        assert_eq!(retries(&policy, Outcome::Http(503)).await, failed);
        assert!(!retries(&policy, Outcome::Http(404)).await);
        assert_eq!(policy.judges_answers(), failed);
    }
    assert_eq!(app(&timeout, "a").timeout(), Some(Duration::from_secs(1)));
    assert_eq!(
        app(&default, "a").retry().unwrap().backoff.max_retries,
        Some(1)
    );
}

#[test]
fn overrides_of_built_ins_keep_a_minimum() {
    let policies = compile(serde_json::json!({"policies": {"retries": {
        "DaprBuiltInServiceRetries": {"duration": "10ms", "maxRetries": 1},
        "DaprBuiltInActorRetries": {"duration": "10ms"},
        "DaprBuiltInInitializationRetries": {"maxRetries": 7},
        "DaprBuiltInActorNotFoundRetries": {"maxRetries": 50},
    }}}));
    let retries = |builtin| {
        policies
            .builtin(builtin)
            .retry()
            .unwrap()
            .backoff
            .max_retries
    };
    assert_eq!(retries(Builtin::ServiceRetries), Some(3));
    assert_eq!(retries(Builtin::ActorRetries), Some(3));
    assert_eq!(retries(Builtin::InitializationRetries), Some(7));
    assert_eq!(retries(Builtin::ActorNotFoundRetries), Some(5));
}

#[test]
fn later_resources_win_and_bad_ones_are_left_out_whole() {
    let good = |name, time: &str| {
        resource(
            name,
            serde_json::json!({"policies": {"timeouts": {"DefaultTimeoutPolicy": time}}}),
        )
    };
    let bad = resource(
        "bad",
        serde_json::json!({"policies": {"timeouts": {"DefaultTimeoutPolicy": "9s"}, "retries": {"r": {"duration": "soon"}}}}),
    );
    let (policies, errors) =
        Policies::load(&[good("one", "1s"), good("two", "2s"), bad], meter().1);
    assert_eq!(app(&policies, "a").timeout(), Some(Duration::from_secs(2)));
    assert_eq!(errors.len(), 1);
    assert_eq!(
        errors[0].to_string(),
        "resiliency policy bad: retry r: field duration"
    );
}

#[test]
fn every_bad_field_is_named() {
    for (spec, place) in [
        (
            serde_json::json!({"policies": {"timeouts": {"t": "5 apples"}}}),
            "timeout t: field timeout",
        ),
        (
            serde_json::json!({"policies": {"retries": {"r": {"policy": "linear"}}}}),
            "retry r: field policy",
        ),
        (
            serde_json::json!({"policies": {"retries": {"r": {"maxInterval": "x"}}}}),
            "retry r: field maxInterval",
        ),
        (
            serde_json::json!({"policies": {"retries": {"r": {"matching": {"gRPCStatusCodes": "99"}}}}}),
            "retry r: field matching.gRPCStatusCodes",
        ),
        (
            serde_json::json!({"policies": {"circuitBreakers": {"c": {"trip": "requests >"}}}}),
            "circuit breaker c: field trip",
        ),
        (
            serde_json::json!({"policies": {"circuitBreakers": {"c": {"maxRequests": -1}}}}),
            "circuit breaker c: field maxRequests",
        ),
        (
            serde_json::json!({"targets": {"actors": {"A": {"circuitBreaker": "c"}}}}),
            "target actor A: field circuitBreakerScope",
        ),
        (
            serde_json::json!({"targets": {"apps": {"a": {"circuitBreakerCacheSize": -5}}}}),
            "target app a: field circuitBreakerCacheSize",
        ),
    ] {
        let error = Policies::compile(&[resource("mine", spec)], meter().1).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("resiliency policy mine: {place}")
        );
        assert!(std::error::Error::source(&error).is_some());
    }
}

#[tokio::test]
async fn metrics_count_what_is_loaded_picked_and_activated() {
    let (registry, meter) = meter();
    let resource = resource(
        "mine",
        serde_json::json!({
            "policies": {"timeouts": {"t": "5s"}, "circuitBreakers": {"cb": {"trip": "totalFailures > 0"}}},
            "targets": {"components": {"store": {"outbound": {"timeout": "t", "circuitBreaker": "cb"}}}},
        }),
    );
    let policies = Policies::compile(&[resource], meter).unwrap();
    let policy = policies.component_outbound("store", ComponentKind::Statestore);
    let target = ("target", "Statestore_store");
    for (status, value) in [("open", 0.0), ("closed", 1.0), ("half-open", 0.0)] {
        let labels = [target, ("status", status)];
        let state = metric(&registry, "dapr_resiliency_cb_state", &labels);
        assert!(
            (state - value).abs() < 0.1,
            "{status} before the first call"
        );
    }
    fail(&policy).await;
    assert!((metric(&registry, "dapr_resiliency_loaded", &[("name", "mine")]) - 1.0).abs() < 0.1);
    let count = metric(
        &registry,
        "dapr_resiliency_count",
        &[
            target,
            ("policy", "timeout"),
            ("flow_direction", "outbound"),
        ],
    );
    assert!((count - 1.0).abs() < 0.1);
    let opened = metric(
        &registry,
        "dapr_resiliency_activations_total",
        &[target, ("policy", "circuitbreaker"), ("status", "open")],
    );
    assert!((opened - 1.0).abs() < 0.1);
    for (status, value) in [("open", 1.0), ("closed", 0.0), ("half-open", 0.0)] {
        let state = metric(
            &registry,
            "dapr_resiliency_cb_state",
            &[target, ("status", status)],
        );
        assert!((state - value).abs() < 0.1, "{status}");
    }
}
