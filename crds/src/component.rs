//! Component: one configured instance of a component type (contract 3.3).

use macro_rules_attribute::apply;

use crate::name_value::NameValuePair;
use crate::{lenient, object::object, resource::resource};

resource! {
    /// A component: a building block's backend, with its settings.
    Component: "Component", "components", "v1alpha1", Spec, [auth] auth, [scopes] scopes
}

/// What a component is.
#[apply(object)]
pub struct Spec {
    /// Category and name of the component type, e.g. `state.redis`; case does not matter.
    #[serde(rename = "type")]
    pub component_type: String,
    /// Version of the component type, usually `v1`.
    pub version: String,
    /// Whether the sidecar starts although this component fails to initialise.
    pub ignore_errors: bool,
    /// Settings of the component.
    #[serde_with(skip_apply)]
    #[serde(deserialize_with = "lenient::or_default")]
    pub metadata: Vec<NameValuePair>,
    /// How long initialisation may take, as a Go duration; 5s when left out.
    pub init_timeout: Option<String>,
}

impl Spec {
    /// The first metadata item of a name, without regard to case.
    pub fn property(&self, name: &str) -> Option<&NameValuePair> {
        self.metadata
            .iter()
            .find(|pair| pair.name.eq_ignore_ascii_case(name))
    }

    /// The part of the type before the first dot: `state`, `pubsub`, `bindings`, …
    pub fn category(&self) -> &str {
        self.component_type.split('.').next().unwrap_or_default()
    }
}

/// What sidecars say about a component. The operator writes it, for people to read.
#[apply(object)]
pub struct Status {
    /// How many of the sidecars that load it have opened it, such as `3/4`.
    pub ready: String,
    /// How many sidecars have opened it.
    pub loaded: i64,
    /// How many sidecars could not open it.
    pub failed: i64,
    /// App IDs of sidecars that have opened it; some of them, where they are many.
    pub apps: Vec<String>,
    /// Sidecars that could not open it; some of them, where they are many.
    pub failures: Vec<Failure>,
}

/// A sidecar that could not open a component.
#[apply(object)]
pub struct Failure {
    /// Its app ID.
    pub app_id: String,
    /// Its pod.
    pub pod: String,
    /// Why.
    pub reason: String,
}
