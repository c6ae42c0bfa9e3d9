//! The sidecar: wiring of resources, building blocks, engines and servers, and the order in which they start and stop.

mod catalog;
mod components;
mod configuration;
mod flags;
mod identity;
mod inventory;
mod lent;
mod middleware;
mod names;
mod readiness;
mod reload;
mod resources;
mod runtime;
mod servers;
mod tasks;
mod wait;

use anyhow::Result;
use daemon::Daemon;
use settings::{Action, Mode};

pub use flags::Flags;
use runtime::{End, Runtime};

/// Runs the sidecar. A hang-up signal, or a changed resource that is only read at start, starts it anew in this process.
///
/// # Errors
/// What stops it: a setting, a component, a port that is taken.
pub async fn run(flags: Flags, daemon: Daemon) -> Result<()> {
    if let Action::Wait(port) = flags.action {
        return wait::until_ready(port).await;
    }
    tracing::info!(
        "Starting Dapr Runtime -- version {} -- commit {}",
        daemon::version(),
        daemon::commit()
    );
    for warning in &flags.warnings {
        tracing::warn!("{warning}");
    }
    let settings = flags.settings;
    if settings.mode == Mode::Kubernetes {
        daemon::refuse_root()?;
    }
    let mut hang_up = daemon.reload()?;
    loop {
        let scope = daemon.renewed(servers::drain(settings.graceful_shutdown));
        let runtime = Runtime::new(&settings, &scope, daemon.shutdown());
        match runtime.run(&mut hang_up).await? {
            End::Stopped => return Ok(()),
            End::Restart => tracing::info!("restarting in this process"),
        }
    }
}
