//! Activities without reminders, on the fast path (see `hosts/local.rs`).

use std::time::Duration;

use actors::ActorId;
use prost_types::Timestamp;
use proto::durabletask::backend::v1::ActivityInvocation;
use tokio::time::{Instant, sleep};

use super::ActivityHost;

impl ActivityHost {
    /// Runs an activity in place of its reminder, which is made after all where that fails. The janitor of its workflow asks for it
    /// again where the sidecar is lost.
    pub(super) fn begin_here(
        &self,
        actor: ActorId,
        invocation: ActivityInvocation,
        due: Timestamp,
        name: Option<String>,
    ) {
        let host = self.clone();
        self.0.inner.tasks.spawn("activity", async move {
            let closed = host.0.inner.closed.clone();
            let driven = Box::pin(host.drive(&actor, invocation, due, name));
            closed.run_until_cancelled(driven).await;
        });
    }

    async fn drive(
        &self,
        actor: &ActorId,
        invocation: ActivityInvocation,
        due: Timestamp,
        name: Option<String>,
    ) {
        let metrics = &self.0.inner.metrics;
        let mut pause = FIRST_PAUSE;
        for _ in 0..TRIES {
            let began = Instant::now();
            let ran = match self.begin(&actor.id, invocation.clone()) {
                Ok(Some(mut outcome)) => {
                    let settled = outcome.wait_for(Option::is_some).await;
                    settled.is_ok_and(|outcome| *outcome == Some(true))
                }
                Ok(None) => return,
                // The reminder says why, again and again.
                Err(_) => false,
            };
            metrics.local.driven(ran, began.elapsed());
            if ran {
                return;
            }
            sleep(pause).await;
            pause *= 4;
        }
        if let Err(error) = self.remind(actor, &invocation, due, name).await {
            let id = &actor.id;
            tracing::warn!("Activity actor '{id}': it is left to the workflow's janitor: {error}");
        }
    }
}

/// How often an activity is run in place of its reminder before it gets one.
const TRIES: usize = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
