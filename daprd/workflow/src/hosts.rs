//! The internal actors: hosted while there are workers, so that nothing waits at a sidecar that cannot go on with it.

use std::sync::Arc;

use actors::{Kind, host::Host};
use tokio_util::sync::CancellationToken;

use crate::engine::Inner;

pub mod activity;
pub mod admit;
pub mod again;
pub mod commit;
pub mod create;
pub mod dispatch;
pub mod ending;
pub mod janitor;
pub mod local;
pub mod messages;
pub mod purge;
pub mod rerun;
pub mod retentioner;
pub mod trust;
pub mod turn;
pub mod watch;
pub mod workflow;

/// Most of one kind that an instance asks others for at the same time: activities, children, reminders.
const AT_A_TIME: usize = 16;

impl Inner {
    /// Hosts the types while there are workers, until shutdown.
    pub async fn host(self: &Arc<Self>, shutdown: CancellationToken) {
        let names = &self.names;
        let workflow: Arc<dyn Host> = Arc::new(workflow::WorkflowHost(Arc::clone(self)));
        let activity: Arc<dyn Host> = Arc::new(activity::ActivityHost::new(Arc::clone(self)));
        let retentioner: Arc<dyn Host> = Arc::new(retentioner::RetentionHost(Arc::clone(self)));
        let hosts = [
            (names.workflow(), workflow),
            (names.activity(), activity),
            (names.retentioner(), retentioner),
        ];
        let mut present = self.options.workers.present();
        let follow = async {
            while present.wait_for(|present| *present).await.is_ok() {
                tracing::debug!("Registering workflow actors for internal workflows");
                let kinds = hosts.iter().map(|(name, host)| {
                    let mut kind = Kind::new(Arc::clone(host));
                    kind.parallel = true;
                    kind.idle = self.options.idle;
                    (name.clone(), kind)
                });
                self.options.actors.host(kinds.collect());
                if present.wait_for(|present| !*present).await.is_err() {
                    break;
                }
                tracing::debug!("Unregistering workflow actors");
                self.release_stalled();
                for (_, host) in &hosts {
                    self.options.actors.withdraw(host).await;
                }
            }
        };
        tokio::select! {
            () = follow => {}
            () = shutdown.cancelled() => {}
        }
        self.closed.cancel();
        self.release_stalled();
    }

    /// Whoever holds the reminder of a stalled instance lets it go, so that it fires again where a worker may do better.
    fn release_stalled(&self) {
        self.stalled.send_modify(|count| *count += 1);
    }
}
