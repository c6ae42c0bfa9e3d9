//! Checked settings.

use super::*;

/// What the command line amounts to.
pub(crate) struct Settings {
    pub id: String,
    pub host: String,
    pub port: u16,
    /// `host:port` that sidecars are told.
    pub broadcast: String,
    /// The folder of the store.
    pub folder: PathBuf,
    pub quota: u64,
    pub client_host: String,
    pub client_port: u16,
    pub kubernetes: bool,
    pub kubeconfig: Option<PathBuf>,
    service: ServiceOptions,
}

impl Flags {
    /// Checks what clap cannot, and reads the environment.
    pub(crate) fn settings(&self) -> anyhow::Result<Settings> {
        self.store()?;
        self.members()?;
        let kubernetes = self.service.mode == ServiceMode::Kubernetes;
        ensure!(
            kubernetes || self.kubeconfig.is_none(),
            "kubeconfig flag is only valid in --mode=kubernetes"
        );
        let service = self.service.options()?;
        let given = self.unused.given();
        if !given.is_empty() {
            tracing::info!(
                "flags without effect on the embedded store: {}",
                given.join(", ")
            );
        }
        let folder = if kubernetes {
            self.etcd_data_dir.join(LAYOUT)
        } else {
            let own = format!("{}-{}", service.namespace, self.id);
            self.etcd_data_dir.join(own).join(LAYOUT)
        };
        let broadcast = match &self.override_broadcast_host_port {
            Some(address) => address.clone(),
            None => self.own_address()?,
        };
        let quota = self
            .etcd_space_quota
            .value()
            .and_then(|quota| u64::try_from(quota).ok());
        Ok(Settings {
            id: self.id.clone(),
            host: self.listen_address.clone(),
            port: self.port,
            broadcast,
            folder,
            quota: quota.context("flag --etcd-space-quota is no number of bytes")?,
            client_host: self.etcd_client_listen_address.clone(),
            client_port: self.etcd_client_port,
            kubernetes,
            kubeconfig: self.kubeconfig.clone(),
            service,
        })
    }

    fn store(&self) -> anyhow::Result<()> {
        let external = [
            ("endpoints", !self.etcd_client_endpoints.is_empty()),
            ("username", !self.etcd_client_username.is_empty()),
            ("password", !self.etcd_client_password.is_empty()),
        ];
        let given = external.iter().find(|(_, given)| *given);
        if let Some((flag, _)) = given.filter(|_| self.etcd_embed) {
            bail!("cannot use --etcd-client-{flag} with --etcd-embed");
        }
        ensure!(
            self.etcd_embed || !self.etcd_client_endpoints.is_empty(),
            "must specify --etcd-client-endpoints when not using embedded etcd"
        );
        // Q-scheduler-store
        ensure!(
            self.etcd_embed,
            "an etcd of its own (--etcd-embed=false) is not supported yet: leave the flag out, and run one replica"
        );
        Ok(())
    }

    /// Several members would each have their own jobs, and fire them alone.
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
            "flag --etcd-initial-cluster lists {} members: several members are not supported yet, run one, and name only it",
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

/// The version of the layout in the data directory, as upstream counts it.
const LAYOUT: &str = "dapr-0.1";
