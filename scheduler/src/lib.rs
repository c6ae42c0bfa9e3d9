//! scheduler: keeps jobs and reminders, and fires each at its time on one of the sidecars that take it (contract 8).

use std::time::Duration;

use daemon::Daemon;
use telemetry::{Meter, MetricOptions};
use values::Pauses;

mod authorize;
mod cron;
mod engine;
mod etcd;
mod flags;
mod gates;
mod identity;
mod leadership;
mod metrics;
mod names;
mod namespaces;
mod ownership;
mod progress;
mod routes;
mod server;
mod service;
mod slots;
mod spec;
mod store;
#[cfg(test)]
mod testing;
mod transfer;
pub mod trial;
mod watch;

pub use flags::Flags;
pub use metrics::Metrics;

use server::{Server, Surroundings};

/// The program.
///
/// # Errors
/// For settings that cannot work, and whatever ends a part early.
pub async fn run(flags: Flags, daemon: Daemon) -> anyhow::Result<()> {
    let settings = flags.settings()?;
    if let Some(command) = &flags.command {
        let moved = daemon.unless_shutdown(transfer::run(command, &settings.store));
        return moved
            .await
            .unwrap_or_else(|| Err(anyhow::anyhow!("broken off")));
    }
    let meter = Meter::new(daemon.registry(), MetricOptions::default())?;
    let metrics = Metrics::new(&meter);
    let secured = daemon.health().target("security-provider");
    let surroundings = Surroundings::new(&settings, metrics, &daemon)?;

    let (security, identity) = security::new(settings.security(daemon.registry()))?;
    let token = daemon.shutdown();
    daemon.spawn("security", async move { Ok(identity.run(token).await?) });
    if let Some(folder) = settings.identity.clone() {
        let files = identity::run(security.clone(), folder, daemon.shutdown());
        daemon.spawn("identity in files", files);
    }
    match daemon.unless_shutdown(security.ready()).await {
        Some(ready) => ready?,
        None => return daemon.wait().await,
    }
    secured.ready();

    // A port or a file that is in use may be so for a moment only, as when the program before still stops.
    let mut pauses = Pauses::doubling(FIRST_PAUSE, LONGEST_PAUSE);
    let server = loop {
        let opened = Server::open(&settings, security.clone(), &surroundings);
        match daemon.unless_shutdown(opened).await {
            Some(Ok(server)) => break server,
            Some(Err(error)) => {
                let pause = pauses.pause();
                tracing::error!("Scheduler server failed, recreating in {pause:?}: {error:#}");
                if daemon
                    .unless_shutdown(tokio::time::sleep(pause))
                    .await
                    .is_none()
                {
                    return daemon.wait().await;
                }
            }
            None => return daemon.wait().await,
        }
    };
    server.spawn(&daemon);
    daemon.wait().await
}

/// Before the program tries again to begin.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
