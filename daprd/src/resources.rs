//! Where resources come from: directories on a machine, the operator in a cluster. Both give a list at start and changes
//! after it.

pub mod disk;
mod known;
pub mod operator;

use crds::{Component, Configuration, HttpEndpoint, Resiliency, Resource, Subscription};

/// Everything that the sidecar loads at start.
#[derive(Default)]
pub struct Resources {
    pub components: Vec<Component>,
    pub subscriptions: Vec<Subscription>,
    pub resiliencies: Vec<Resiliency>,
    pub http_endpoints: Vec<HttpEndpoint>,
}

/// One resource that has changed.
#[derive(Debug)]
pub enum Change {
    Component(Component),
    ComponentGone(String),
    Subscription(Subscription),
    SubscriptionGone(String),
    /// Configuration, Resiliency or HTTPEndpoint: the sidecar starts anew in this process (contract 9.4).
    Restart(&'static str),
}

/// Changes on their way to the sidecar; more than these wait at their source.
pub const CHANGES: usize = 64;

impl Resources {
    pub fn add(&mut self, resource: Resource) {
        match resource {
            Resource::Component(one) => self.components.push(one),
            Resource::Subscription(one) => self.subscriptions.push(one),
            Resource::Resiliency(one) => self.resiliencies.push(one),
            Resource::HttpEndpoint(one) => self.http_endpoints.push(one),
            // Their building blocks are not built yet.
            Resource::McpServer(_) | Resource::WorkflowAccessPolicy(_) => {}
        }
    }
}

/// A source of resources.
pub enum Source {
    Disk(disk::Disk),
    Operator(operator::Operator),
}

impl Source {
    /// The Configuration that holds for this sidecar.
    pub async fn configuration(&self) -> anyhow::Result<Configuration> {
        match self {
            Self::Disk(disk) => disk.configuration(),
            Self::Operator(operator) => operator.configuration().await,
        }
    }

    /// Everything else.
    pub async fn list(&self) -> anyhow::Result<Resources> {
        match self {
            Self::Disk(disk) => disk.list(),
            Self::Operator(operator) => operator.list().await,
        }
    }
}
