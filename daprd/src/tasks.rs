//! Background loops of components, on the program's tracker.

use std::{future::Future, pin::Pin};

use component::Spawn;
use daemon::Daemon;

/// Runs loops until they end or the sidecar stops.
pub struct Tasks(pub Daemon);

impl Spawn for Tasks {
    fn spawn(&self, name: &str, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let shutdown = self.0.shutdown();
        let name = name.to_owned();
        self.0.spawn("component", async move {
            if shutdown.run_until_cancelled(task).await.is_some() {
                tracing::debug!("the loop of component {name} ended");
            }
            Ok(())
        });
    }
}
