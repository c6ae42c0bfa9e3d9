//! Pipelines of HTTP middleware (contract 10.2).

use macro_rules_attribute::apply;

use crate::{lenient, object::object};

/// Middleware components in the order in which requests pass them.
#[apply(object)]
pub struct Pipeline {
    /// The components.
    #[serde_with(skip_apply)]
    #[serde(deserialize_with = "lenient::or_default")]
    pub handlers: Vec<PipelineEntry>,
}

/// A middleware component.
#[apply(object)]
pub struct PipelineEntry {
    /// Name of the component.
    pub name: String,
    /// Type of the component, e.g. `middleware.http.ratelimit`.
    #[serde(rename = "type")]
    pub component_type: String,
    /// Version of the component; `v1` when left out. Not part of the CRD: only files can give it.
    #[schemars(skip)]
    pub version: Option<String>,
    /// Requests that the component applies to.
    pub selector: Option<Selector>,
}

/// Requests that a component applies to.
#[apply(object)]
pub struct Selector {
    /// Conditions, all of which must hold.
    #[serde_with(skip_apply)]
    #[serde(deserialize_with = "lenient::or_default")]
    pub fields: Vec<SelectorField>,
}

/// A condition on a request.
#[apply(object)]
pub struct SelectorField {
    /// What to look at.
    pub field: String,
    /// What it must be.
    pub value: String,
}
