//! Resiliency: named timeouts, retries and circuit breakers, and what they apply to (contract 3.6).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{lenient, resource::resource};

resource! {
    /// Policies for calls to apps, actors and components.
    Resiliency: "Resiliency", "resiliencies", "v1alpha1", Spec, [scopes] scopes
}

/// Policies and their targets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Spec {
    /// Policies by name.
    #[serde(deserialize_with = "lenient::or_default")]
    pub policies: Policies,
    /// What the policies apply to.
    #[serde(deserialize_with = "lenient::or_default")]
    pub targets: Targets,
}

/// Policies by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Policies {
    /// Timeouts, as Go durations.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "lenient::or_default"
    )]
    pub timeouts: BTreeMap<String, String>,
    /// Retries.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "lenient::or_default"
    )]
    pub retries: BTreeMap<String, Retry>,
    /// Circuit breakers.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "lenient::or_default"
    )]
    pub circuit_breakers: BTreeMap<String, CircuitBreaker>,
}

/// When and how often a failed call is tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Retry {
    /// `constant` or `exponential`; constant when left out.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub policy: Option<String>,
    /// Pause between attempts of the constant policy, as a Go duration; 5s when left out.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub duration: Option<String>,
    /// Longest pause of the exponential policy, as a Go duration; 60s when left out.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub max_interval: Option<String>,
    /// Attempts after the first; -1, also when left out, means without end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<i64>,
    /// Which failures are tried again; all when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matching: Option<RetryMatching>,
}

/// Status codes that are tried again: comma-separated codes and ranges, e.g. `429,500-599`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RetryMatching {
    /// HTTP status codes.
    #[serde(
        rename = "httpStatusCodes",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub http_status_codes: Option<String>,
    /// gRPC status codes.
    #[serde(
        rename = "gRPCStatusCodes",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub grpc_status_codes: Option<String>,
}

/// When calls to a failing target are refused without trying.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CircuitBreaker {
    /// Calls let through while the breaker is half open; 1 when left out.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::count"
    )]
    pub max_requests: Option<i64>,
    /// How often a closed breaker clears its counts, as a Go duration; never when left out.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub interval: Option<String>,
    /// How long the breaker stays open, as a Go duration; 60s when left out.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub timeout: Option<String>,
    /// CEL expression that opens the breaker; `consecutiveFailures > 5` when left out.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub trip: Option<String>,
}

/// What policies apply to, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Targets {
    /// Calls to apps, by app ID.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "lenient::or_default"
    )]
    pub apps: BTreeMap<String, AppPolicyNames>,
    /// Calls to actors, by actor type.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "lenient::or_default"
    )]
    pub actors: BTreeMap<String, ActorPolicyNames>,
    /// Calls to and from components, by component name.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "lenient::or_default"
    )]
    pub components: BTreeMap<String, ComponentPolicyNames>,
}

/// Policies for calls to an app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AppPolicyNames {
    /// Name of a timeout.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub timeout: Option<String>,
    /// Name of a retry.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub retry: Option<String>,
    /// Name of a circuit breaker.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub circuit_breaker: Option<String>,
    /// Circuit breakers kept for the app, one per endpoint; 100 when left out.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::count"
    )]
    pub circuit_breaker_cache_size: Option<i64>,
}

/// Policies for calls to an actor type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ActorPolicyNames {
    /// Name of a timeout.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub timeout: Option<String>,
    /// Name of a retry.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub retry: Option<String>,
    /// Name of a circuit breaker.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub circuit_breaker: Option<String>,
    /// What shares a circuit breaker: `type`, `id` or `both`.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub circuit_breaker_scope: Option<String>,
    /// Circuit breakers kept for the actor type; 5000 when left out.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::count"
    )]
    pub circuit_breaker_cache_size: Option<i64>,
}

/// Policies for a component, by direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ComponentPolicyNames {
    /// Deliveries from the component to the app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inbound: Option<PolicyNames>,
    /// Calls to the component.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outbound: Option<PolicyNames>,
}

/// Policies for one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyNames {
    /// Name of a timeout.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub timeout: Option<String>,
    /// Name of a retry.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub retry: Option<String>,
    /// Name of a circuit breaker.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub circuit_breaker: Option<String>,
}
