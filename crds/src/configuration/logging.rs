//! What a sidecar logs about calls of its API.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lenient;

/// What is logged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Logging {
    /// The log of API calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_logging: Option<ApiLogging>,
}

/// The log of API calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ApiLogging {
    /// Whether calls are logged; a sidecar's flag decides before this does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Whether the name of the operation is logged in place of the URL.
    #[serde(
        rename = "obfuscateURLs",
        skip_serializing_if = "lenient::is_off",
        deserialize_with = "lenient::or_default"
    )]
    pub obfuscate_urls: bool,
    /// Whether health checks are left out.
    #[serde(
        skip_serializing_if = "lenient::is_off",
        deserialize_with = "lenient::or_default"
    )]
    pub omit_health_checks: bool,
}
