//! Signals: the first request to stop is graceful, the second one is not.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;

/// Starts to listen at once, so that no signal is lost, and returns the loop that reacts.
pub(crate) fn watch(
    shutdown: CancellationToken,
) -> anyhow::Result<impl Future<Output = ()> + Send> {
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be watched")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be watched")?;
    Ok(async move {
        let name = next(&mut interrupt, &mut terminate).await;
        tracing::info!("received signal {name}; beginning shutdown");
        shutdown.cancel();
        let name = next(&mut interrupt, &mut terminate).await;
        tracing::error!(
            level = "fatal",
            "received signal {name} during shutdown; exiting immediately"
        );
        std::process::exit(Exit::Failure.code().into());
    })
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) -> &'static str {
    tokio::select! {
        _ = interrupt.recv() => "interrupt",
        _ = terminate.recv() => "terminated",
    }
}

/// Listens for SIGHUP.
pub(crate) fn hangup() -> anyhow::Result<Signal> {
    signal(SignalKind::hangup()).context("SIGHUP cannot be watched")
}
