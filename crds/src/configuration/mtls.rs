//! Mutual TLS between sidecars, as the control plane's own Configuration object sets it.

use macro_rules_attribute::apply;

use crate::name_value::free_object;
use crate::object::object;

/// Mutual TLS.
#[apply(object)]
#[schemars(extend("required" = ["enabled", "sentryAddress", "controlPlaneTrustDomain"]))]
pub struct Mtls {
    /// Whether sidecars use mutual TLS; true when left out.
    pub enabled: Option<bool>,
    /// Lifetime of workload certificates, as a Go duration; 24h when left out.
    #[serde(rename = "workloadCertTTL")]
    pub workload_cert_ttl: Option<String>,
    /// How far clocks may be apart, as a Go duration; 15m when left out.
    pub allowed_clock_skew: Option<String>,
    /// Address of the certificate authority.
    pub sentry_address: String,
    /// Trust domain of the control plane.
    pub control_plane_trust_domain: String,
    /// Token validators of the certificate authority besides its own.
    pub token_validators: Vec<TokenValidator>,
}

impl Mtls {
    /// Lifetime of workload certificates when the object does not give one, as a Go duration.
    pub const DEFAULT_WORKLOAD_CERT_TTL: &'static str = "24h";
    /// How far clocks may be apart when the object does not say, as a Go duration.
    pub const DEFAULT_ALLOWED_CLOCK_SKEW: &'static str = "15m";

    /// Whether sidecars use mutual TLS; true when the object does not say.
    pub fn is_enabled(&self) -> bool {
        self.enabled.unwrap_or(true)
    }
}

/// A way to check tokens with which workloads ask for certificates.
#[apply(object)]
pub struct TokenValidator {
    /// Name of the validator: `jwks`.
    #[schemars(extend("enum" = ["jwks"]))]
    pub name: String,
    /// Settings of the validator.
    #[schemars(schema_with = "free_object")]
    pub options: Option<serde_json::Value>,
}
