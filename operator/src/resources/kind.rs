//! The seven kinds of resources that sidecars load.

use crds::Kind as _;
use kube::api::ApiResource;

/// A kind of Dapr resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Component,
    Configuration,
    Subscription,
    Resiliency,
    HttpEndpoint,
    McpServer,
    WorkflowAccessPolicy,
}

impl Kind {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 7] = [
        Self::Component,
        Self::Configuration,
        Self::Subscription,
        Self::Resiliency,
        Self::HttpEndpoint,
        Self::McpServer,
        Self::WorkflowAccessPolicy,
    ];

    /// The plural in URLs, logs and the CRD's name.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Component => crds::Component::PLURAL,
            Self::Configuration => crds::Configuration::PLURAL,
            Self::Subscription => crds::Subscription::PLURAL,
            Self::Resiliency => crds::Resiliency::PLURAL,
            Self::HttpEndpoint => crds::HttpEndpoint::PLURAL,
            Self::McpServer => crds::McpServer::PLURAL,
            Self::WorkflowAccessPolicy => crds::WorkflowAccessPolicy::PLURAL,
        }
    }

    /// Where the Kubernetes API has it, in the stored version.
    pub fn resource(self) -> ApiResource {
        match self {
            Self::Component => ApiResource::erase::<crds::Component>(&()),
            Self::Configuration => ApiResource::erase::<crds::Configuration>(&()),
            Self::Subscription => ApiResource::erase::<crds::Subscription>(&()),
            Self::Resiliency => ApiResource::erase::<crds::Resiliency>(&()),
            Self::HttpEndpoint => ApiResource::erase::<crds::HttpEndpoint>(&()),
            Self::McpServer => ApiResource::erase::<crds::McpServer>(&()),
            Self::WorkflowAccessPolicy => ApiResource::erase::<crds::WorkflowAccessPolicy>(&()),
        }
    }
}
