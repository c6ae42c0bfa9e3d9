//! One resource of any kind that a folder of resources, or a list of the operator, may hold.

use crate::{
    Component, HttpEndpoint, Kind, McpServer, Resiliency, Subscription, WorkflowAccessPolicy,
};

/// A resource of a kind that a resource directory may hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    /// A component.
    Component(Component),
    /// A subscription; the old version is converted.
    Subscription(Subscription),
    /// Policies for calls.
    Resiliency(Resiliency),
    /// An HTTP address to invoke.
    HttpEndpoint(HttpEndpoint),
    /// An MCP server.
    McpServer(McpServer),
    /// Rules for access to workflows.
    WorkflowAccessPolicy(WorkflowAccessPolicy),
}

impl Resource {
    /// The kind, e.g. `Component`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Component(_) => Component::KIND,
            Self::Subscription(_) => Subscription::KIND,
            Self::Resiliency(_) => Resiliency::KIND,
            Self::HttpEndpoint(_) => HttpEndpoint::KIND,
            Self::McpServer(_) => McpServer::KIND,
            Self::WorkflowAccessPolicy(_) => WorkflowAccessPolicy::KIND,
        }
    }

    /// The name; empty when the file does not give one.
    pub fn name(&self) -> &str {
        self.head().0
    }

    /// The namespace, if the file gives one.
    pub fn namespace(&self) -> Option<&str> {
        self.head().1
    }

    /// Whether an app loads the resource.
    pub fn in_scope(&self, app_id: &str) -> bool {
        let scopes = self.head().2;
        scopes.is_empty() || scopes.iter().any(|scope| scope == app_id)
    }

    /// The name, and for a component `name (type/version)`.
    pub(super) fn described(&self) -> String {
        match self {
            Self::Component(component) => {
                let version = match component.spec.version.as_str() {
                    "" => "v1",
                    given => given,
                };
                format!(
                    "{} ({}/{version})",
                    self.name(),
                    component.spec.component_type
                )
            }
            _ => self.name().to_owned(),
        }
    }

    fn head(&self) -> (&str, Option<&str>, &[String]) {
        fn of<K: Kind>(object: &K) -> (&str, Option<&str>, &[String]) {
            (object.name(), object.namespace(), object.scopes())
        }
        match self {
            Self::Component(it) => of(it),
            Self::Subscription(it) => of(it),
            Self::Resiliency(it) => of(it),
            Self::HttpEndpoint(it) => of(it),
            Self::McpServer(it) => of(it),
            Self::WorkflowAccessPolicy(it) => of(it),
        }
    }

    /// Whether both ask for the same. Who the resource is for and what the cluster keeps about it (labels, versions) is not
    /// part of that.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Component(one), Self::Component(other)) => same(one, other),
            (Self::Subscription(one), Self::Subscription(other)) => same(one, other),
            (Self::Resiliency(one), Self::Resiliency(other)) => same(one, other),
            (Self::HttpEndpoint(one), Self::HttpEndpoint(other)) => same(one, other),
            (Self::McpServer(one), Self::McpServer(other)) => same(one, other),
            (Self::WorkflowAccessPolicy(one), Self::WorkflowAccessPolicy(other)) => {
                same(one, other)
            }
            _ => false,
        }
    }
}

macro_rules! from_kinds {
    ($($kind:ident => $variant:ident),*) => {
        $(impl From<$kind> for Resource {
            fn from(one: $kind) -> Self {
                Self::$variant(one)
            }
        })*
    };
}
from_kinds!(
    Component => Component, Subscription => Subscription, Resiliency => Resiliency,
    HttpEndpoint => HttpEndpoint, McpServer => McpServer, WorkflowAccessPolicy => WorkflowAccessPolicy
);

impl AsRef<Resource> for Resource {
    fn as_ref(&self) -> &Resource {
        self
    }
}

fn same<K: Kind>(one: &K, other: &K) -> bool {
    content(one) == content(other)
}

/// What a resource asks for, as JSON.
pub(crate) fn content<K: Kind>(object: &K) -> serde_json::Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("metadata");
        fields.remove("scopes");
    }
    value
}
