//! placement: tells every sidecar of a namespace which hosts serve which actor types, and moves all of
//! them from one table to the next together (contract 7).
//!
//! Nothing is stored: sidecars report again when they connect.

use anyhow::Context as _;
use daemon::Daemon;
use telemetry::{Meter, MetricOptions};
use transport::{KeepAlive, Listener, ServerOptions};

mod authorize;
mod board;
mod cluster;
pub mod dissemination;
mod flags;
mod mailbox;
mod metrics;
mod refusals;
mod server;
mod service;
mod table;

pub use board::{Board, BoardTask, Options, StateTable, StateTables};
pub use flags::Flags;
pub use metrics::Metrics;
pub use server::Reports;

/// The program.
///
/// # Errors
/// For settings that cannot work, ports that are taken, and whatever ends a part early.
pub async fn run(flags: Flags, daemon: Daemon) -> anyhow::Result<()> {
    let settings = flags.settings()?;
    let meter = Meter::new(daemon.registry(), MetricOptions::default())?;
    let metrics = Metrics::new(&meter);
    let leadership = daemon.health().target("placement-raft-leadership");
    let serving = daemon.health().target("placement-grpc-server");
    let secured = daemon.health().target("security-provider");

    let (security, identity) = security::new(settings.security(daemon.registry()))?;
    let token = daemon.shutdown();
    daemon.spawn("security", async move { Ok(identity.run(token).await?) });
    match daemon.unless_shutdown(security.ready()).await {
        Some(ready) => ready?,
        None => return daemon.wait().await,
    }
    secured.ready();

    let (board, task) = Board::new(settings.board, metrics.clone());
    if settings.metadata {
        let board = board.clone();
        daemon.health().page("/placement/state", move || {
            let board = board.clone();
            Box::pin(async move { board.state_json().await })
        });
    }
    let listener = Listener::listen(&settings.host, settings.port)
        .await
        .context("placement server cannot listen")?;
    let members = cluster::Port::open(&settings.members).await?;
    tracing::info!("Placement service started on port {}", settings.port);
    let options = ServerOptions {
        tls: security.server(),
        http1: false,
        keep_alive: Some(KeepAlive {
            interval: settings.keep_alive_time,
            timeout: settings.keep_alive_timeout,
            idle: None,
        }),
        ..ServerOptions::default()
    };
    let service = Reports::new(board, security.enabled());
    let token = daemon.shutdown();
    daemon.spawn("dissemination", async move {
        task.run(token).await;
        Ok(())
    });
    let token = daemon.shutdown();
    daemon.spawn("placement server", async move {
        transport::serve(listener, options, service, token).await;
        Ok(())
    });
    let token = daemon.shutdown();
    daemon.spawn("port for members", async move {
        members.run(token).await;
        Ok(())
    });
    serving.ready();

    // One member is its own quorum.
    metrics.leader(true);
    leadership.ready();
    tracing::info!("Node id={} has acquired leadership", settings.id);
    daemon.wait().await
}
