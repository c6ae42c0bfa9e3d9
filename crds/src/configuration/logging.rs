//! What a sidecar logs about calls of its API.

use macro_rules_attribute::apply;

use crate::object::object;

/// What is logged.
#[apply(object)]
pub struct Logging {
    /// The log of API calls.
    pub api_logging: Option<ApiLogging>,
}

/// The log of API calls.
#[apply(object)]
pub struct ApiLogging {
    /// Whether calls are logged; a sidecar's flag decides before this does.
    pub enabled: Option<bool>,
    /// Whether the name of the operation is logged in place of the URL.
    #[serde(rename = "obfuscateURLs")]
    pub obfuscate_urls: bool,
    /// Whether health checks are left out.
    pub omit_health_checks: bool,
}
