//! Checked settings.

use std::net::IpAddr;

use super::*;
use crate::store::etcd;

/// What the command line amounts to.
pub(crate) struct Settings {
    pub id: String,
    pub host: String,
    pub port: u16,
    /// `host:port` that sidecars are told.
    pub broadcast: String,
    pub store: Store,
    /// Where the identity is written.
    pub identity: Option<PathBuf>,
    pub kubernetes: bool,
    pub kubeconfig: Option<PathBuf>,
    service: ServiceOptions,
}

/// Where jobs are kept.
pub(crate) enum Store {
    Embedded(Embedded),
    /// An etcd elsewhere.
    Etcd(etcd::Options),
}

/// The store of this program.
pub(crate) struct Embedded {
    pub folder: PathBuf,
    pub quota: u64,
    /// Where its clients are heard.
    pub client_host: String,
    pub client_port: u16,
}

impl Flags {
    /// Checks what clap cannot, and reads the environment.
    pub(crate) fn settings(&self) -> anyhow::Result<Settings> {
        let kubernetes = self.service.mode == ServiceMode::Kubernetes;
        ensure!(
            kubernetes || self.kubeconfig.is_none(),
            "kubeconfig flag is only valid in --mode=kubernetes"
        );
        let service = self.service.options()?;
        let given = self.unused.given();
        if !given.is_empty() {
            tracing::info!("flags without effect: {}", given.join(", "));
        }
        let store = self.store(&service, kubernetes)?;
        let broadcast = match &self.override_broadcast_host_port {
            Some(address) => address.clone(),
            None => self.own_address()?,
        };
        Ok(Settings {
            id: self.id.clone(),
            host: self.listen_address.clone(),
            port: self.port,
            broadcast,
            store,
            identity: self.identity_directory_write.clone(),
            kubernetes,
            kubeconfig: self.kubeconfig.clone(),
            service,
        })
    }

    fn store(&self, service: &ServiceOptions, kubernetes: bool) -> anyhow::Result<Store> {
        if !self.etcd_embed {
            ensure!(
                !self.etcd_client_endpoints.is_empty(),
                "must specify --etcd-client-endpoints when not using embedded etcd"
            );
            return Ok(Store::Etcd(etcd::Options {
                endpoints: self.etcd_client_endpoints.clone(),
                username: self.etcd_client_username.clone(),
                password: self.etcd_client_password.clone(),
            }));
        }
        let external = [
            ("endpoints", !self.etcd_client_endpoints.is_empty()),
            ("username", !self.etcd_client_username.is_empty()),
            ("password", !self.etcd_client_password.is_empty()),
        ];
        if let Some((flag, _)) = external.iter().find(|(_, given)| *given) {
            bail!("cannot use --etcd-client-{flag} with --etcd-embed");
        }
        self.members()?;
        // Q-scheduler-etcd
        let host = &self.etcd_client_listen_address;
        ensure!(
            is_loopback(host),
            "flag --etcd-client-listen-address: {host:?} is not of the loopback, and the port for clients of the store has neither TLS nor users"
        );
        let folder = if kubernetes {
            self.etcd_data_dir.join(LAYOUT)
        } else {
            let own = format!("{}-{}", service.namespace, self.id);
            self.etcd_data_dir.join(own).join(LAYOUT)
        };
        let quota = self
            .etcd_space_quota
            .value()
            .and_then(|quota| u64::try_from(quota).ok());
        Ok(Store::Embedded(Embedded {
            folder,
            quota: quota.context("flag --etcd-space-quota is no number of bytes")?,
            client_host: self.etcd_client_listen_address.clone(),
            client_port: self.etcd_client_port,
        }))
    }

    /// Several members would each have their own jobs, and fire them alone. Q-scheduler-store
    fn members(&self) -> anyhow::Result<()> {
        let members = &self.etcd_initial_cluster;
        let own = members
            .iter()
            .any(|member| member.split_once('=').is_some_and(|(id, _)| id == self.id));
        ensure!(
            own,
            "scheduler ID: {} is not found in initial cluster",
            self.id
        );
        ensure!(
            members.len() == 1,
            "flag --etcd-initial-cluster lists {} members: the store of this program has one; several replicas keep their jobs in an etcd, which --etcd-embed=false and --etcd-client-endpoints name",
            members.len()
        );
        let url = members[0].split_once('=').map_or("", |(_, url)| url);
        ensure!(
            url.starts_with("http://") || url.starts_with("https://"),
            "flag --etcd-initial-cluster: {:?} is not of the form id=http://host:port",
            members[0]
        );
        Ok(())
    }

    fn own_address(&self) -> anyhow::Result<String> {
        let address = daemon::host_address(
            daemon::variable("DAPR_HOST_IP").as_deref(),
            &self.listen_address,
        )?;
        Ok(std::net::SocketAddr::from((address, self.port)).to_string())
    }
}

impl Settings {
    /// The scheduler's identity.
    pub fn security(&self, registry: &prometheus::Registry) -> security::Options {
        let service = &self.service;
        let anchors = Anchors::File(service.trust_anchors.clone());
        security::Options {
            requested_id: service.requested_id.clone(),
            token: TokenSource {
                file: service.token_file.clone(),
                ..TokenSource::default()
            },
            mtls: service.tls || service.kubernetes,
            kubernetes: service.kubernetes,
            ..security::Options::control_plane(
                security::SCHEDULER,
                &service.namespace,
                &service.trust_domain,
                &service.sentry_address,
                anchors,
                registry,
            )
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || literal.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The version of the layout in the data directory, as upstream counts it.
const LAYOUT: &str = "dapr-0.1";
