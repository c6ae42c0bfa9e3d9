//! Resiliency: named timeouts, retries and circuit breakers, and what they apply to (contract 3.6).

use std::collections::BTreeMap;

use macro_rules_attribute::apply;

use crate::{lenient, object::object, resource::resource};

resource! {
    /// Policies for calls to apps, actors and components.
    Resiliency: "Resiliency", "resiliencies", "v1alpha1", Spec, [scopes] scopes
}

/// Policies and their targets.
#[apply(object)]
pub struct Spec {
    /// Policies by name.
    #[serde(deserialize_with = "lenient::or_default")]
    pub policies: Policies,
    /// What the policies apply to.
    #[serde(deserialize_with = "lenient::or_default")]
    pub targets: Targets,
    /// What is no field of this object: nothing reads it, but it may be a field that somebody meant.
    #[serde(flatten)]
    #[serde_with(skip_apply)]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

/// Policies by name.
#[apply(object)]
pub struct Policies {
    /// Timeouts, as Go durations.
    pub timeouts: BTreeMap<String, String>,
    /// Retries.
    pub retries: BTreeMap<String, Retry>,
    /// Circuit breakers.
    pub circuit_breakers: BTreeMap<String, CircuitBreaker>,
    /// What is no field of this object: nothing reads it, but it may be a field that somebody meant.
    #[serde(flatten)]
    #[serde_with(skip_apply)]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

/// When and how often a failed call is tried again.
#[apply(object)]
pub struct Retry {
    /// `constant` or `exponential`; constant when left out.
    pub policy: Option<String>,
    /// Pause between attempts of the constant policy, as a Go duration; 5s when left out.
    pub duration: Option<String>,
    /// Longest pause of the exponential policy, as a Go duration; 60s when left out.
    pub max_interval: Option<String>,
    /// Attempts after the first; -1, also when left out, means without end.
    pub max_retries: Option<i64>,
    /// Which failures are tried again; all when left out.
    pub matching: Option<RetryMatching>,
    /// What is no field of this object: nothing reads it, but it may be a field that somebody meant.
    #[serde(flatten)]
    #[serde_with(skip_apply)]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

/// Status codes that are tried again: comma-separated codes and ranges, e.g. `429,500-599`.
#[apply(object)]
pub struct RetryMatching {
    /// HTTP status codes.
    #[serde(rename = "httpStatusCodes")]
    pub http_status_codes: Option<String>,
    /// gRPC status codes.
    #[serde(rename = "gRPCStatusCodes")]
    pub grpc_status_codes: Option<String>,
    /// What is no field of this object: nothing reads it, but it may be a field that somebody meant.
    #[serde(flatten)]
    #[serde_with(skip_apply)]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

/// When calls to a failing target are refused without trying.
#[apply(object)]
pub struct CircuitBreaker {
    /// Calls let through while the breaker is half open; 1 when left out.
    #[serde(deserialize_with = "lenient::count")]
    pub max_requests: Option<i64>,
    /// How often a closed breaker clears its counts, as a Go duration; never when left out.
    pub interval: Option<String>,
    /// How long the breaker stays open, as a Go duration; 60s when left out.
    pub timeout: Option<String>,
    /// CEL expression that opens the breaker; `consecutiveFailures > 5` when left out.
    pub trip: Option<String>,
    /// What is no field of this object: nothing reads it, but it may be a field that somebody meant.
    #[serde(flatten)]
    #[serde_with(skip_apply)]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

/// What policies apply to, by name.
#[apply(object)]
pub struct Targets {
    /// Calls to apps, by app ID.
    pub apps: BTreeMap<String, AppPolicyNames>,
    /// Calls to actors, by actor type.
    pub actors: BTreeMap<String, ActorPolicyNames>,
    /// Calls to and from components, by component name.
    pub components: BTreeMap<String, ComponentPolicyNames>,
    /// What is no field of this object: nothing reads it, but it may be a field that somebody meant.
    #[serde(flatten)]
    #[serde_with(skip_apply)]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

/// Policies for calls to an app.
#[apply(object)]
pub struct AppPolicyNames {
    /// Name of a timeout.
    pub timeout: Option<String>,
    /// Name of a retry.
    pub retry: Option<String>,
    /// Name of a circuit breaker.
    pub circuit_breaker: Option<String>,
    /// Circuit breakers kept for the app, one per endpoint; 100 when left out.
    #[serde(deserialize_with = "lenient::count")]
    pub circuit_breaker_cache_size: Option<i64>,
    /// What is no field of this object: nothing reads it, but it may be a field that somebody meant.
    #[serde(flatten)]
    #[serde_with(skip_apply)]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

/// Policies for calls to an actor type.
#[apply(object)]
pub struct ActorPolicyNames {
    /// Name of a timeout.
    pub timeout: Option<String>,
    /// Name of a retry.
    pub retry: Option<String>,
    /// Name of a circuit breaker.
    pub circuit_breaker: Option<String>,
    /// What shares a circuit breaker: `type`, `id` or `both`.
    pub circuit_breaker_scope: Option<String>,
    /// Circuit breakers kept for the actor type; 5000 when left out.
    #[serde(deserialize_with = "lenient::count")]
    pub circuit_breaker_cache_size: Option<i64>,
    /// What is no field of this object: nothing reads it, but it may be a field that somebody meant.
    #[serde(flatten)]
    #[serde_with(skip_apply)]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

/// Policies for a component, by direction.
#[apply(object)]
pub struct ComponentPolicyNames {
    /// Deliveries from the component to the app.
    pub inbound: Option<PolicyNames>,
    /// Calls to the component.
    pub outbound: Option<PolicyNames>,
    /// What is no field of this object: nothing reads it, but it may be a field that somebody meant.
    #[serde(flatten)]
    #[serde_with(skip_apply)]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

/// Policies for one direction.
#[apply(object)]
pub struct PolicyNames {
    /// Name of a timeout.
    pub timeout: Option<String>,
    /// Name of a retry.
    pub retry: Option<String>,
    /// Name of a circuit breaker.
    pub circuit_breaker: Option<String>,
    /// What is no field of this object: nothing reads it, but it may be a field that somebody meant.
    #[serde(flatten)]
    #[serde_with(skip_apply)]
    #[schemars(skip)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}
