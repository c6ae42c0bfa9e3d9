//! The command line (contract 6.1).

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, CommandFactory, Parser, ValueEnum};
use daemon::{HealthFlags, HealthOptions, LogFlags, LogOptions, MetricsFlags, MetricsOptions};
use values::GoDuration;

/// Command line of sentry.
#[derive(Parser, Clone, Debug)]
#[command(name = "sentry", version = daemon::version(), args_override_self = true)]
pub struct Flags {
    /// Path to config file, or name of a configuration object
    #[arg(long, default_value = DEFAULT_CONFIG)]
    pub config: String,
    /// Path to the credentials directory holding the issuer data
    #[arg(long, default_value = "/var/run/secrets/dapr.io/credentials")]
    pub issuer_credentials: PathBuf,
    /// Certificate Authority certificate filename
    #[arg(long, default_value = "ca.crt")]
    pub issuer_ca_filename: PathBuf,
    /// Issuer certificate filename
    #[arg(long, default_value = "issuer.crt")]
    pub issuer_certificate_filename: PathBuf,
    /// Issuer private key filename
    #[arg(long, default_value = "issuer.key")]
    pub issuer_key_filename: PathBuf,
    /// The CA trust domain
    #[arg(long, default_value = "localhost")]
    pub trust_domain: String,
    /// The port for the sentry server to listen on
    #[arg(long, default_value_t = 50001)]
    pub port: u16,
    /// The listen address for the sentry server
    #[arg(long, default_value = "")]
    pub listen_address: String,
    /// Runtime mode for Dapr Sentry
    #[arg(long, value_enum, default_value = "standalone")]
    pub mode: Mode,
    /// Absolute path to the kubeconfig file [default: $HOME/.kube/config]
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    pub jwt: JwtFlags,
    #[command(flatten)]
    pub oidc: OidcFlags,
    #[command(flatten)]
    pub log: LogFlags,
    #[command(flatten)]
    pub metrics: MetricsFlags,
    #[command(flatten)]
    pub health: HealthFlags,
}

/// Name of the control plane's Configuration object.
pub const DEFAULT_CONFIG: &str = "daprsystem";

/// Where sentry runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    Standalone,
    Kubernetes,
}

/// JWT issuing.
#[derive(clap::Args, Clone, Debug)]
pub struct JwtFlags {
    /// Enable JWT token issuance by Sentry
    #[arg(long, default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = daemon::boolean)]
    pub jwt_enabled: bool,
    /// JWT signing key filename; only an absolute path has an effect
    #[arg(long, default_value = "jwt.key")]
    pub jwt_key_filename: PathBuf,
    /// JWKS (JSON Web Key Set) filename; only an absolute path has an effect
    #[arg(long, default_value = "jwks.json")]
    pub jwks_filename: PathBuf,
    /// Issuer value for JWT tokens (no issuer if unset)
    #[arg(long)]
    pub jwt_issuer: Option<String>,
    /// Algorithm used for JWT signing, must be supported by signing key
    #[arg(long, default_value = "RS256")]
    pub jwt_signing_algorithm: String,
    /// Key ID (kid) used for JWT signing [default: base64 encoded SHA-256 of the signing key]
    #[arg(long)]
    pub jwt_key_id: Option<String>,
    /// Time-to-live for JWT tokens
    #[arg(long, default_value = "24h")]
    pub jwt_ttl: GoDuration,
}

/// The OIDC server.
#[derive(clap::Args, Clone, Debug)]
pub struct OidcFlags {
    /// Enable OIDC HTTP server for Dapr Sentry
    #[arg(long, default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = daemon::boolean)]
    pub oidc_enabled: bool,
    /// The port for the OIDC HTTP server
    #[arg(long, default_value_t = 9080)]
    pub oidc_server_listen_port: u16,
    /// The address for the OIDC HTTP server
    #[arg(long, default_value = "localhost")]
    pub oidc_server_listen_address: String,
    /// Serve OIDC HTTP with TLS
    #[arg(long, default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = daemon::boolean)]
    pub oidc_server_tls_enabled: bool,
    /// TLS certificate file for the OIDC HTTP server
    #[arg(long)]
    pub oidc_server_tls_cert_file: Option<PathBuf>,
    /// TLS key file for the OIDC HTTP server
    #[arg(long)]
    pub oidc_server_tls_key_file: Option<PathBuf>,
    /// Custom URI where the JWKS can be accessed externally
    #[arg(long)]
    pub oidc_jwks_uri: Option<String>,
    /// Path prefix to add to OIDC HTTP endpoints
    #[arg(long)]
    pub oidc_path_prefix: Option<String>,
    /// List of allowed hosts for OIDC HTTP endpoints
    #[arg(long, value_delimiter = ',')]
    pub oidc_allowed_hosts: Vec<String>,
}

impl daemon::Program for Flags {
    const NAME: &'static str = "sentry";

    fn command() -> Option<clap::Command> {
        Some(<Self as CommandFactory>::command())
    }
    fn parse(args: Vec<OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(args)
    }
    fn log(&self) -> LogOptions {
        self.log.options()
    }
    fn metrics(&self) -> MetricsOptions {
        self.metrics.options()
    }
    fn health(&self) -> Option<HealthOptions> {
        Some(self.health.options())
    }
}
