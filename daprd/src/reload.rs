//! Resources that change while the sidecar runs.

use std::sync::Arc;

use daemon::Daemon;
use pubsub::Engine;
use tokio::sync::mpsc;

use crate::{
    components::Loader,
    resources::{CHANGES, Change, Desired, Source},
};

/// The parts that take changes.
pub struct Reload {
    pub loader: Arc<Loader>,
    pub pubsub: Engine,
    pub workflow: workflow::Engine,
    pub mcp: mcp::Servers,
}

/// Why the sidecar has to start anew.
pub type Restart = mpsc::Receiver<&'static str>;

impl Reload {
    /// Watches the source, as tasks of the daemon; what cannot be taken in place is sent as a reason to restart.
    pub fn start(
        self,
        source: Source,
        desired: Desired,
        reconcile: std::time::Duration,
        daemon: &Daemon,
    ) -> Restart {
        let (changes, mut incoming) = mpsc::channel(CHANGES);
        let (restart, reasons) = mpsc::channel(1);
        let shutdown = daemon.shutdown();
        let watch = shutdown.clone();
        let tasks = daemon.clone();
        daemon.spawn("resources", async move {
            source.watch(desired, changes, reconcile, watch).await
        });
        daemon.spawn("reload", async move {
            while let Some(Some(change)) = shutdown.run_until_cancelled(incoming.recv()).await {
                self.take(change, &restart, &tasks);
            }
            Ok(())
        });
        reasons
    }

    fn take(&self, change: Change, restart: &mpsc::Sender<&'static str>, daemon: &Daemon) {
        match change {
            Change::Component(component) => {
                let (name, spec) = (crds::Kind::name(&component), &component.spec);
                tracing::info!(
                    "Component updated: {name} ({}/{})",
                    spec.component_type,
                    spec.version
                );
                self.loader.want(component);
            }
            Change::ComponentGone(name) => self.loader.unwant(&name),
            Change::Subscription(subscription) => {
                let name = crds::Kind::name(&subscription).to_owned();
                if let Err(error) = self.pubsub.apply_subscription(subscription) {
                    let error = component::error::chain(&error);
                    tracing::error!("subscription {name} is not reloaded: {error}");
                }
            }
            Change::SubscriptionGone(name) => self.pubsub.remove_subscription(&name),
            Change::McpServer(server) => {
                // It is connected behind; where that must not fail, it ends the sidecar.
                let connected = self.mcp.apply(*server);
                daemon.spawn("MCP server", async move { Ok(connected.await?) });
            }
            Change::McpServerGone(name) => self.mcp.remove(&name),
            Change::Access(policies) => self.workflow.set_access(&policies),
            Change::Restart(reason) => {
                // One waiting reason is enough.
                let _ = restart.try_send(reason);
            }
        }
    }
}
