//! placement: tells every sidecar of a namespace which hosts serve which actor types, and moves all of
//! them from one table to the next together (contract 7).
//!
//! Nothing is stored: sidecars report again when they connect. Of several members one leads, and the others send sidecars on.

use anyhow::Context as _;
use daemon::Daemon;
use security::Security;
use telemetry::{Meter, MetricOptions};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use transport::{KeepAlive, Listener, ServerOptions};

mod authorize;
mod board;
pub mod dissemination;
mod election;
mod flags;
mod mailbox;
mod members;
mod metrics;
mod server;
mod service;
mod state;
mod table;

use election::Election;
pub use election::Leads;
use flags::Settings;

pub use board::{Board, BoardTask, Options};
pub use flags::Flags;
pub use metrics::Metrics;
pub use server::Reports;
pub use state::{StateTable, StateTables};

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

    let leads = elect(&settings, &security, &daemon).await?;
    let (board, task) = Board::new(settings.board, leads.clone(), metrics.clone());
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
    serving.ready();
    // A member that follows is as healthy as the one that leads.
    leadership.ready();
    let id = settings.members.id;
    daemon.spawn("leadership", follow(leads, id, metrics, daemon.shutdown()));
    daemon.wait().await
}

/// Takes part in the election of the leader; one member alone leads from the start.
async fn elect(
    settings: &Settings,
    security: &Security,
    daemon: &Daemon,
) -> anyhow::Result<watch::Receiver<Leads>> {
    let token = daemon.shutdown();
    if settings.members.alone() {
        let port = members::Port::open(&settings.members.own).await?;
        daemon.spawn("port for members", async move {
            port.run(token).await;
            Ok(())
        });
        return Ok(watch::channel(Leads::First).1);
    }
    let options = election::Options {
        members: settings.members.clone(),
        security: security.clone(),
        folder: settings.vote_folder.clone(),
    };
    let (leads, election) = Election::open(options).await?;
    daemon.spawn("election", election.run(token));
    Ok(leads)
}

/// Says who leads, until shutdown.
async fn follow(
    mut leads: watch::Receiver<Leads>,
    id: String,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut led = false;
    loop {
        let now = leads.borrow_and_update().is_yes();
        metrics.leader(now);
        match (led, now) {
            (false, true) => tracing::info!("Node id={id} has acquired leadership"),
            (true, false) => tracing::warn!("Node id={id} has lost leadership"),
            _ => {}
        }
        led = now;
        // What it hears nothing of any more stays as it is.
        let changed = async {
            if leads.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        if shutdown.run_until_cancelled(changed).await.is_none() {
            return Ok(());
        }
    }
}
