//! The flag groups that programs share (contract 5.1, 6.1, 7.1), to be flattened into a clap struct.

use std::path::PathBuf;

use clap::{ArgAction, Args};

use crate::arguments::boolean;

/// `log-level`, `log-as-json`, `log-file`.
#[derive(Args, Clone, Debug)]
pub struct LogFlags {
    /// Options are debug, info, warn, error, or fatal
    #[arg(long, default_value = "info")]
    pub log_level: String,
    /// Print log lines as JSON
    #[arg(long, default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = boolean)]
    pub log_as_json: bool,
    /// Path to a file where logs will be written; empty means standard output
    #[arg(long, default_value = "")]
    pub log_file: String,
}

impl LogFlags {
    /// The options these flags stand for, without an app id.
    #[must_use]
    pub fn options(&self) -> LogOptions {
        LogOptions {
            level: self.log_level.clone(),
            json: self.log_as_json,
            file: (!self.log_file.is_empty()).then(|| PathBuf::from(&self.log_file)),
            app_id: None,
        }
    }
}

/// `metrics-port`, `metrics-listen-address`, `enable-metrics`.
#[derive(Args, Clone, Debug)]
pub struct MetricsFlags {
    /// The port for the metrics server
    #[arg(long, default_value_t = 9090)]
    pub metrics_port: u16,
    /// The listening address for the metrics server
    #[arg(long, default_value = "0.0.0.0")]
    pub metrics_listen_address: String,
    /// Serve metrics
    #[arg(long, default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = boolean)]
    pub enable_metrics: bool,
}

impl MetricsFlags {
    /// The options these flags stand for.
    #[must_use]
    pub fn options(&self) -> MetricsOptions {
        MetricsOptions {
            enabled: self.enable_metrics,
            host: self.metrics_listen_address.clone(),
            port: self.metrics_port,
        }
    }
}

/// `healthz-port`, `healthz-listen-address`.
#[derive(Args, Clone, Debug)]
pub struct HealthFlags {
    /// The port used for the healthz server
    #[arg(long, default_value_t = 8080)]
    pub healthz_port: u16,
    /// The listening address for the healthz server
    #[arg(long, default_value = "")]
    pub healthz_listen_address: String,
}

impl HealthFlags {
    /// The options these flags stand for.
    #[must_use]
    pub fn options(&self) -> HealthOptions {
        HealthOptions {
            host: self.healthz_listen_address.clone(),
            port: self.healthz_port,
        }
    }
}

/// How a program logs.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// `debug`, `info`, `warn`, `error` or `fatal`, in any case.
    pub level: String,
    /// JSON lines in place of text.
    pub json: bool,
    /// Append to this file in place of standard output.
    pub file: Option<PathBuf>,
    /// The app that a sidecar belongs to; a field of every line when set.
    pub app_id: Option<String>,
}

/// Where metrics are served.
#[derive(Clone, Debug)]
pub struct MetricsOptions {
    /// Serve at all.
    pub enabled: bool,
    /// Host to listen on, empty for all interfaces.
    pub host: String,
    /// Port to listen on, 0 for any.
    pub port: u16,
}

/// Where `/healthz` is served.
#[derive(Clone, Debug)]
pub struct HealthOptions {
    /// Host to listen on, empty for all interfaces.
    pub host: String,
    /// Port to listen on, 0 for any.
    pub port: u16,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    #[command(args_override_self = true)]
    struct Flags {
        #[command(flatten)]
        log: LogFlags,
        #[command(flatten)]
        metrics: MetricsFlags,
        #[command(flatten)]
        health: HealthFlags,
    }

    #[test]
    fn defaults() {
        let flags = Flags::try_parse_from(["x"]).unwrap();
        let log = flags.log.options();
        assert_eq!(
            (log.level.as_str(), log.json, log.file),
            ("info", false, None)
        );
        let metrics = flags.metrics.options();
        assert_eq!(
            (metrics.enabled, metrics.host.as_str(), metrics.port),
            (true, "0.0.0.0", 9090)
        );
        let health = flags.health.options();
        assert_eq!((health.host.as_str(), health.port), ("", 8080));
    }

    #[test]
    fn booleans_and_overrides() {
        let args = [
            "x",
            "--log-as-json",
            "--enable-metrics=false",
            "--metrics-port=1",
            "--metrics-port=2",
        ];
        let flags = Flags::try_parse_from(args).unwrap();
        assert!(flags.log.log_as_json);
        assert!(!flags.metrics.enable_metrics);
        assert_eq!(flags.metrics.metrics_port, 2);
        assert!(Flags::try_parse_from(["x", "--enable-metrics=maybe"]).is_err());
    }
}
