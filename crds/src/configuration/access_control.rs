//! Which apps may invoke this app (contract 10.3). The invoke engine compiles these into a list it
//! can ask; here they are as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lenient;

/// Who may call this app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AccessControl {
    /// `allow` or `deny`, for calls that no policy decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_action: Option<String>,
    /// Trust domain of this app; `public` when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<String>,
    /// Policies for callers.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "lenient::or_default"
    )]
    pub policies: Vec<AppPolicy>,
}

impl AccessControl {
    /// The action when a Configuration does not give one.
    pub const DEFAULT_ACTION: &'static str = "allow";
    /// The trust domain when a Configuration does not give one.
    pub const DEFAULT_TRUST_DOMAIN: &'static str = "public";

    /// The same list with the defaults of fields that were left out filled in. A field that was
    /// written as an empty string stays empty: an access list without an action denies.
    pub fn with_defaults(mut self) -> Self {
        self.default_action
            .get_or_insert_with(|| Self::DEFAULT_ACTION.to_owned());
        self.trust_domain
            .get_or_insert_with(|| Self::DEFAULT_TRUST_DOMAIN.to_owned());
        self
    }
}

/// What one caller may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AppPolicy {
    /// App ID of the caller.
    pub app_id: String,
    /// `allow` or `deny`, for operations that are not listed.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub default_action: Option<String>,
    /// Trust domain of the caller.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub trust_domain: Option<String>,
    /// Namespace of the caller.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub namespace: Option<String>,
    /// Operations of this app.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "lenient::or_default"
    )]
    pub operations: Vec<Operation>,
}

/// An operation of this app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Operation {
    /// Path or method; `*` stands for a segment, `/*` at the end for all below.
    pub name: String,
    /// HTTP verbs, or `*`.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "lenient::or_default"
    )]
    pub http_verb: Vec<String>,
    /// `allow` or `deny`.
    pub action: String,
}
