//! sentry: the certificate authority of the control plane (contract 6).
//!
//! Sentry keeps nothing but its issuer credentials: they lie in files, or in a Secret and a ConfigMap, and a change
//! of them is taken over while requests go on.

pub mod api_server;
pub mod ca;
pub mod config;
mod flags;
mod gate;
pub mod jwt;
pub mod keeper;
pub mod metrics;
pub mod oidc;
pub mod own;
pub mod reload;
pub mod rotation;
pub mod server;
pub mod service;
pub mod settings;
pub mod store;
pub mod upstream;
pub mod validator;

use std::sync::Arc;

use anyhow::Context as _;
use daemon::Daemon;
use kubernetes::resolver;
use proto::sentry::v1::ca_server::CaServer;
use security::{KeyKind, Security};
use telemetry::{Meter, MetricOptions};
use tokens::Jwks;
use transport::Listener;

use crate::api_server::ApiServer;
use crate::config::Policy;
use crate::keeper::Keeper;
use crate::metrics::Metrics;
use crate::own::OwnCertificate;
use crate::reload::Reload;
use crate::service::Service;
use crate::settings::Settings;
use crate::store::Store;
use crate::upstream::{Renewal, Requests};
use crate::validator::{JwksValidator, KubernetesValidator, Validators};

pub use flags::Flags;

/// The program.
///
/// # Errors
/// For settings and credentials that cannot work, ports that are taken, and whatever ends a part early.
pub async fn run(flags: Flags, daemon: Daemon) -> anyhow::Result<()> {
    let settings = Settings::new(&flags, |name| std::env::var(name).ok())?;
    let metrics = Metrics::new(&Meter::new(daemon.registry(), MetricOptions::default())?);
    let serving = daemon.health().target("sentry-server");
    let Some(opened) = daemon.unless_shutdown(open(&settings, &metrics)).await else {
        return daemon.wait().await;
    };
    let Opened {
        api,
        policy,
        keeper,
        renewal,
    } = opened?;
    let validators = validators(&settings, policy.jwks, api, &daemon)?;

    let own = OwnCertificate {
        keeper: keeper.clone(),
        metrics: metrics.clone(),
        sentry: settings.id.clone(),
    };
    let (security, identity) = Security::from_source(Box::new(own), KeyKind::Ed25519);
    let shutdown = daemon.shutdown();
    daemon.spawn("security", async move { Ok(identity.run(shutdown).await?) });
    match daemon.unless_shutdown(security.ready()).await {
        Some(ready) => ready?,
        None => return daemon.wait().await,
    }

    let listener = Listener::listen(&settings.host, settings.port)
        .await
        .context("sentry server")?;
    let served = metrics.clone();
    let service = Service::new(service::Options {
        keeper: keeper.clone(),
        validators,
        metrics,
        sentry: settings.id.clone(),
        cluster_domain: cluster_domain(&settings),
    });
    let service = CaServer::new(service).max_decoding_message_size(server::MAX_MESSAGE);
    let service = server::bounded(tonic::service::Routes::new(service), &served);
    let options = server::options(security.server_tls(), &served);
    let shutdown = daemon.shutdown();
    daemon.spawn("server", async move {
        transport::serve(listener, options, service, shutdown).await;
        Ok(())
    });
    tracing::info!("answering certificate requests on port {}", settings.port);

    let oidc = spawn_oidc(&settings, &keeper, &daemon);
    let reload = Reload {
        keeper,
        security,
        oidc,
        renewal,
    };
    let shutdown = daemon.shutdown();
    daemon.spawn("reload", async move {
        reload.run(&settings.watched(), shutdown).await
    });
    serving.ready();
    daemon.wait().await
}

/// What sentry works with, as far as it lies elsewhere.
struct Opened {
    api: Option<ApiServer>,
    policy: Policy,
    keeper: Arc<Keeper>,
    renewal: Option<Renewal>,
}

async fn open(settings: &Settings, metrics: &Metrics) -> anyhow::Result<Opened> {
    let api = connect(settings).await?;
    let policy = Policy::load(settings, api.as_ref()).await?;
    let store = match api.clone() {
        Some(api) => {
            let namespace = settings.id.namespace().to_owned();
            Store::Cluster {
                api,
                namespace,
                paths: settings.paths.clone(),
            }
        }
        None => Store::Files(settings.paths.clone()),
    };
    let renewal = renewal(settings, &policy, api.clone());
    if let Some(renewal) = &renewal {
        renewal.begin(&store).await?;
    }
    let keeper = Keeper::open(keeper::Options {
        store,
        settings: settings.clone(),
        policy: policy.clone(),
        metrics: metrics.clone(),
        clock: Arc::new(values::SystemClock),
    })
    .await?;
    Ok(Opened {
        api,
        policy,
        keeper: Arc::new(keeper),
        renewal,
    })
}

/// What keeps an issuer from outside, where one is named.
fn renewal(settings: &Settings, policy: &Policy, api: Option<ApiServer>) -> Option<Renewal> {
    let (issuer, api) = (settings.cert_manager.clone()?, api?);
    let upstream = Requests {
        api,
        namespace: settings.id.namespace().to_owned(),
        issuer,
    };
    let wanted = upstream::Wanted {
        subject: settings.id.to_string(),
        life: settings.cert_manager_life,
        longest: policy.workload_ttl + policy.clock_skew,
    };
    let clock = Arc::new(values::SystemClock);
    Some(Renewal::new(Box::new(upstream), wanted, clock))
}

async fn connect(settings: &Settings) -> anyhow::Result<Option<ApiServer>> {
    if !settings.kubernetes {
        return Ok(None);
    }
    daemon::refuse_root()?;
    Ok(Some(
        ApiServer::connect(settings.kubeconfig.as_deref()).await?,
    ))
}

fn validators(
    settings: &Settings,
    jwks: Option<tokens::Options>,
    api: Option<ApiServer>,
    daemon: &Daemon,
) -> anyhow::Result<Validators> {
    let in_cluster = api.is_some();
    let kubernetes = api.map(|api| KubernetesValidator::new(api, &settings.id));
    let Some(options) = jwks else {
        return Ok(Validators {
            kubernetes,
            jwks: None,
        });
    };
    let (keys, runner) = Jwks::new(options).context("token validator jwks")?;
    let (loaded, ready) = (
        keys.clone(),
        daemon.health().target("sentry-jwks-validator"),
    );
    let shutdown = daemon.shutdown();
    daemon.spawn("jwks", async move {
        runner.run(shutdown).await.context("token validator jwks")
    });
    let shutdown = daemon.shutdown();
    daemon.spawn("jwks-ready", async move {
        if shutdown.run_until_cancelled(loaded.ready()).await.is_some() {
            ready.ready();
        }
        Ok(())
    });
    Ok(Validators {
        kubernetes,
        jwks: Some(JwksValidator::new(
            keys,
            &settings.id,
            in_cluster,
            Arc::new(values::SystemClock),
        )),
    })
}

fn spawn_oidc(
    settings: &Settings,
    keeper: &Arc<Keeper>,
    daemon: &Daemon,
) -> Option<Arc<oidc::ServerCertificate>> {
    let Some(settings) = settings.oidc.clone() else {
        tracing::info!("no OIDC server: it needs oidc-enabled and jwt-enabled");
        return None;
    };
    let certificate = settings
        .tls
        .clone()
        .map(|files| Arc::new(oidc::ServerCertificate::new(files)));
    let ready = daemon.health().target("oidc-server");
    let server = oidc::Server::new(keeper.clone(), settings);
    daemon.spawn(
        "oidc",
        server.run(certificate.clone(), ready, daemon.shutdown()),
    );
    certificate
}

/// The domain of names in the cluster, from the resolver's search list; elsewhere the trust domain stands for it.
fn cluster_domain(settings: &Settings) -> String {
    let fallback = settings.id.trust_domain();
    if !settings.kubernetes {
        return fallback.to_owned();
    }
    let text = std::fs::read_to_string(resolver::RESOLV_CONF).unwrap_or_default();
    resolver::cluster_domain(&text).unwrap_or_else(|| fallback.to_owned())
}
