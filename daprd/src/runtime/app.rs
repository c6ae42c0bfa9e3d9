//! The app beside the sidecar: waiting for it, and what is open to it while it is healthy.

use std::sync::Arc;

use app_channel::{AppChannel, Probe};
use blocks::Intake;
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use super::Runtime;

impl Runtime<'_> {
    /// Keeps the app's health, and open while it is healthy what takes events in for it. The token that it answers is cancelled once
    /// the sidecar has done what it can to be ready: the app is found, and unless it is still to be asked for its health,
    /// what it subscribes to is open.
    pub(super) fn follow_app(
        &self,
        app: &AppChannel,
        probe: Probe,
        intakes: &[Arc<dyn Intake>],
    ) -> CancellationToken {
        let settled = CancellationToken::new();
        let found = if probe.is_lasting() || !app.is_configured() {
            settled.clone()
        } else {
            CancellationToken::new()
        };
        self.spawn("app health", probe.run(found, self.daemon.shutdown()));
        let (mut health, intakes) = (app.health(), intakes.to_vec());
        let begun = settled.clone();
        let (intake, ask_config) = (self.ending.intake_end(), self.settings.app.ask_config);
        self.spawn("app", async move {
            let follow = async {
                if health.wait_for(|healthy| *healthy).await.is_err() {
                    return;
                }
                if !ask_config {
                    tracing::warn!(
                        "Skipping programmatic dapr configuration loading (see 'disable-init-endpoints' flag/annotation)"
                    );
                }
                while health.wait_for(|healthy| *healthy).await.is_ok() {
                    // What takes long to open does not keep an app that has become unhealthy in the stream of events.
                    let start = async {
                        join_all(intakes.iter().map(|intake| intake.start())).await;
                        begun.cancel();
                        std::future::pending::<()>().await;
                    };
                    let unhealthy = health.wait_for(|healthy| !*healthy);
                    tokio::select! {
                        () = start => return,
                        unhealthy = unhealthy => if unhealthy.is_err() {
                            return;
                        },
                    }
                    tracing::warn!(
                        "the app is not healthy: nothing is taken in for it until it is"
                    );
                    // Nor does an event that the app takes long for keep a healthy app out of it.
                    let stop = join_all(intakes.iter().map(|intake| intake.stop()));
                    let healthy = health.wait_for(|healthy| *healthy);
                    tokio::select! {
                        biased;
                        _ = stop => {}
                        _ = healthy => {}
                    }
                }
            };
            intake.run_until_cancelled(follow).await;
        });
        settled
    }
}
