//! The injector: an admission webhook that adds the daprd container to pods that ask for it (contract 4).
//!
//! What decides is pure (`patch`, `review`, `requester`, `pluggable`); around it stand a webhook server, the few cluster objects it
//! needs, watched, and the upkeep of its own webhook registration.

mod bundle;
mod caller;
mod config;
mod flags;
mod listers;
mod metrics;
pub mod patch;
mod pluggable;
mod pod;
mod requester;
pub mod review;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use daemon::Daemon;

pub use config::{Actors, Config, NativeSidecar, Service};
pub use flags::Flags;
pub use pod::POD_ANNOTATIONS;

/// Builds the parts of the injector and serves until shutdown.
///
/// # Errors
/// For bad configuration, an unusable kubeconfig, a taken port, and a part that fails.
pub async fn run(flags: Flags, daemon: Daemon) -> anyhow::Result<()> {
    let environment = |name: &str| std::env::var(name).ok();
    let config = Config::from_environment(environment, flags.scheduler_enabled)
        .context("bad configuration")?;
    let mut requesters =
        requester::Requesters::new(&config.service_accounts).context("bad configuration")?;
    let meter = telemetry::Meter::new(daemon.registry(), telemetry::MetricOptions::default())?;
    let metrics = metrics::Metrics::new(&meter);
    let client = kubernetes::connect(flags.kubeconfig.as_deref()).await?;
    let served = daemon.health().target("injector-service");
    let registered = daemon.health().target("webhook-configuration");
    let shutdown = daemon.shutdown();

    let (security, runner) = security::new(config.security(daemon.registry().clone()))?;
    let listers = listers::Listers::new(client.clone(), &config.namespace);
    let identity = runner.run(shutdown.clone());
    daemon.spawn(
        "security",
        async move { identity.await.map_err(Into::into) },
    );
    daemon.spawn("listers", listers.clone().run(shutdown.clone()));
    // Beside each other: where the cluster is silent, the start waits for it once.
    let start = async {
        let ready = tokio::join!(
            security.ready(),
            listers.ready(CLUSTER_PATIENCE),
            requesters.resolve(&client),
        );
        ready.0
    };
    let Some(ready) = daemon.unless_shutdown(start).await else {
        return daemon.wait().await;
    };
    ready?;

    daemon.spawn(
        "webhook registration",
        bundle::run(client, security.anchors(), registered, shutdown.clone()),
    );
    let mut tls = security.server_tls().context("no serving certificate")?;
    if let Some(file) = &flags.client_ca_file {
        let names = values::list::owned(&flags.client_names);
        tls = Arc::new(caller::require(&tls, file, &names)?);
    }
    let webhook = webhook::Webhook::new(config, requesters, listers, security.anchors(), metrics);
    let listener = transport::Listener::listen(&flags.listen_address, flags.port).await?;
    daemon.spawn("webhook", webhook.serve(listener, tls, served, shutdown));
    daemon.wait().await
}

/// How long the start waits for what it watches in the cluster; without it the defaults hold.
const CLUSTER_PATIENCE: Duration = Duration::from_secs(10);
