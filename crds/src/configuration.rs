//! Configuration: settings that sidecars share, and those of the control plane (contract 3.4).
//!
//! Fields stay as they were written; what holds when a field is left out is the business of the
//! methods here, so that every reader sees the same defaults.

pub mod access_control;
pub mod api_access;
pub mod logging;
pub mod metrics;
pub mod mtls;
pub mod pipeline;
pub mod secrets;
pub mod tracing;
pub mod workflow;

use macro_rules_attribute::apply;

use crate::name_value::free_object;
use crate::{object::object, resource::resource};

pub use access_control::AccessControl;
pub use api_access::Api;
pub use logging::{ApiLogging, Logging};
pub use metrics::Metrics;
pub use mtls::Mtls;
pub use pipeline::{Pipeline, PipelineEntry};
pub use secrets::Secrets;
pub use tracing::Tracing;
pub use workflow::Workflow;

resource! {
    /// Settings that sidecars share, and those of the control plane.
    Configuration: "Configuration", "configurations", "v1alpha1", Spec
}

/// The settings.
#[apply(object)]
pub struct Spec {
    /// Middleware for requests that reach the sidecar's API.
    pub http_pipeline: Option<Pipeline>,
    /// Middleware for requests from the sidecar to the app.
    pub app_http_pipeline: Option<Pipeline>,
    /// Distributed tracing.
    pub tracing: Option<Tracing>,
    /// The old name of `metrics`.
    #[schemars(extend("x-default" = {"enabled": true}))]
    pub metric: Option<Metrics>,
    /// Metrics; what is given here wins over `metric`.
    #[schemars(extend("x-default" = {"enabled": true}))]
    pub metrics: Option<Metrics>,
    /// Mutual TLS; read by the control plane, from its own object only.
    pub mtls: Option<Mtls>,
    /// Which secrets apps may read.
    pub secrets: Option<Secrets>,
    /// Which apps may invoke this app, and what.
    pub access_control: Option<AccessControl>,
    /// How app IDs become addresses.
    pub name_resolution: Option<NameResolution>,
    /// Switches for features.
    pub features: Vec<Feature>,
    /// Which Dapr APIs the app may use.
    pub api: Option<Api>,
    /// Which components may be loaded.
    pub components: Option<Components>,
    /// What is logged.
    pub logging: Option<Logging>,
    /// Limits of WebAssembly components.
    pub wasm: Option<Wasm>,
    /// Limits of workflows.
    pub workflow: Option<Workflow>,
}

/// Features that are on unless a Configuration switches them off (contract 10.10).
pub const DEFAULT_FEATURES: [&str; 2] = ["HotReload", "WorkflowsRemoteActivityReminder"];

impl Spec {
    /// The metric settings that hold: each field of `metrics` that is given, else that of `metric`.
    pub fn effective_metrics(&self) -> Metrics {
        let preferred = self.metrics.clone().unwrap_or_default();
        preferred.over(self.metric.clone().unwrap_or_default())
    }

    /// The access list that holds: fields left out are `allow` and trust domain `public`.
    pub fn effective_access_control(&self) -> AccessControl {
        self.access_control
            .clone()
            .unwrap_or_default()
            .with_defaults()
    }

    /// The tracing settings that hold; an empty set when none are given.
    pub fn effective_tracing(&self) -> Tracing {
        self.tracing.clone().unwrap_or_default()
    }

    /// The API log settings that hold; all off when none are given.
    pub fn effective_api_logging(&self) -> ApiLogging {
        self.logging
            .as_ref()
            .and_then(|logging| logging.api_logging.clone())
            .unwrap_or_default()
    }

    /// Whether a feature is on: the last entry with its name decides, else its default.
    pub fn feature_enabled(&self, name: &str) -> bool {
        let entry = self.features.iter().rfind(|feature| feature.name == name);
        entry.map_or_else(|| DEFAULT_FEATURES.contains(&name), Feature::is_enabled)
    }

    /// The names of all features that are on, sorted.
    pub fn enabled_features(&self) -> Vec<&str> {
        let listed = self.features.iter().map(|feature| feature.name.as_str());
        let mut names: Vec<&str> = listed
            .chain(DEFAULT_FEATURES)
            .filter(|name| !name.is_empty() && self.feature_enabled(name))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Whether a component type and version is refused: entries are `type` or `type/version`.
    pub fn denies_component(&self, component_type: &str, version: &str) -> bool {
        let denied = self
            .components
            .as_ref()
            .map_or(&[][..], |components| &components.deny);
        denied.iter().any(|entry| match entry.split_once('/') {
            Some((name, denied_version)) => {
                name.eq_ignore_ascii_case(component_type)
                    && denied_version.eq_ignore_ascii_case(version)
            }
            None => entry.eq_ignore_ascii_case(component_type),
        })
    }

    /// Checks what the schema cannot say: a secret store stands in one scope only, and its default
    /// access is `allow` or `deny`. The message names the store.
    pub fn check(&self) -> Result<(), secrets::Error> {
        self.secrets.as_ref().map_or(Ok(()), Secrets::check)
    }
}

/// How app IDs become addresses.
#[apply(object)]
#[schemars(extend("required" = ["component", "version", "configuration"]))]
pub struct NameResolution {
    /// Name of the name resolution component, e.g. `mdns`.
    pub component: String,
    /// Version of the component, e.g. `v1`.
    pub version: String,
    /// Settings of the component, in its own shape.
    #[schemars(schema_with = "free_object")]
    pub configuration: Option<serde_json::Value>,
}

/// A switch for a feature.
#[apply(object)]
#[schemars(extend("required" = ["name", "enabled"]))]
pub struct Feature {
    /// Name of the feature.
    pub name: String,
    /// Whether the feature is on; off when left out.
    pub enabled: Option<bool>,
}

impl Feature {
    /// Whether the entry switches the feature on.
    pub fn is_enabled(&self) -> bool {
        self.enabled.unwrap_or(false)
    }
}

/// Which components may be loaded.
#[apply(object)]
pub struct Components {
    /// Component types that are refused, as `type` or `type/version`.
    pub deny: Vec<String>,
}

/// Limits of WebAssembly components.
#[apply(object)]
pub struct Wasm {
    /// Whether WebAssembly components see no real clock and no real randomness, whatever they say themselves.
    pub strict_sandbox: bool,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(value: serde_json::Value) -> Spec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn features_have_defaults() {
        assert_eq!(
            spec(json!({})).enabled_features(),
            ["HotReload", "WorkflowsRemoteActivityReminder"]
        );
        let changed = spec(json!({"features": [
            {"name": "HotReload", "enabled": false}, {"name": "ActorStateTTL", "enabled": true}, {"name": "X"}
        ]}));
        assert_eq!(
            changed.enabled_features(),
            ["ActorStateTTL", "WorkflowsRemoteActivityReminder"]
        );
        assert!(!changed.feature_enabled("HotReload"));
    }

    #[test]
    fn metrics_win_over_metric_field_by_field() {
        let both = spec(json!({
            "metric": {"enabled": false, "recordErrorCodes": true, "latencyDistributionBuckets": [1]},
            "metrics": {"enabled": true, "latencyDistributionBuckets": [5, 50]}
        }));
        let metrics = both.effective_metrics();
        assert!(metrics.is_enabled());
        assert!(metrics.records_error_codes());
        assert_eq!(metrics.latency_buckets_ms(), [5.0, 50.0]);
        assert!(spec(json!({})).effective_metrics().is_enabled());
        assert!(
            !spec(json!({"metric": {"enabled": false}}))
                .effective_metrics()
                .is_enabled()
        );
    }

    #[test]
    fn components_are_denied_by_type_or_version() {
        let denying = spec(json!({"components": {"deny": ["state.redis", "pubsub.kafka/v1"]}}));
        assert!(denying.denies_component("state.Redis", "v2"));
        assert!(denying.denies_component("pubsub.kafka", "v1"));
        assert!(!denying.denies_component("pubsub.kafka", "v2"));
    }

    #[test]
    fn null_blocks_of_go_writers_are_absent() {
        let sparse = spec(json!({
            "mtls": {"enabled": null, "sentryAddress": "", "controlPlaneTrustDomain": ""},
            "httpPipeline": {"handlers": null}, "secrets": {"scopes": null},
            "nameResolution": {"component": "mdns", "version": "v1", "configuration": null},
            "tracing": {"samplingRate": "1", "otel": {"protocol": "grpc", "endpointAddress": "a:1", "isSecure": null}}
        }));
        assert!(sparse.mtls.unwrap().is_enabled());
        assert!(sparse.tracing.unwrap().otel.unwrap().is_secure());
        assert_eq!(sparse.name_resolution.unwrap().configuration, None);
    }
}
