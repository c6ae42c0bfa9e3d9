//! Settings after the one check: typed, complete, consistent.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::Secret;

/// What a start of daprd is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Be the sidecar.
    Run,
    /// Print the version and exit.
    Version,
    /// Print the build information and exit.
    BuildInfo,
    /// Wait until the daprd on this HTTP port is ready, and exit.
    Wait(u16),
}

/// Where daprd runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// On a machine, with resource files.
    Standalone,
    /// In a pod, with resources from the operator.
    Kubernetes,
}

/// How daprd talks to the app; the variants with an `s` do not verify the app's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the protocols")]
pub enum AppProtocol {
    Http,
    Https,
    H2c,
    Grpc,
    Grpcs,
}

impl AppProtocol {
    /// True for gRPC with and without TLS.
    pub fn is_grpc(self) -> bool {
        matches!(self, Self::Grpc | Self::Grpcs)
    }

    /// True when the app is reached over TLS.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Grpcs)
    }
}

impl fmt::Display for AppProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2c => "h2c",
            Self::Grpc => "grpc",
            Self::Grpcs => "grpcs",
        })
    }
}

/// The app behind the sidecar.
#[derive(Clone, Debug, PartialEq)]
pub struct App {
    /// Its ID.
    pub id: String,
    /// The port it listens on; without one there is no app channel.
    pub port: Option<u16>,
    /// The address it listens on.
    pub address: String,
    /// How to talk to it.
    pub protocol: AppProtocol,
    /// Calls at a time; `None` is no limit.
    pub max_concurrency: Option<usize>,
    /// Health probes, if on.
    pub health: Option<AppHealth>,
    /// Path of HTTP health probes; also read by health checks outside the probe loop.
    pub health_path: String,
    /// How long it may take to say which input bindings it wants.
    pub binding_options_timeout: Duration,
    /// Whether it is asked for its configuration at start.
    pub ask_config: bool,
    /// Whether it is asked for its subscriptions at start.
    pub ask_subscriptions: bool,
}

/// Health probes of the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppHealth {
    /// Between probes.
    pub interval: Duration,
    /// For one probe; never longer than the interval.
    pub timeout: Duration,
    /// Failures in a row that make the app unhealthy; at least one.
    pub threshold: u32,
}

/// How to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// debug, info, warn, error or fatal.
    pub level: String,
    /// JSON instead of text.
    pub json: bool,
    /// A file instead of standard output.
    pub file: Option<PathBuf>,
}

/// The metrics endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Off means no endpoint.
    pub enabled: bool,
    /// Its port.
    pub port: u16,
    /// Its address.
    pub address: String,
}

/// Timings that only the environment changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Between two looks of the janitor of a workflow on the fast path.
    pub workflow_janitor_period: Duration,
    /// How long an idle workflow stays in memory.
    pub workflow_reaper_idle_ttl: Duration,
    /// Between two looks for idle workflows; `None` is the engine's choice.
    pub workflow_reaper_scan_interval: Option<Duration>,
    /// How long whoever sends a completion waits on the fast path until a turn has stored it.
    pub workflow_fold_wait_timeout: Duration,
    /// How long an unused connection to a sidecar is kept.
    pub grpc_max_conn_idle: Duration,
    /// Between two looks for unused connections.
    pub grpc_conn_collector_interval: Duration,
}

/// daprd's settings, checked.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    missing_docs,
    reason = "fields named like a flag are documented by its row"
)]
pub struct Resolved {
    pub mode: Mode,
    pub app: App,
    pub http_port: u16,
    pub grpc_port: u16,
    /// `None`: [`app_id::stable_port`].
    pub internal_grpc_port: Option<u16>,
    /// Empty is every interface.
    pub internal_grpc_listen_address: String,
    /// `None`: no public port.
    pub public_port: Option<u16>,
    /// Empty is every interface.
    pub public_listen_address: String,
    /// Empty is every interface.
    pub listen_addresses: Vec<String>,
    pub unix_domain_socket: Option<PathBuf>,
    /// In bytes; `None` is no limit.
    pub max_body_size: Option<usize>,
    /// In bytes.
    pub read_buffer_size: usize,
    pub allowed_origins: String,
    pub resources_paths: Vec<PathBuf>,
    /// Files, or names of a Configuration resource.
    pub configurations: Vec<String>,
    pub control_plane_address: String,
    pub control_plane_trust_domain: String,
    pub control_plane_namespace: String,
    pub sentry_address: String,
    pub sentry_token_file: Option<PathBuf>,
    pub sentry_local_identity: Option<String>,
    pub sentry_request_jwt_audiences: Vec<String>,
    pub mtls: bool,
    /// PEM.
    pub trust_anchors: Option<String>,
    /// Empty: no actors.
    pub placement_addresses: Vec<String>,
    pub actors_disseminate_timeout: Duration,
    /// Empty: no scheduler.
    pub scheduler_addresses: Vec<String>,
    pub scheduler_job_streams: usize,
    pub hot_reload_reconcile_interval: Duration,
    pub graceful_shutdown: Duration,
    pub block_shutdown: Option<Duration>,
    /// `None`: the Configuration decides.
    pub api_logging: Option<bool>,
    pub builtin_secret_store: bool,
    /// `None`: no profiles.
    pub profile_port: Option<u16>,
    pub log: Log,
    pub metrics: Metrics,
    pub api_token: Option<Secret>,
    pub app_api_token: Option<Secret>,
    pub components_sockets_folder: PathBuf,
    /// Variables that components may read.
    pub env_keys: Vec<String>,
    pub h2c: bool,
    pub host_ip: Option<String>,
    /// Empty if unknown.
    pub namespace: String,
    pub pod_name: Option<String>,
    pub skip_user_check: bool,
    pub tuning: Tuning,
}

/// Value of `--disable-init-endpoints` that spares the app the question for its configuration.
pub const DISABLE_CONFIG: &str = "config";
/// Value of `--disable-init-endpoints` that spares the app the question for its subscriptions.
pub const DISABLE_SUBSCRIBE: &str = "subscribe";
