//! The command line (contract 6.1).

use std::path::PathBuf;

use clap::{ArgAction, Parser, ValueEnum};
use daemon::{HealthFlags, LogFlags, MetricsFlags};
use values::GoDuration;

/// Command line of sentry.
#[derive(Parser, Clone, Debug)]
#[command(name = "sentry", version = daemon::version(), args_override_self = true)]
pub struct Flags {
    /// The Configuration: a file, or the name of the resource in a cluster
    #[arg(long, default_value = DEFAULT_CONFIG)]
    pub config: String,
    /// Folder of the issuer credentials
    #[arg(long, default_value = "/var/run/secrets/dapr.io/credentials")]
    pub issuer_credentials: PathBuf,
    /// File of the root certificates
    #[arg(long, default_value = "ca.crt")]
    pub issuer_ca_filename: PathBuf,
    /// File of the issuer's certificate chain
    #[arg(long, default_value = "issuer.crt")]
    pub issuer_certificate_filename: PathBuf,
    /// File of the issuer's private key
    #[arg(long, default_value = "issuer.key")]
    pub issuer_key_filename: PathBuf,
    /// Trust domain of the control plane
    #[arg(long, default_value = "localhost")]
    pub trust_domain: String,
    /// Port for certificate requests
    #[arg(long, default_value_t = 50001)]
    pub port: u16,
    /// Host to listen on for certificate requests; empty means all
    #[arg(long, default_value = "")]
    pub listen_address: String,
    /// Where sentry runs
    #[arg(long, value_enum, default_value = "standalone")]
    pub mode: Mode,
    /// Kubeconfig file [default: $HOME/.kube/config if there is one]
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Replace an issuer certificate that sentry has made, before it ends
    #[arg(long, default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = daemon::boolean)]
    pub issuer_rotation_enabled: bool,
    /// Replace a root certificate that sentry has made, before it ends; pods have to be restarted before the old one does
    #[arg(long, default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = daemon::boolean)]
    pub root_rotation_enabled: bool,
    #[command(flatten)]
    pub cert_manager: IssuerFlags,
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

/// An issuer that cert-manager certifies. Q-sentry-upstream
#[derive(clap::Args, Clone, Debug)]
pub struct IssuerFlags {
    /// Name of the issuer of cert-manager that certifies sentry's key as an authority; without one sentry makes a root
    #[arg(long, default_value = "")]
    pub cert_manager_issuer_name: String,
    /// Kind of that issuer
    #[arg(long, default_value = "Issuer")]
    pub cert_manager_issuer_kind: String,
    /// API group of that issuer
    #[arg(long, default_value = "cert-manager.io")]
    pub cert_manager_issuer_group: String,
    /// Life of the certificate that is asked for; the next one is asked for at half of it
    #[arg(long, default_value = "2160h")]
    pub cert_manager_issuer_life: GoDuration,
}

/// JWT issuing.
#[derive(clap::Args, Clone, Debug)]
pub struct JwtFlags {
    /// Issue JWTs beside certificates
    #[arg(long, default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = daemon::boolean)]
    pub jwt_enabled: bool,
    /// File of the key that signs JWTs; must be absolute to have an effect
    #[arg(long, default_value = "jwt.key")]
    pub jwt_key_filename: PathBuf,
    /// File of the public keys of JWTs; must be absolute to have an effect
    #[arg(long, default_value = "jwks.json")]
    pub jwks_filename: PathBuf,
    /// Claim iss of JWTs; left out when not given
    #[arg(long)]
    pub jwt_issuer: Option<String>,
    /// How JWTs are signed; has to fit the key
    #[arg(long, default_value = "RS256")]
    pub jwt_signing_algorithm: String,
    /// Key id in JWTs [default: thumbprint of the key]
    #[arg(long)]
    pub jwt_key_id: Option<String>,
    /// Life of a JWT
    #[arg(long, default_value = "24h")]
    pub jwt_ttl: GoDuration,
}

/// The OIDC server.
#[derive(clap::Args, Clone, Debug)]
pub struct OidcFlags {
    /// Serve the OIDC documents; needs jwt-enabled
    #[arg(long, default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = daemon::boolean)]
    pub oidc_enabled: bool,
    /// Port of the OIDC server
    #[arg(long, default_value_t = 9080)]
    pub oidc_server_listen_port: u16,
    /// Host the OIDC server listens on
    #[arg(long, default_value = "localhost")]
    pub oidc_server_listen_address: String,
    /// Insist on TLS for the OIDC server
    #[arg(long, default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = daemon::boolean)]
    pub oidc_server_tls_enabled: bool,
    /// Certificate of the OIDC server
    #[arg(long)]
    pub oidc_server_tls_cert_file: Option<PathBuf>,
    /// Private key of the OIDC server
    #[arg(long)]
    pub oidc_server_tls_key_file: Option<PathBuf>,
    /// Where the outside finds the key set
    #[arg(long)]
    pub oidc_jwks_uri: Option<String>,
    /// Put before every path of the OIDC server
    #[arg(long)]
    pub oidc_path_prefix: Option<String>,
    /// Hosts the OIDC server answers for; empty means any
    #[arg(long, value_delimiter = ',')]
    pub oidc_allowed_hosts: Vec<String>,
}

daemon::program!(Flags, "sentry");
