//! Where resources come from: directories on a machine, the operator in a cluster. Both tell one [`Desired`] what there is,
//! first at the start and then for as long as the sidecar runs; only `Desired` says what has changed.

pub mod desired;
pub mod disk;
pub mod operator;
pub mod report;

use std::time::Duration;

use crds::{Component, Configuration, McpServer, Subscription, WorkflowAccessPolicy};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use desired::Desired;

/// One resource that has changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Component(Component),
    ComponentGone(String),
    Subscription(Subscription),
    SubscriptionGone(String),
    McpServer(Box<McpServer>),
    McpServerGone(String),
    /// All WorkflowAccessPolicies there are.
    Access(Vec<WorkflowAccessPolicy>),
    /// Configuration, Resiliency or HTTPEndpoint: the sidecar starts anew in this process (contract 9.4).
    Restart(&'static str),
}

/// Changes on their way to the sidecar; more than these wait at their source.
pub const CHANGES: usize = 64;

/// A source of resources.
#[derive(Clone)]
pub enum Source {
    Disk(disk::Disk),
    Operator(operator::Operator),
}

impl Source {
    /// The Configuration that holds for this sidecar.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn configuration(&self) -> anyhow::Result<Configuration> {
        match self {
            Self::Disk(disk) => disk.configuration(),
            Self::Operator(operator) => operator.configuration().await,
        }
    }

    /// Adds everything that there is to what is desired. Broken resources are warned about and left out.
    ///
    /// # Errors
    /// Where the list cannot be read at all, or contradicts itself.
    pub async fn list(&self, desired: &mut Desired) -> anyhow::Result<()> {
        let listing = match self {
            Self::Disk(disk) => disk.list()?,
            Self::Operator(operator) => operator.list().await?,
        };
        desired.warn_of(&listing);
        desired.replace(listing);
        Ok(())
    }

    /// Sends what changes against what is desired, until shutdown.
    ///
    /// # Errors
    /// Where the source cannot be watched.
    pub async fn watch(
        self,
        desired: Desired,
        changes: mpsc::Sender<Change>,
        reconcile: Duration,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        match self {
            Self::Disk(disk) => disk.watch(desired, changes, reconcile, shutdown).await,
            Self::Operator(operator) => operator.watch(desired, changes, reconcile, shutdown).await,
        }
    }
}
