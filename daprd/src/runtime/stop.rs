//! How a life ends: intake first, then the servers, then everything that calls under way have needed.

use std::{pin::pin, sync::Arc, time::Duration};

use anyhow::{Result, anyhow, bail};
use api::operations::shutdown::Trigger;
use blocks::Intake;
use daemon::Daemon;
use futures::future::join_all;
use tokio_util::sync::CancellationToken;
use values::GoDuration;

use super::{Running, Runtime};

/// What says that a life ends, and what its end goes through.
pub struct Ending {
    /// The program's shutdown. It does not end the life by itself, since that may go on serving.
    signal: CancellationToken,
    /// The tasks of the life; cancelled early where one of them has failed.
    tasks: CancellationToken,
    /// The API wants an end.
    asked: CancellationToken,
    /// It wants it at once.
    forced: CancellationToken,
    /// Nothing is taken from brokers any more once this is cancelled, and it stays so.
    intake: CancellationToken,
}

impl Ending {
    pub fn new(signal: CancellationToken, daemon: &Daemon) -> Self {
        let tasks = daemon.shutdown();
        Self {
            signal,
            asked: CancellationToken::new(),
            forced: CancellationToken::new(),
            intake: tasks.child_token(),
            tasks,
        }
    }

    /// Waits for the program's shutdown.
    pub async fn signal(&self) {
        self.signal.cancelled().await;
    }

    /// Waits until the API wants an end, or a task has failed.
    pub async fn asked(&self) {
        tokio::select! {
            () = self.asked.cancelled() => {}
            () = self.tasks.cancelled() => {}
        }
    }

    /// What the shutdown operation sets off.
    pub fn trigger(&self) -> Trigger {
        let (asked, forced) = (self.asked.clone(), self.forced.clone());
        Arc::new(move |force| {
            tracing::info!("Shutdown requested via API");
            if force {
                forced.cancel();
            }
            asked.cancel();
        })
    }

    /// Cancelled once nothing is to be taken in any more.
    pub fn intake_end(&self) -> CancellationToken {
        self.intake.clone()
    }

    /// Takes nothing in any more; on return what had been taken is delivered or given back.
    async fn close_intake(&self, intakes: &[Arc<dyn Intake>]) {
        self.intake.cancel();
        join_all(intakes.iter().map(|intake| intake.drain())).await;
    }
}

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
    /// Goes on serving after the signal, without taking in anything, for as long as the platform asks or until the app is
    /// away (contract 9.4).
    pub(super) async fn block_shutdown(&self, running: &Running) {
        let Some(period) = self.settings.block_shutdown else {
            return;
        };
        tracing::info!(
            "Blocking graceful shutdown for {} or until app reports unhealthy...",
            GoDuration::from(period)
        );
        let mut health = running.app.health();
        let period = async {
            tokio::select! {
                () = tokio::time::sleep(period) => {
                    tracing::info!("Block shutdown period expired, entering shutdown...");
                }
                _ = health.wait_for(|healthy| !*healthy), if running.app.is_configured() => {
                    tracing::info!("App reported unhealthy, entering shutdown...");
                }
                () = self.ending.asked() => {}
            }
        };
        // What is being delivered may take as long as all of the period.
        let intake = async {
            self.ending.close_intake(&running.intakes).await;
            std::future::pending().await
        };
        tokio::select! {
            () = period => {}
            () = intake => {}
        }
    }

    /// Stops everything in order.
    ///
    /// # Errors
    /// Where it takes longer than the graceful period, a task has failed, or the exit was forced.
    pub(super) async fn stop(&self, running: Running) -> Result<()> {
        let limit = self.settings.graceful_shutdown;
        tokio::select! {
            biased;
            () = self.ending.forced.cancelled() => self.forced(),
            result = self.stop_in_order(&running) => {
                result?;
                tracing::info!("Daprd shutdown gracefully");
                Ok(())
            }
            () = tokio::time::sleep(limit), if !limit.is_zero() => {
                tracing::error!("Graceful shutdown timeout exceeded, forcing shutdown");
                Err(anyhow!("shutdown took longer than {}", GoDuration::from(limit)))
            }
        }
    }

    /// Stops everything in order, so that the next life may begin. What takes longer than the graceful period, such as a
    /// stream that nobody ends, is broken off: the sidecar goes on. Q-restart-streams
    ///
    /// # Errors
    /// Where a task has failed, or the exit was forced.
    pub(super) async fn stop_for_restart(&self, running: Running) -> Result<()> {
        let limit = match self.settings.graceful_shutdown {
            Duration::ZERO => LONGEST_RESTART,
            limit => limit,
        };
        let mut stopping = pin!(self.stop_in_order(&running));
        tokio::select! {
            biased;
            () = self.ending.forced.cancelled() => return self.forced(),
            result = &mut stopping => return result,
            () = tokio::time::sleep(limit) => {}
        }
        tracing::warn!(
            "calls or deliveries go on after {}: they are broken off for the restart",
            GoDuration::from(limit)
        );
        self.daemon.abort();
        match tokio::time::timeout(BROKEN_OFF, stopping).await {
            Ok(result) => result,
            Err(_) => {
                tracing::error!("components are not closed after {BROKEN_OFF:?}, and left behind");
                Ok(())
            }
        }
    }

    async fn stop_in_order(&self, running: &Running) -> Result<()> {
        tracing::info!("dapr shutting down.");
        self.ending.close_intake(&running.intakes).await;
        // Their streams go on for as long as they may, and there are no actors any more to give them work.
        running.workers.close();
        self.servers.stop().await;
        let tasks = self.daemon.stop().await;
        if let Some(resolver) = running.resolver.swap(None) {
            resolver.close().await;
        }
        running.loader.close().await;
        tasks
    }

    fn forced(&self) -> Result<()> {
        tracing::info!("Force shutdown requested, exiting immediately without graceful shutdown");
        bail!("shutdown was forced")
    }
}

/// How long a restart waits for calls and deliveries where no graceful period is set.
const LONGEST_RESTART: Duration = Duration::from_secs(60);

/// How long components may take to close once everything that used them is broken off.
const BROKEN_OFF: Duration = Duration::from_secs(10);
