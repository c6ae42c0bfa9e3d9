//! Pipelines of HTTP middleware (contract 10.2).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lenient;

/// Middleware components in the order in which requests pass them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Pipeline {
    /// The components.
    #[serde(deserialize_with = "lenient::or_default")]
    pub handlers: Vec<PipelineEntry>,
}

/// A middleware component.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PipelineEntry {
    /// Name of the component.
    pub name: String,
    /// Type of the component, e.g. `middleware.http.ratelimit`.
    #[serde(rename = "type")]
    pub component_type: String,
    /// Version of the component; `v1` when left out. Not part of the CRD: only files can give it.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    #[schemars(skip)]
    pub version: Option<String>,
    /// Requests that the component applies to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
}

/// Requests that a component applies to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Selector {
    /// Conditions, all of which must hold.
    #[serde(deserialize_with = "lenient::or_default")]
    pub fields: Vec<SelectorField>,
}

/// A condition on a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SelectorField {
    /// What to look at.
    pub field: String,
    /// What it must be.
    pub value: String,
}
