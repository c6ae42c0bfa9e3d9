//! The parts of the program in the order in which they need each other: ports, store, engine, services.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use daemon::{Daemon, Target};
use prometheus::IntGauge;
use proto::etcd::rpc::kv_server::KvServer;
use proto::etcd::rpc::lease_server::LeaseServer;
use proto::etcd::rpc::maintenance_server::MaintenanceServer;
use proto::scheduler::v1::Host;
use proto::scheduler::v1::scheduler_server::SchedulerServer;
use security::Security;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use transport::{KeepAlive, Listener, ServerOptions};
use values::SystemClock;

use crate::authorize::Authorizer;
use crate::cron::{self, Cron, Streams};
use crate::etcd::Etcd;
use crate::flags::{self, Settings};
use crate::leadership::{Hosts, Leadership};
use crate::metrics::Metrics;
use crate::names::LEADERSHIP;
use crate::namespaces;
use crate::service::Service;
use crate::store::embedded::{self, Embedded};
use crate::store::{self, Op, Store as _, etcd};

/// What outlives attempts to begin.
pub(crate) struct Surroundings {
    metrics: Metrics,
    serving: Target,
    storing: Target,
    firing: Target,
    namespaces: Option<Target>,
    leads: IntGauge,
    bytes: IntGauge,
    shutdown: CancellationToken,
}

impl Surroundings {
    pub fn new(settings: &Settings, metrics: Metrics, daemon: &Daemon) -> anyhow::Result<Self> {
        let target = |name: &str| daemon.health().target(name);
        // Dashboards of upstream's scheduler look at these of etcd.
        let leads = IntGauge::new(
            "etcd_server_has_leader",
            "Whether or not a leader exists. 1 is existence, 0 is not.",
        )?;
        let bytes = IntGauge::new(
            "etcd_mvcc_db_total_size_in_bytes",
            "Total size of the store's file in bytes.",
        )?;
        for gauge in [&leads, &bytes] {
            daemon.registry().register(Box::new(gauge.clone()))?;
        }
        Ok(Self {
            metrics,
            serving: target("scheduler-server"),
            storing: target(match settings.store {
                flags::Store::Embedded(_) => "scheduler-etcd-embed",
                flags::Store::Etcd(_) => "scheduler-etcd-external",
            }),
            firing: target("scheduler-cron"),
            namespaces: settings.kubernetes.then(|| target("scheduler-controller")),
            leads,
            bytes,
            shutdown: daemon.shutdown(),
        })
    }
}

/// A scheduler that has its ports, and its store.
pub(crate) struct Server<'a> {
    settings: &'a Settings,
    surroundings: &'a Surroundings,
    security: Security,
    listener: Listener,
    store: store::Shared,
    own: Option<Own>,
    cron: Cron,
    streams: Streams,
    hosts: Hosts,
}

/// What belongs to the store of this program.
struct Own {
    store: Embedded,
    writer: embedded::Writer,
    clients: Listener,
}

impl<'a> Server<'a> {
    /// Takes the ports and reads the store. What fails here may be tried again.
    pub async fn open(
        settings: &'a Settings,
        security: Security,
        surroundings: &'a Surroundings,
    ) -> anyhow::Result<Self> {
        let own = match &settings.store {
            flags::Store::Embedded(options) => Some(Own::open(options).await?),
            flags::Store::Etcd(_) => None,
        };
        let listener = Listener::listen(&settings.host, settings.port).await;
        let listener =
            listener.with_context(|| format!("could not listen on port {}", settings.port))?;
        let store: store::Shared = match (&own, &settings.store) {
            (Some(own), _) => Arc::new(own.store.clone()),
            (None, flags::Store::Etcd(options)) => Arc::new(etcd::Etcd::new(options)?),
            (None, flags::Store::Embedded(_)) => anyhow::bail!("there is no store"),
        };
        let host = Host {
            address: settings.broadcast.clone(),
        };
        let (leadership, hosts) = Leadership::new(store.clone(), &settings.id, &host);
        let health = cron::Health {
            storing: surroundings.storing.clone(),
            firing: surroundings.firing.clone(),
        };
        let (cron, streams) = Cron::new(
            store.clone(),
            leadership,
            surroundings.metrics.clone(),
            Arc::new(SystemClock),
            health,
        );
        Ok(Self {
            settings,
            surroundings,
            security,
            listener,
            store,
            own,
            cron,
            streams,
            hosts,
        })
    }

    /// Runs the parts on the program's tracker.
    pub fn spawn(self, daemon: &Daemon) {
        let Surroundings {
            metrics,
            serving,
            leads,
            bytes,
            ..
        } = self.surroundings;
        let service = Service {
            authorizer: Authorizer {
                mtls: self.security.enabled(),
                metrics: metrics.clone(),
            },
            store: self.store.clone(),
            streams: self.streams,
            metrics: metrics.clone(),
            clock: Arc::new(SystemClock),
            hosts: self.hosts,
            shutdown: self.surroundings.shutdown.clone(),
        };
        let routes = Routes::new(
            SchedulerServer::new(service)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
        );
        let options = ServerOptions {
            tls: self.security.server(),
            http1: false,
            keep_alive: Some(KEEP_ALIVE),
            ..ServerOptions::default()
        };
        tracing::info!("Dapr Scheduler listening on port {}", self.settings.port);
        let (token, listener) = (daemon.shutdown(), self.listener);
        daemon.spawn("scheduler server", async move {
            transport::serve(listener, options, routes.prepare(), token).await;
            Ok(())
        });

        if let Some(own) = self.own {
            own.spawn(daemon, bytes.clone());
        }
        let (token, cron) = (daemon.shutdown(), self.cron);
        daemon.spawn("cron", async move { Ok(cron.run(token).await?) });
        if let Some(ready) = self.surroundings.namespaces.clone() {
            let kubeconfig = self.settings.kubeconfig.clone();
            let (token, store) = (daemon.shutdown(), self.store.clone());
            daemon.spawn(
                "namespaces",
                namespaces::run(kubeconfig, store, ready, token),
            );
        }
        leads.set(1);
        serving.ready();
    }
}

impl Own {
    /// Takes the port for clients and opens the store, which has one replica: records are of programs before this one.
    async fn open(options: &flags::Embedded) -> anyhow::Result<Self> {
        let clients = Listener::listen(&options.client_host, options.client_port).await;
        let clients = clients.context("port for clients of the store")?;
        let (store, writer) = open(&options.folder, options.quota)?;
        let records = vec![Op::delete_prefix(LEADERSHIP)];
        store.commit(records.into()).await?;
        Ok(Self {
            store,
            writer,
            clients,
        })
    }

    fn spawn(self, daemon: &Daemon, bytes: IntGauge) {
        let etcd = Etcd {
            store: self.store.clone(),
        };
        let routes =
            Routes::new(KvServer::new(etcd.clone()).max_decoding_message_size(MAX_MESSAGE))
                .add_service(LeaseServer::new(etcd.clone()))
                .add_service(MaintenanceServer::new(etcd));
        let options = ServerOptions {
            http1: false,
            max_connections: MAX_CLIENTS,
            ..ServerOptions::default()
        };
        let (token, listener) = (daemon.shutdown(), self.clients);
        daemon.spawn("port for clients of the store", async move {
            transport::serve(listener, options, routes.prepare(), token).await;
            Ok(())
        });
        let watched = measure(self.store, bytes, daemon.shutdown());
        daemon.spawn("size of the store", watched);
        let writer = self.writer;
        daemon.spawn("store", async move { Ok(writer.ended().await?) });
    }
}

/// Says how large the file is, until shutdown.
async fn measure(
    store: Embedded,
    bytes: IntGauge,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let measuring = async {
        loop {
            match store.size().await {
                Ok(size) => bytes.set(i64::try_from(size.allocated).unwrap_or(i64::MAX)),
                Err(store::Error::Disk) => {}
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(MEASURE).await;
        }
    };
    shutdown
        .run_until_cancelled(measuring)
        .await
        .unwrap_or(Ok(()))
}

/// Opens the store in its folder, which is for nobody else.
pub(crate) fn open(folder: &Path, quota: u64) -> anyhow::Result<(Embedded, embedded::Writer)> {
    // Q-scheduler-store: jobs in the files of an etcd would be there and never fire.
    let etcd = folder.join("member");
    ensure!(
        !etcd.exists(),
        "{} has the jobs of an etcd, which this store does not read: move them, or give it another --etcd-data-dir",
        folder.display()
    );
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let file = folder.join(FILE);
    Embedded::open(&file, quota)
        .with_context(|| format!("cannot open the store {}", file.display()))
}

/// The store, in its folder.
pub(crate) const FILE: &str = "jobs.redb";

/// As upstream's: a connection that is dead is noticed within eight seconds.
const KEEP_ALIVE: KeepAlive = KeepAlive {
    interval: Duration::from_secs(3),
    timeout: Duration::from_secs(5),
    idle: None,
};

/// Bytes of a message: all that the protocol can say.
const MAX_MESSAGE: usize = i32::MAX as usize;

/// Clients of the store are tools.
const MAX_CLIENTS: usize = 256;

/// How often the file is measured.
const MEASURE: Duration = Duration::from_secs(5);
