//! Which Dapr APIs an app may use (contract 10.6).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lenient;

/// Which Dapr APIs the app may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Api {
    /// APIs that may be used; all when empty.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "lenient::or_default"
    )]
    pub allowed: Vec<ApiRule>,
    /// APIs that may not be used.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "lenient::or_default"
    )]
    pub denied: Vec<ApiRule>,
}

/// An API in one version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ApiRule {
    /// Name of the API, e.g. `state`.
    pub name: String,
    /// Version of the API, e.g. `v1`.
    pub version: String,
    /// `http` or `grpc`; a rule without protocol applies to neither.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub protocol: Option<String>,
}
