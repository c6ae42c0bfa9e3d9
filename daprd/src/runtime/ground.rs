//! The ground of a life: identity, resources and configuration, and what is compiled from them.

use std::{os::unix::fs::MetadataExt, sync::Arc};

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use blocks::registry;
use component::{Catalog, Instance, Lent, Spawn};
use crds::{Configuration, Kind};
use resiliency::Policies;
use security::Security;
use settings::Mode;
use telemetry::{Meter, trace::Tracer};
use transport::{ChannelOptions, Connector, Listener};

use super::Runtime;
use crate::{
    catalog::{catalog, discover},
    configuration::{self, Compiled},
    identity, lent,
    resources::{Desired, Source, disk::Disk, operator::Operator, report::Reporter},
    servers,
    tasks::Tasks,
};

/// The parts that everything else is made of.
pub struct Ground {
    pub security: Security,
    pub source: Source,
    /// In a cluster.
    pub reporter: Option<Reporter>,
    pub configuration: Configuration,
    pub compiled: Compiled,
    pub catalog: Arc<Catalog>,
    pub instance: Arc<Instance>,
    pub tasks: Arc<dyn Spawn>,
    pub lent: Lent,
    pub meter: Meter,
    pub tracer: Tracer,
    pub policies: Arc<ArcSwap<Policies>>,
    pub desired: Desired,
    /// Listening already: others may call before everything is loaded.
    pub internal: Vec<Listener>,
}

impl Ground {
    /// Names of the Resiliency resources, for the metadata API.
    pub fn resiliency_names(&self) -> Vec<String> {
        let all = self.desired.resiliencies();
        all.map(|one| one.name().to_owned()).collect()
    }

    /// What the registries of components are made of.
    pub fn registry(&self, namespace: &str) -> registry::Options {
        registry::Options {
            catalog: Arc::clone(&self.catalog),
            namespace: namespace.to_owned(),
            policies: Arc::clone(&self.policies),
            meter: self.meter.clone(),
        }
    }
}

impl Runtime<'_> {
    /// Identity, resources and configuration, and what is compiled from them.
    pub(super) async fn ground(&self) -> Result<Ground> {
        let settings = self.settings;
        let disk = Disk {
            directories: settings.resources_paths.clone(),
            configurations: settings.configurations.iter().map(Into::into).collect(),
            namespace: settings.namespace.clone(),
            app_id: settings.app.id.clone(),
        };
        let standalone = settings.mode == Mode::Standalone;
        // The trust domain to ask for stands in the Configuration, which on a machine is a file.
        let from_files = standalone.then(|| disk.configuration()).transpose()?;
        let trust_domain = from_files
            .as_ref()
            .and_then(|it| it.spec.access_control.as_ref()?.trust_domain.clone());
        let security = identity::open(settings, trust_domain, self.daemon)?;
        security.ready().await.context("identity")?;
        let (source, reporter) = if standalone {
            (Source::Disk(disk), None)
        } else {
            let (operator, reporter) = self.operator(&security)?;
            (Source::Operator(operator), Some(reporter))
        };
        let configuration = match from_files {
            Some(configuration) => configuration,
            None => source.configuration().await?,
        };
        let compiled =
            configuration::compile(&configuration, &settings.app.id, settings.api_logging)?;
        let meter = Meter::new(self.daemon.registry(), compiled.metrics.clone())?;
        let (tracer, export) = Tracer::new(&compiled.tracing)?;
        self.spawn("trace export", export.run(self.daemon.shutdown()));
        let mut desired = Desired::new(&settings.app.id, configuration.clone());
        source.list(&mut desired).await?;
        let resiliencies: Vec<_> = desired.resiliencies().cloned().collect();
        let (policies, problems) = Policies::load(&resiliencies, meter.clone());
        for problem in problems {
            tracing::error!("Could not read {}", component::error::chain(&problem));
        }
        let address = daemon::host_address(
            settings.host_ip.as_deref(),
            &settings.internal_grpc_listen_address,
        )?;
        let internal = self.listen_internal(&address.to_string()).await?;
        let port = internal
            .first()
            .and_then(Listener::local_addr)
            .map_or(0, |it| it.port());
        tracing::info!("Internal gRPC server is running on port {port}");
        let mut catalog = catalog()?;
        discover(&settings.components_sockets_folder, &mut catalog).await;
        let lent = lent::lent(&security);
        Ok(Ground {
            security,
            source,
            reporter,
            configuration,
            compiled,
            catalog: Arc::new(catalog),
            instance: Arc::new(Instance {
                app_id: settings.app.id.clone(),
                namespace: settings.namespace.clone(),
                host_address: address.to_string(),
                internal_port: port,
                app_port: settings.app.port.unwrap_or_default(),
                http_port: settings.http_port,
                grpc_port: settings.grpc_port,
            }),
            tasks: Arc::new(Tasks::new(self.daemon.clone(), |_| {})),
            lent,
            meter,
            tracer,
            policies: Arc::new(ArcSwap::new(policies)),
            desired,
            internal,
        })
    }

    fn operator(&self, security: &Security) -> Result<(Operator, Reporter)> {
        let settings = self.settings;
        let address = &settings.control_plane_address;
        let uri: http::Uri = format!("https://{address}")
            .parse()
            .with_context(|| format!("--control-plane-address {address:?}"))?;
        let expect = identity::control_plane(settings, security::OPERATOR)?;
        let security = security.clone();
        let dial = move || {
            let connector = Connector::maybe_tls(security.client(expect.clone()));
            transport::channel(uri.clone(), connector, ChannelOptions::default())
        };
        let configuration = settings.configurations.first().cloned();
        let namespace = identity::namespace(settings);
        let operator = Operator::new(dial(), namespace.clone(), configuration);
        let reporter = Reporter {
            dial: Arc::new(dial),
            namespace,
            pod: settings.pod_name.clone().unwrap_or_default(),
        };
        Ok((operator, reporter))
    }

    /// The port that is asked for, or one that stays the same over restarts, or any.
    async fn listen_internal(&self, host: &str) -> Result<Vec<Listener>> {
        let settings = self.settings;
        let addresses = [settings.internal_grpc_listen_address.clone()];
        if let Some(port) = settings.internal_grpc_port.filter(|port| *port > 0) {
            return servers::listen(&addresses, port, "internal gRPC").await;
        }
        let folder = std::env::current_dir().unwrap_or_default();
        let user = std::fs::metadata("/proc/self")?.uid();
        let port =
            settings::app_id::stable_port(&settings.app.id, &folder.to_string_lossy(), user, host);
        match servers::listen(&addresses, port, "internal gRPC").await {
            Ok(listeners) => Ok(listeners),
            Err(_) => servers::listen(&addresses, 0, "internal gRPC").await,
        }
    }
}
