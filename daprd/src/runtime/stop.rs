//! How a life ends: intake first, then the servers, then the components.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use ::pubsub::Engine;
use anyhow::{Result, anyhow, bail};
use api::operations::shutdown::Trigger;
use app_channel::{AppChannel, Probe};

use super::{Running, Runtime};

impl Running {
    /// Why the sidecar has to start anew; never, where nothing is watched.
    pub(super) async fn restart_reason(&mut self) -> &'static str {
        match &mut self.restart {
            Some(reasons) => match reasons.recv().await {
                Some(reason) => reason,
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }
}

impl Runtime<'_> {
    /// What the shutdown operation sets off.
    pub(super) fn trigger(&self, forced: &Arc<AtomicBool>) -> Trigger {
        let (shutdown, forced) = (self.daemon.shutdown(), Arc::clone(forced));
        Arc::new(move |force| {
            if force {
                forced.store(true, Ordering::Release);
            }
            tracing::info!("Shutdown requested via API");
            shutdown.cancel();
        })
    }

    /// Keeps the app's health, and the subscriptions open while it is healthy.
    pub(super) fn follow_app(&self, app: &AppChannel, probe: Probe, pubsub: &Engine) {
        self.spawn("app health", probe.run(self.daemon.shutdown()));
        let (mut health, pubsub, app) = (app.health(), pubsub.clone(), app.clone());
        let (shutdown, ask_config) = (self.daemon.shutdown(), self.settings.app.ask_config);
        self.spawn("app", async move {
            let follow = async {
                if health.wait_for(|healthy| *healthy).await.is_ok() && ask_config {
                    app.ask_config().await;
                }
                while health.wait_for(|healthy| *healthy).await.is_ok() {
                    pubsub.start().await;
                    if health.wait_for(|healthy| !*healthy).await.is_err() {
                        return;
                    }
                    tracing::warn!(
                        "the app is not healthy: its subscriptions are closed until it is"
                    );
                    pubsub.stop().await;
                }
            };
            shutdown.run_until_cancelled(follow).await;
        });
    }

    /// Goes on serving after the signal for as long as the platform asks, or until the app is away (contract 9.4).
    pub(super) async fn block_shutdown(&self, running: &Running) {
        let Some(duration) = self.settings.block_shutdown else {
            return;
        };
        tracing::info!(
            "Blocking graceful shutdown for {duration:?} or until app reports unhealthy..."
        );
        running.pubsub.stop().await;
        let mut health = running.app.health();
        tokio::select! {
            () = tokio::time::sleep(duration) => {
                tracing::info!("Block shutdown period expired, entering shutdown...");
            }
            _ = health.wait_for(|healthy| !*healthy), if running.app.is_configured() => {
                tracing::info!("App reported unhealthy, entering shutdown...");
            }
        }
    }

    /// Stops everything in order.
    ///
    /// # Errors
    /// Where it takes longer than the graceful period, a task has failed, or the exit was forced.
    pub(super) async fn stop(&self, running: Running) -> Result<()> {
        if running.forced.load(Ordering::Acquire) {
            tracing::info!(
                "Force shutdown requested, exiting immediately without graceful shutdown"
            );
            bail!("shutdown was forced");
        }
        let limit = self.settings.graceful_shutdown;
        tracing::info!("dapr shutting down.");
        let ordered = async {
            running.pubsub.stop().await;
            self.serving.cancel();
            let tasks = self.daemon.stop().await;
            if let Some(resolver) = running.resolver.swap(None) {
                resolver.close().await;
            }
            running.loader.close().await;
            tasks
        };
        match tokio::time::timeout(limit, ordered).await {
            Ok(result) => {
                tracing::info!("Daprd shutdown gracefully");
                result
            }
            Err(_) => Err(anyhow!(
                "graceful shutdown timeout exceeded after {limit:?}, forcing shutdown"
            )),
        }
    }
}
