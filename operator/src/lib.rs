//! operator: resources for sidecars, Services for apps (contract 5).
//! Every replica serves the API and the conversion webhook; one of them, the leader, keeps Services and watches pods.

mod annotations;
mod api;
mod cleanup;
mod definition;
mod flags;
mod metrics;
mod pods;
mod resources;
mod services;
mod status;
mod watchdog;
mod webhook;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use daemon::{Daemon, Health, Target};
use k8s_openapi::api::coordination::v1::Lease;
use kubernetes::{Cluster, leadership};
use proto::extensions::operator::v1::component_status_server::ComponentStatusServer;
use proto::operator::v1::operator_server::OperatorServer;
use security::{Anchors, KeyKind, Security, TokenSource};
use telemetry::{Meter, MetricOptions};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use transport::{Listener, ServerOptions};

use crate::definition::Definition;
pub use crate::flags::Flags;
use crate::flags::WatchInterval;
use crate::metrics::{Metrics, PeerMetrics};
use crate::pods::Pods;
use crate::resources::{Informer, Kind};
use crate::status::{Reports, Statuses};

/// Name of the Lease (contract 5.2).
const LEASE: &str = "operator.dapr.io";

/// Calls on one connection of a sidecar, which needs a stream for each kind of resource and lists of them now and then.
const MOST_CALLS: u32 = 256;

/// How long requests under way may take when the operator stops (contract 5.3).
const DRAIN: Duration = Duration::from_secs(5);

/// Runs the operator until shutdown.
///
/// # Errors
/// When the cluster cannot be reached at the start, or a part fails.
pub async fn run(flags: Flags, daemon: Daemon) -> anyhow::Result<()> {
    let environment = Environment::read()?;
    let kubeconfig = Some(Path::new(&flags.kubeconfig)).filter(|path| !path.as_os_str().is_empty());
    let cluster = Cluster::connect(kubeconfig, &flags.watch_namespace).await?;
    if flags.uninstall_cleanup {
        return cleanup::run(&cluster, &environment.namespace).await;
    }
    // All of them before anything begins: with some of them only it would be ready as soon as these are.
    let parts = Parts::new(daemon.health());
    let settings = Settings::load(&cluster, &environment.namespace, &flags.config).await?;
    let (security, runner) = identity(&flags, &environment, &settings, &daemon)?;
    let shutdown = daemon.shutdown();
    let token = shutdown.clone();
    daemon.spawn("security", async move { Ok(runner.run(token).await?) });

    let informers = Kind::ALL.map(Informer::new);
    let pods = Pods::new();
    for informer in &informers {
        daemon.spawn(
            informer.kind().plural(),
            informer.clone().run(cluster.clone(), shutdown.clone()),
        );
    }
    daemon.spawn("pods", pods.clone().run(cluster.clone(), shutdown.clone()));
    let known = spawn_cache(&daemon, parts.cache, &informers, &pods);

    let statuses = Statuses::new(informers[Kind::Component as usize].clone());
    let reports = ComponentStatusServer::new(Reports::new(statuses.clone()));
    let api = api::Operator::new(cluster.clone(), informers, pods);
    let routes = Routes::new(OperatorServer::new(api));
    let routes = routes.add_service(reports.max_decoding_message_size(status::LARGEST_REPORT));
    let serving = (parts.identity, parts.api);
    spawn_api(&daemon, &flags, security.clone(), known, routes, serving);
    let webhook = spawn_webhook(
        &daemon,
        &flags,
        &environment,
        security,
        &cluster,
        parts.webhook,
    );
    webhook.await?;
    spawn_leader(
        &daemon,
        &flags,
        &environment,
        cluster,
        settings.mtls,
        statuses,
    )?;
    daemon.wait().await
}

/// Under which name the operator writes to objects. Upstream's operator has the same name, so either takes over what the other
/// has written.
const FIELD_MANAGER: &str = "operator";

/// What the operator takes from its environment.
struct Environment {
    namespace: String,
    host: String,
    webhooks: bool,
}

impl Environment {
    fn read() -> anyhow::Result<Self> {
        let text = |name: &str| std::env::var(name).unwrap_or_default();
        let namespace = text("NAMESPACE");
        if namespace.is_empty() {
            bail!("the environment variable NAMESPACE is not set");
        }
        Ok(Self {
            namespace,
            host: text("HOSTNAME"),
            webhooks: !text("ENABLE_WEBHOOKS").eq_ignore_ascii_case("false"),
        })
    }
}

/// What the control plane's Configuration says.
struct Settings {
    mtls: bool,
    trust_domain: String,
    sentry_address: String,
}

impl Settings {
    async fn load(cluster: &Cluster, namespace: &str, name: &str) -> anyhow::Result<Self> {
        let configurations = cluster.within::<crds::Configuration>(namespace);
        let configuration = configurations
            .get(name)
            .await
            .with_context(|| format!("cannot load configuration {namespace}/{name}"))?;
        let mtls = configuration.spec.mtls.unwrap_or_default();
        Ok(Self {
            mtls: mtls.enabled.unwrap_or(true),
            trust_domain: mtls.control_plane_trust_domain,
            sentry_address: mtls.sentry_address,
        })
    }
}

fn identity(
    flags: &Flags,
    environment: &Environment,
    settings: &Settings,
    daemon: &Daemon,
) -> anyhow::Result<(Security, security::Runner)> {
    let options = security::Options {
        app_id: security::OPERATOR.to_owned(),
        requested_id: None,
        namespace: environment.namespace.clone(),
        trust_domain: None,
        control_plane_trust_domain: settings.trust_domain.clone(),
        control_plane_namespace: environment.namespace.clone(),
        sentry_address: settings.sentry_address.clone(),
        anchors: Anchors::File(flags.trust_anchors_file.clone()),
        token: TokenSource::default(),
        // Some API servers refuse other keys from webhooks.
        key: KeyKind::Rsa2048,
        // The operator identifies its callers even where sidecars do without.
        mtls: true,
        kubernetes: true,
        jwt_audiences: Vec::new(),
        registry: daemon.registry().clone(),
    };
    security::new(options).context("security options")
}

/// What has to be ready for the operator to be, under the names of contract 5.3.
struct Parts {
    cache: Target,
    identity: Target,
    api: Target,
    webhook: Target,
}

impl Parts {
    fn new(health: &Health) -> Self {
        Self {
            cache: health.target("operator-cache"),
            identity: health.target("operator-security"),
            api: health.target("operator-api-server"),
            webhook: health.target("operator-webhook"),
        }
    }
}

/// Readiness of what the API answers from. The token is cancelled when all of it is known.
fn spawn_cache(
    daemon: &Daemon,
    target: Target,
    informers: &[Informer; 7],
    pods: &Pods,
) -> CancellationToken {
    let (informers, pods, shutdown) = (informers.clone(), pods.clone(), daemon.shutdown());
    let known = CancellationToken::new();
    let said = known.clone();
    daemon.spawn("cache", async move {
        let all = async {
            for informer in &informers {
                informer.known().await;
            }
            pods.known().await;
            target.ready();
            said.cancel();
        };
        shutdown.run_until_cancelled(all).await;
        Ok(())
    });
    known
}

/// Serves the API, but nothing before everything is `known`: a sidecar that calls before connects again.
fn spawn_api(
    daemon: &Daemon,
    flags: &Flags,
    security: Security,
    known: CancellationToken,
    api: Routes,
    (identified, serving): (Target, Target),
) {
    let (address, port) = (flags.listen_address.clone(), flags.port);
    let shutdown = daemon.shutdown();
    daemon.spawn("api", async move {
        let Some(ready) = shutdown.run_until_cancelled(security.ready()).await else {
            return Ok(());
        };
        ready?;
        identified.ready();
        if shutdown
            .run_until_cancelled(known.cancelled())
            .await
            .is_none()
        {
            return Ok(());
        }
        let listener = Listener::listen(&address, port).await?;
        let options = ServerOptions {
            tls: security.server(),
            http1: false,
            max_concurrent_streams: MOST_CALLS,
            drain: DRAIN,
            ..ServerOptions::default()
        };
        serving.ready();
        transport::serve(listener, options, api, shutdown).await;
        Ok(())
    });
}

async fn spawn_webhook(
    daemon: &Daemon,
    flags: &Flags,
    environment: &Environment,
    security: Security,
    cluster: &Cluster,
    target: Target,
) -> anyhow::Result<()> {
    if !environment.webhooks {
        target.ready();
        return Ok(());
    }
    let listener = Listener::listen(
        &flags.webhook_server_listen_address,
        flags.webhook_server_port,
    )
    .await?;
    let (shutdown, secured) = (daemon.shutdown(), security.clone());
    let meter = Meter::new(daemon.registry(), MetricOptions::default())?;
    let metrics = PeerMetrics::new(&meter);
    daemon.spawn("webhook", async move {
        let Some(ready) = shutdown.run_until_cancelled(secured.ready()).await else {
            return Ok(());
        };
        ready?;
        let options = ServerOptions {
            drain: DRAIN,
            tls: secured.server_tls(),
            ..webhook::options(&metrics)
        };
        transport::serve(listener, options, webhook::router(metrics), shutdown).await;
        Ok(())
    });
    let definition = Definition::new(cluster);
    let (shutdown, namespace) = (daemon.shutdown(), environment.namespace.clone());
    daemon.spawn("conversion", async move {
        let Some(ready) = shutdown.run_until_cancelled(security.ready()).await else {
            return Ok(());
        };
        ready?;
        definition
            .keep(&namespace, security.anchors(), &shutdown, || target.ready())
            .await;
        Ok(())
    });
    Ok(())
}

/// The leader's work: Services, the watchdog, and the status of components.
fn spawn_leader(
    daemon: &Daemon,
    flags: &Flags,
    environment: &Environment,
    cluster: Cluster,
    mtls: bool,
    statuses: Statuses,
) -> anyhow::Result<()> {
    let meter = Meter::new(daemon.registry(), MetricOptions::default())?;
    let services = (!flags.disable_service_reconciler).then(|| services::Options {
        cluster: cluster.clone(),
        metrics: Metrics::new(&meter),
        mtls,
        rollouts: flags.enable_argo_rollout_service_reconciler,
        resync: Some(flags.cache_sync_period)
            .filter(|period| !period.is_zero())
            .unwrap_or(services::DEFAULT_RESYNC),
    });
    let watchdog = (flags.watch_interval != WatchInterval::Never).then(|| watchdog::Options {
        cluster: cluster.clone(),
        namespace: environment.namespace.clone(),
        interval: flags.watch_interval,
        restarts_per_minute: flags.max_pod_restarts_per_minute,
        may_label: flags.watchdog_can_patch_pod_labels,
        meter: meter.clone(),
        instance: environment.host.clone(),
    });
    let watched = cluster.clone();
    let work = move |stop: CancellationToken| {
        let status = status::run(statuses.clone(), watched.clone(), stop.clone());
        let services = services
            .clone()
            .map(|options| services::run(options, stop.clone()));
        let watchdog = watchdog
            .clone()
            .map(|options| watchdog::run(options, stop.clone()));
        async move {
            let services = futures::future::OptionFuture::from(services);
            let watchdog = futures::future::OptionFuture::from(watchdog);
            futures::future::join4(services, watchdog, status, stop.cancelled()).await;
            Ok(())
        }
    };
    let shutdown = daemon.shutdown();
    if flags.disable_leader_election {
        daemon.spawn("leader", work(shutdown));
        return Ok(());
    }
    let options = leadership::Options {
        leases: cluster.within::<Lease>(&environment.namespace),
        name: LEASE.to_owned(),
        identity: leadership::identity(&environment.host),
    };
    daemon.spawn("leader", leadership::run(options, work, shutdown));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_not_ready_while_any_part_is_not() {
        let health = Health::default();
        let parts = Parts::new(&health);
        for part in [&parts.cache, &parts.identity, &parts.webhook, &parts.api] {
            assert!(!health.is_ready());
            part.ready();
        }
        assert!(health.is_ready());
    }
}
