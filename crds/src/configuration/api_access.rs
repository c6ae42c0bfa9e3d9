//! Which Dapr APIs an app may use (contract 10.6).

use macro_rules_attribute::apply;

use crate::object::object;

/// Which Dapr APIs the app may use.
#[apply(object)]
pub struct Api {
    /// APIs that may be used; all when empty.
    pub allowed: Vec<ApiRule>,
    /// APIs that may not be used.
    pub denied: Vec<ApiRule>,
}

/// An API in one version.
#[apply(object)]
pub struct ApiRule {
    /// Name of the API, e.g. `state`.
    pub name: String,
    /// Version of the API, e.g. `v1`.
    pub version: String,
    /// `http` or `grpc`; a rule without protocol applies to neither.
    pub protocol: Option<String>,
}
