//! The sidecar's listeners.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use daemon::Daemon;
use settings::Resolved;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use transport::{KeepAlive, Listener, Serve, ServerOptions};

/// Opens one port on every address that can be had; at least one must be.
///
/// # Errors
/// Where none can be listened on.
pub async fn listen(addresses: &[String], port: u16, what: &str) -> Result<Vec<Listener>> {
    let any = [String::new()];
    let addresses = if addresses.is_empty() {
        &any
    } else {
        addresses
    };
    let mut listeners = Vec::new();
    let mut last = None;
    for address in addresses {
        match Listener::listen(address, port).await {
            Ok(listener) => {
                tracing::info!("{what} server listening on TCP address: {address}:{port}");
                listeners.push(listener);
            }
            Err(error) => {
                tracing::debug!("{what} server cannot listen on {address}:{port}: {error}");
                last = Some(error);
            }
        }
    }
    match last {
        Some(error) if listeners.is_empty() => Err(error)
            .with_context(|| format!("could not listen on any endpoint for the {what} API")),
        _ => Ok(listeners),
    }
}

/// Opens the listeners of an API: a socket in the folder, or the port.
///
/// # Errors
/// As [`listen`].
pub async fn listen_api(settings: &Resolved, port: u16, kind: &str) -> Result<Vec<Listener>> {
    let Some(folder) = &settings.unix_domain_socket else {
        return listen(&settings.listen_addresses, port, kind).await;
    };
    let file = format!("dapr-{}-{}.socket", settings.app.id, kind.to_lowercase());
    let path = folder.join(file);
    remove_stale(&path)?;
    tracing::info!("{kind} server listening on UNIX socket: {}", path.display());
    Ok(vec![Listener::unix(&path)?])
}

/// A socket that nobody listens on is left over from a sidecar that was killed.
fn remove_stale(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        bail!("socket {} is in use", path.display());
    }
    std::fs::remove_file(path).with_context(|| path.display().to_string())
}

/// How the sidecar's listeners are served.
pub fn options(settings: &Resolved) -> ServerOptions {
    ServerOptions {
        max_header_bytes: settings.read_buffer_size,
        keep_alive: Some(KeepAlive::default()),
        drain: drain(settings.graceful_shutdown),
        ..ServerOptions::default()
    }
}

/// The graceful period is one for the whole end, and who exceeds it fails; so parts do not give up before.
pub fn drain(graceful: Duration) -> Duration {
    match graceful {
        Duration::ZERO => MAX_DRAIN,
        limited => limited.saturating_add(DRAIN_MARGIN).min(MAX_DRAIN),
    }
}

const DRAIN_MARGIN: Duration = Duration::from_secs(1);
/// What stands for no limit, and still is a point in time.
const MAX_DRAIN: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The servers of a life, which stop together and before everything that calls under way still need.
pub struct Servers {
    daemon: Daemon,
    running: TaskTracker,
    stop: CancellationToken,
}

impl Servers {
    pub fn new(daemon: &Daemon) -> Self {
        Self {
            daemon: daemon.clone(),
            running: TaskTracker::new(),
            stop: daemon.shutdown().child_token(),
        }
    }

    /// Serves a listener until the servers stop, as a task of the daemon.
    pub fn spawn(
        &self,
        name: &'static str,
        listener: Listener,
        options: ServerOptions,
        service: impl Serve,
    ) {
        let serving = transport::serve(listener, options, service, self.stop.clone());
        let serving = self.running.track_future(serving);
        self.daemon.spawn(name, async move {
            serving.await;
            Ok(())
        });
    }

    /// Stops listening, and waits until the last call has been answered.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.running.close();
        self.running.wait().await;
    }
}
