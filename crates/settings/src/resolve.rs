//! The one check: from what the doors said to typed, complete, consistent settings.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use values::{GoDuration, Quantity};

use crate::resolved::{
    Action, App, AppHealth, AppProtocol, DISABLE_CONFIG, DISABLE_SUBSCRIBE, Log, Metrics, Mode,
    Resolved, Tuning,
};
use crate::{Error, Place, Settings, app_id};

impl Settings {
    /// What the start is for; everything but [`Action::Run`] needs no [`Settings::resolve`].
    pub fn action(&self) -> Action {
        match (self.version, self.build_info, self.wait) {
            (Some(true), ..) => Action::Version,
            (_, Some(true), _) => Action::BuildInfo,
            (.., Some(true)) => Action::Wait(self.http_port.unwrap_or(DEFAULT_HTTP_PORT)),
            _ => Action::Run,
        }
    }

    /// Checks the settings and fills in the defaults.
    ///
    /// # Errors
    /// The first setting that is missing, out of range or in conflict with another, by name and value.
    pub fn resolve(self) -> Result<Resolved, Error> {
        let mode = self.resolve_mode()?;
        let http_port = self.http_port.unwrap_or(DEFAULT_HTTP_PORT);
        let grpc_port = self.grpc_port.unwrap_or(DEFAULT_GRPC_PORT);
        let disseminate = self
            .actors_disseminate_timeout
            .unwrap_or(GoDuration::from_secs(30));
        if disseminate <= GoDuration::ZERO {
            return Err(invalid(
                "actors-disseminate-timeout",
                disseminate,
                "must be above zero",
            ));
        }
        let streams = self.scheduler_job_streams.unwrap_or(DEFAULT_JOB_STREAMS);
        let scheduler_job_streams = usize::try_from(streams)
            .ok()
            .filter(|streams| *streams <= MAX_JOB_STREAMS)
            .ok_or_else(|| invalid("scheduler-job-streams", streams, "out of range"))?;
        if self.enable_mtls == Some(true) && self.trust_anchors.is_none() {
            return Err(Error::Missing {
                place: Place::Environment("DAPR_TRUST_ANCHORS"),
            });
        }
        Ok(Resolved {
            mode,
            app: self.resolve_app(mode, http_port, grpc_port)?,
            http_port,
            grpc_port,
            internal_grpc_port: self.internal_grpc_port.filter(|port| *port != 0),
            max_body_size: self.resolve_max_body_size()?,
            read_buffer_size: self.resolve_read_buffer_size()?,
            log: self.resolve_log()?,
            metrics: Metrics {
                enabled: self.enable_metrics.unwrap_or(true),
                port: self.metrics_port.unwrap_or(9090),
                address: self
                    .metrics_listen_address
                    .clone()
                    .unwrap_or_else(|| "0.0.0.0".to_owned()),
            },
            tuning: self.resolve_tuning(),
            resources_paths: self.resolve_resources_paths(),
            internal_grpc_listen_address: self.internal_grpc_listen_address.unwrap_or_default(),
            public_port: self.public_port,
            public_listen_address: self.public_listen_address.unwrap_or_default(),
            listen_addresses: self.listen_addresses.unwrap_or_default(),
            unix_domain_socket: path(self.unix_domain_socket),
            allowed_origins: self.allowed_origins.unwrap_or_default(),
            configurations: self.config.unwrap_or_default(),
            control_plane_address: self.control_plane_address.unwrap_or_default(),
            control_plane_trust_domain: self
                .control_plane_trust_domain
                .unwrap_or_else(|| "localhost".to_owned()),
            control_plane_namespace: self
                .control_plane_namespace
                .unwrap_or_else(|| "default".to_owned()),
            sentry_address: self.sentry_address.unwrap_or_default(),
            sentry_token_file: path(self.sentry_token_file),
            sentry_local_identity: self.sentry_local_identity,
            sentry_request_jwt_audiences: self.sentry_request_jwt_audiences.unwrap_or_default(),
            mtls: self.enable_mtls.unwrap_or(false),
            trust_anchors: self.trust_anchors,
            placement_addresses: self.placement_addresses.unwrap_or_default(),
            actors_disseminate_timeout: disseminate.saturating_std(),
            scheduler_addresses: unless_blank(self.scheduler_addresses.unwrap_or_default()),
            scheduler_job_streams,
            hot_reload_reconcile_interval: above_zero(
                self.hot_reload_reconcile_interval,
                Duration::from_secs(60),
            ),
            graceful_shutdown: match self.graceful_shutdown_seconds.map(u64::try_from) {
                Some(Ok(seconds)) => Duration::from_secs(seconds),
                _ => Duration::from_secs(5),
            },
            block_shutdown: self.block_shutdown_duration.map(GoDuration::saturating_std),
            api_logging: self.enable_api_logging,
            builtin_secret_store: !self.disable_builtin_k8s_secret_store.unwrap_or(false),
            profile_port: self
                .enable_profiling
                .unwrap_or(false)
                .then(|| self.profile_port.unwrap_or(7777)),
            api_token: self.api_token,
            app_api_token: self.app_api_token,
            components_sockets_folder: path(self.components_sockets_folder)
                .unwrap_or_else(|| PathBuf::from("/tmp/dapr-components-sockets")),
            env_keys: self
                .env_keys
                .unwrap_or_default()
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
            h2c: !self.http_disable_h2c.unwrap_or(false),
            host_ip: self.host_ip,
            namespace: self.namespace.unwrap_or_default(),
            pod_name: self.pod_name,
            skip_user_check: self.skip_user_check.unwrap_or(false),
        })
    }

    fn resolve_mode(&self) -> Result<Mode, Error> {
        match self.mode.as_deref() {
            None | Some("standalone") => Ok(Mode::Standalone),
            Some("kubernetes") => Ok(Mode::Kubernetes),
            Some(other) => Err(invalid("mode", other, "neither standalone nor kubernetes")),
        }
    }

    fn resolve_app(&self, mode: Mode, http_port: u16, grpc_port: u16) -> Result<App, Error> {
        let id = self.app_id.clone().unwrap_or_default();
        match app_id::check_standalone(&id) {
            Err(app_id::Error::Empty) => {
                return Err(Error::Missing {
                    place: Place::Flag("app-id"),
                });
            }
            // In Kubernetes the name was checked when the sidecar was injected.
            Err(error) if mode == Mode::Standalone => {
                return Err(invalid("app-id", &id, &error.to_string()));
            }
            _ => {}
        }
        let port = match self.app_port {
            Some(port @ 1..) => Some(
                u16::try_from(port)
                    .map_err(|_| invalid("app-port", port, "not a port between 0 and 65535"))?,
            ),
            _ => None,
        };
        for (flag, other) in [("dapr-http-port", http_port), ("dapr-grpc-port", grpc_port)] {
            if port == Some(other) {
                let (place, other_place) = (Place::Flag(flag), Place::Flag("app-port"));
                return Err(Error::Conflict {
                    place,
                    value: other.to_string(),
                    other: other_place,
                });
            }
        }
        let disabled = self.resolve_disabled_endpoints()?;
        Ok(App {
            id,
            port,
            address: self
                .app_channel_address
                .clone()
                .unwrap_or_else(|| "127.0.0.1".to_owned()),
            protocol: self.resolve_protocol()?,
            max_concurrency: self
                .app_max_concurrency
                .and_then(|n| usize::try_from(n).ok())
                .filter(|n| *n > 0),
            health: self
                .resolve_health()?
                .filter(|_| self.enable_app_health_check == Some(true)),
            health_path: self
                .app_health_check_path
                .clone()
                .unwrap_or_else(|| "/healthz".to_owned()),
            binding_options_timeout: above_zero(
                self.app_binding_options_timeout,
                Duration::from_secs(3),
            ),
            ask_config: !disabled.iter().any(|name| name == DISABLE_CONFIG),
            ask_subscriptions: !disabled.iter().any(|name| name == DISABLE_SUBSCRIBE),
        })
    }

    fn resolve_disabled_endpoints(&self) -> Result<Vec<String>, Error> {
        let names = self
            .disable_init_endpoints
            .iter()
            .flatten()
            .map(|name| name.to_ascii_lowercase());
        names
            .map(|name| match name.as_str() {
                DISABLE_CONFIG | DISABLE_SUBSCRIBE => Ok(name),
                _ => Err(invalid(
                    "disable-init-endpoints",
                    name,
                    "neither config nor subscribe",
                )),
            })
            .collect()
    }

    fn resolve_protocol(&self) -> Result<AppProtocol, Error> {
        let tls = self.app_ssl.unwrap_or(false);
        let text = self.app_protocol.as_deref().unwrap_or_default();
        Ok(match text.to_ascii_lowercase().as_str() {
            "" => AppProtocol::Http,
            "http" if tls => AppProtocol::Https,
            "http" => AppProtocol::Http,
            "https" => AppProtocol::Https,
            "h2c" => AppProtocol::H2c,
            "grpc" if tls => AppProtocol::Grpcs,
            "grpc" => AppProtocol::Grpc,
            "grpcs" => AppProtocol::Grpcs,
            _ => {
                return Err(invalid(
                    "app-protocol",
                    text,
                    "none of grpc, grpcs, http, https, h2c",
                ));
            }
        })
    }

    /// Numbers that are not above zero stand for the defaults, because wrappers pass 0 for "not set".
    fn resolve_health(&self) -> Result<Option<AppHealth>, Error> {
        let positive =
            |value: Option<i64>| value.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
        let interval = positive(self.app_health_probe_interval)
            .map_or(Duration::from_secs(5), Duration::from_secs);
        let timeout = positive(self.app_health_probe_timeout)
            .map_or(Duration::from_millis(500), Duration::from_millis);
        if timeout > interval {
            return Err(invalid(
                "app-health-probe-timeout",
                timeout.as_millis(),
                "in milliseconds, must not exceed app-health-probe-interval",
            ));
        }
        let threshold = positive(self.app_health_threshold).and_then(|n| i32::try_from(n).ok());
        let threshold = threshold
            .filter(|n| *n < i32::MAX)
            .map_or(3, i32::unsigned_abs);
        Ok(Some(AppHealth {
            interval,
            timeout,
            threshold,
        }))
    }

    fn resolve_max_body_size(&self) -> Result<Option<usize>, Error> {
        let size = size(
            "max-body-size",
            self.max_body_size.as_ref(),
            self.http_max_request_size,
            20,
        )?;
        Ok(match size {
            None | Some(-1) => Some(DEFAULT_MAX_BODY_SIZE),
            Some(size) => usize::try_from(size).ok().filter(|size| *size > 0),
        })
    }

    fn resolve_read_buffer_size(&self) -> Result<usize, Error> {
        let size = size(
            "read-buffer-size",
            self.read_buffer_size.as_ref(),
            self.http_read_buffer_size,
            10,
        )?;
        Ok(size
            .and_then(|size| usize::try_from(size).ok())
            .filter(|size| *size > 0)
            .unwrap_or(DEFAULT_READ_BUFFER_SIZE))
    }

    fn resolve_log(&self) -> Result<Log, Error> {
        let level = self
            .log_level
            .clone()
            .unwrap_or_else(|| "info".to_owned())
            .to_ascii_lowercase();
        if !["debug", "info", "warn", "error", "fatal"].contains(&level.as_str()) {
            return Err(invalid(
                "log-level",
                level,
                "none of debug, info, warn, error, fatal",
            ));
        }
        Ok(Log {
            level,
            json: self.log_as_json.unwrap_or(false),
            file: path(self.log_file.clone()),
        })
    }

    fn resolve_resources_paths(&self) -> Vec<PathBuf> {
        let paths: Vec<PathBuf> = self
            .resources_path
            .iter()
            .flatten()
            .map(PathBuf::from)
            .collect();
        if paths.is_empty() {
            path(self.components_path.clone()).into_iter().collect()
        } else {
            paths
        }
    }

    fn resolve_tuning(&self) -> Tuning {
        let janitor = above_zero(self.workflow_janitor_period, Duration::from_secs(20));
        Tuning {
            workflow_janitor_period: janitor,
            workflow_reaper_idle_ttl: above_zero(
                self.workflow_reaper_idle_ttl,
                (2 * janitor).max(Duration::from_secs(60)),
            ),
            workflow_reaper_scan_interval: self
                .workflow_reaper_scan_interval
                .and_then(GoDuration::to_std),
            workflow_fold_wait_timeout: above_zero(
                self.workflow_fold_wait_timeout,
                Duration::from_secs(120),
            ),
            grpc_max_conn_idle: above_zero(self.grpc_max_conn_idle, Duration::from_secs(180)),
            grpc_conn_collector_interval: above_zero(
                self.grpc_conn_collector_interval,
                Duration::from_secs(45),
            ),
        }
    }
}

/// Bytes of a size that has a quantity flag and an older flag in units of `1 << shift`; the quantity wins.
fn size(
    flag: &'static str,
    quantity: Option<&Quantity>,
    legacy: Option<i64>,
    shift: u32,
) -> Result<Option<i64>, Error> {
    match (quantity, legacy) {
        (Some(quantity), _) => quantity
            .value()
            .map(Some)
            .ok_or_else(|| invalid(flag, quantity, "more bytes than can be counted")),
        (None, Some(units @ 1..)) => Ok(Some(units.saturating_mul(1 << shift))),
        (None, legacy) => Ok(legacy),
    }
}

/// A list of nothing but quotes and blanks, as templates leave it, is none.
fn unless_blank(list: Vec<String>) -> Vec<String> {
    match list.as_slice() {
        [only] if only.trim_matches(['"', '\'']).trim().is_empty() => Vec::new(),
        _ => list,
    }
}

fn path(text: Option<String>) -> Option<PathBuf> {
    text.filter(|text| !text.is_empty()).map(PathBuf::from)
}

fn above_zero(duration: Option<GoDuration>, default: Duration) -> Duration {
    duration
        .and_then(GoDuration::to_std)
        .filter(|duration| !duration.is_zero())
        .unwrap_or(default)
}

fn invalid(flag: &'static str, value: impl fmt::Display, reason: &str) -> Error {
    Error::Value {
        place: Place::Flag(flag),
        value: value.to_string(),
        reason: reason.to_owned(),
    }
}

const DEFAULT_HTTP_PORT: u16 = 3500;
const DEFAULT_GRPC_PORT: u16 = 50001;
const DEFAULT_JOB_STREAMS: i64 = 3;
/// More streams than this are a typing error.
const MAX_JOB_STREAMS: usize = 1024;
const DEFAULT_MAX_BODY_SIZE: usize = 4 << 20;
const DEFAULT_READ_BUFFER_SIZE: usize = 4 << 10;
