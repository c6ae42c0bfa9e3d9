//! Which apps may invoke this app (contract 10.3). The invoke engine compiles these into a list it
//! can ask; here they are as written.

use macro_rules_attribute::apply;

use crate::object::object;

/// Who may call this app.
#[apply(object)]
pub struct AccessControl {
    /// `allow` or `deny`, for calls that no policy decides.
    pub default_action: Option<String>,
    /// Trust domain of this app; `public` when left out.
    pub trust_domain: Option<String>,
    /// Policies for callers.
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
#[apply(object)]
pub struct AppPolicy {
    /// App ID of the caller.
    pub app_id: String,
    /// `allow` or `deny`, for operations that are not listed.
    pub default_action: Option<String>,
    /// Trust domain of the caller.
    pub trust_domain: Option<String>,
    /// Namespace of the caller.
    pub namespace: Option<String>,
    /// Operations of this app.
    pub operations: Vec<Operation>,
}

/// An operation of this app.
#[apply(object)]
pub struct Operation {
    /// Path or method; `*` stands for a segment, `/*` at the end for all below.
    pub name: String,
    /// HTTP verbs, or `*`.
    pub http_verb: Vec<String>,
    /// `allow` or `deny`.
    pub action: String,
}
