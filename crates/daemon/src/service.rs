//! The flags of services that sidecars connect to, placement and the scheduler: who they are, and whom they trust
//! (contract 7.1, 8.1).

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};

use crate::arguments::boolean;

/// `tls-enabled`, `trust-domain`, `trust-anchors-file`, `sentry-address`, `mode`.
#[derive(Args, Clone, Debug)]
pub struct ServiceFlags {
    /// Should TLS be enabled for the gRPC server
    #[arg(long, default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = boolean)]
    pub tls_enabled: bool,
    /// Trust domain for the Dapr control plane
    #[arg(long, default_value = "localhost")]
    pub trust_domain: String,
    /// Filepath to the trust anchors for the Dapr control plane
    #[arg(long, default_value = "/var/run/secrets/dapr.io/tls/ca.crt")]
    pub trust_anchors_file: PathBuf,
    /// Address of the Sentry service [default: dapr-sentry.<namespace>.svc:443]
    #[arg(long)]
    pub sentry_address: Option<String>,
    /// Runtime mode
    #[arg(long, value_enum, default_value = "standalone")]
    pub mode: ServiceMode,
}

/// Where a service runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ServiceMode {
    /// As a process of somebody's.
    Standalone,
    /// In a pod.
    Kubernetes,
}

/// What the flags and the environment say.
#[derive(Clone, Debug)]
pub struct ServiceOptions {
    /// TLS is asked for.
    pub tls: bool,
    /// In a pod.
    pub kubernetes: bool,
    /// `NAMESPACE`, else `default`.
    pub namespace: String,
    /// Trust domain of the control plane.
    pub trust_domain: String,
    /// The file with the trust anchors.
    pub trust_anchors: PathBuf,
    /// `host:port` of sentry.
    pub sentry_address: String,
    /// Another id to ask sentry for (`SENTRY_LOCAL_IDENTITY`).
    pub requested_id: Option<String>,
    /// The file with the token for sentry (`DAPR_SENTRY_TOKEN_FILE`).
    pub token_file: Option<PathBuf>,
}

impl ServiceFlags {
    /// The options that these flags and the environment stand for.
    ///
    /// # Errors
    /// In a pod as root.
    pub fn options(&self) -> anyhow::Result<ServiceOptions> {
        let kubernetes = self.mode == ServiceMode::Kubernetes;
        if kubernetes {
            crate::refuse_root()?;
        }
        let namespace = variable("NAMESPACE").unwrap_or_else(|| "default".to_owned());
        let given = self.sentry_address.clone();
        Ok(ServiceOptions {
            tls: self.tls_enabled,
            kubernetes,
            trust_domain: self.trust_domain.clone(),
            trust_anchors: self.trust_anchors_file.clone(),
            sentry_address: given
                .filter(|address| !address.is_empty())
                .unwrap_or_else(|| format!("dapr-sentry.{namespace}.svc:443")),
            namespace,
            requested_id: variable("SENTRY_LOCAL_IDENTITY"),
            token_file: variable("DAPR_SENTRY_TOKEN_FILE").map(PathBuf::from),
        })
    }
}

/// An environment variable that is set to something.
#[must_use]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
