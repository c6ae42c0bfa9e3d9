//! The command line (contract 7.1), and the settings it amounts to.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{ArgAction, Parser};
use daemon::{HealthFlags, LogFlags, MetricsFlags, ServiceFlags, ServiceOptions};
use security::{Anchors, TokenSource};
use values::GoDuration;

use crate::board::Options;
use crate::members::Members;

/// Command line of placement.
#[derive(Parser, Debug)]
#[command(name = "placement", version = daemon::version(), args_override_self = true)]
pub struct Flags {
    /// Placement server ID
    #[arg(long, default_value = "dapr-placement-0")]
    id: String,
    /// raft cluster peers, as id=host:port
    #[arg(long, default_value = "dapr-placement-0=127.0.0.1:8201")]
    initial_cluster: String,
    /// Keep this member's vote in memory only; without it, in the folder of raft-logstore-path
    #[arg(long, default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = daemon::boolean)]
    inmem_store_enabled: bool,
    /// Folder for the vote of a member of several
    #[arg(long, default_value = "")]
    raft_logstore_path: String,
    /// The gRPC port for the placement service
    #[arg(long, default_value_t = 50005)]
    port: u16,
    /// The listening address for the placement service
    #[arg(long, default_value = "")]
    listen_address: String,
    /// Expose the placement tables on the healthz server; env DAPR_PLACEMENT_METADATA_ENABLED if absent
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = daemon::boolean)]
    metadata_enabled: Option<bool>,
    /// The replication factor for actor distribution on vnodes
    #[arg(long = "replicationFactor", default_value_t = 100)]
    replication_factor: i64,
    /// The interval at which the placement service sends keepalive pings, 1s to 10s
    #[arg(long, default_value = "2s")]
    keepalive_time: GoDuration,
    /// The timeout for keepalive pings, 1s to 10s
    #[arg(long, default_value = "3s")]
    keepalive_timeout: GoDuration,
    /// The timeout for one dissemination round
    #[arg(long, default_value = "8s")]
    disseminate_timeout: GoDuration,
    /// How long to collect changes after a round before the next one; 0 is off
    #[arg(long, default_value = "0")]
    disseminate_coalesce_window: GoDuration,
    /// Deprecated, without effect
    #[arg(long, hide = true, default_value_t = 10)]
    max_api_level: i32,
    /// Deprecated, without effect
    #[arg(long, hide = true, default_value_t = 0)]
    min_api_level: i32,
    #[command(flatten)]
    service: ServiceFlags,
    #[command(flatten)]
    log: LogFlags,
    #[command(flatten)]
    metrics: MetricsFlags,
    #[command(flatten)]
    health: HealthFlags,
}

daemon::program!(Flags, "placement");

/// Checked settings.
pub(crate) struct Settings {
    pub host: String,
    pub port: u16,
    pub members: Members,
    /// Where the vote is kept.
    pub vote_folder: Option<PathBuf>,
    pub metadata: bool,
    pub keep_alive_time: Duration,
    pub keep_alive_timeout: Duration,
    pub board: Options,
    service: ServiceOptions,
}

impl Flags {
    /// Checks what clap cannot, and reads the environment.
    pub(crate) fn settings(&self) -> anyhow::Result<Settings> {
        let members = Members::parse(&self.initial_cluster, &self.id)?;
        let on_disk = !self.inmem_store_enabled && !self.raft_logstore_path.is_empty();
        let service = self.service.options()?;
        let metadata = self.metadata_enabled.unwrap_or_else(|| {
            daemon::variable("DAPR_PLACEMENT_METADATA_ENABLED")
                .is_some_and(|value| values::is_truthy(&value))
        });
        ensure!(
            self.replication_factor > 0,
            "flag --replicationFactor: {} is not positive",
            self.replication_factor
        );
        let timeout = self
            .disseminate_timeout
            .to_std()
            .filter(|timeout| !timeout.is_zero());
        Ok(Settings {
            host: self.listen_address.clone(),
            port: self.port,
            members,
            vote_folder: on_disk.then(|| PathBuf::from(&self.raft_logstore_path)),
            metadata,
            keep_alive_time: keep_alive("keepalive-time", self.keepalive_time)?,
            keep_alive_timeout: keep_alive("keepalive-timeout", self.keepalive_timeout)?,
            board: Options {
                replication_factor: self.replication_factor,
                timeout: timeout.with_context(|| {
                    format!(
                        "flag --disseminate-timeout: {} is not positive",
                        self.disseminate_timeout
                    )
                })?,
                coalesce: self.disseminate_coalesce_window.saturating_std(),
            },
            service,
        })
    }
}

impl Settings {
    /// Placement's identity.
    pub fn security(&self, registry: &prometheus::Registry) -> security::Options {
        let service = &self.service;
        let anchors = Anchors::File(service.trust_anchors.clone());
        security::Options {
            requested_id: service.requested_id.clone(),
            token: TokenSource {
                file: service.token_file.clone(),
                ..TokenSource::default()
            },
            mtls: service.tls,
            // Without TLS placement calls nobody, so it needs no certificate on Kubernetes either.
            kubernetes: service.kubernetes && service.tls,
            ..security::Options::control_plane(
                security::PLACEMENT,
                &service.namespace,
                &service.trust_domain,
                &service.sentry_address,
                anchors,
                registry,
            )
        }
    }
}

fn keep_alive(flag: &str, value: GoDuration) -> anyhow::Result<Duration> {
    let allowed = Duration::from_secs(1)..=Duration::from_secs(10);
    value
        .to_std()
        .filter(|value| allowed.contains(value))
        .with_context(|| format!("flag --{flag}: {value} is not between 1s and 10s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Flags {
        Flags::try_parse_from(std::iter::once("placement").chain(args.iter().copied())).unwrap()
    }

    #[test]
    fn defaults() {
        let flags = parse(&[]);
        let settings = flags.settings().unwrap();
        assert_eq!(
            (settings.port, settings.host.as_str(), settings.service.tls),
            (50005, "", false)
        );
        assert_eq!(settings.keep_alive_time, Duration::from_secs(2));
        assert_eq!(settings.keep_alive_timeout, Duration::from_secs(3));
        assert_eq!(settings.board.timeout, Duration::from_secs(8));
        assert_eq!(settings.board.coalesce, Duration::ZERO);
        assert_eq!(settings.board.replication_factor, 100);
        assert!(settings.service.sentry_address.starts_with("dapr-sentry."));
    }

    #[test]
    fn limits_name_the_flag() {
        for (arg, name) in [
            ("--keepalive-time=500ms", "--keepalive-time"),
            ("--keepalive-timeout=11s", "--keepalive-timeout"),
            ("--disseminate-timeout=0s", "--disseminate-timeout"),
            ("--replicationFactor=0", "--replicationFactor"),
            ("--id=other", "--id"),
        ] {
            let error = parse(&[arg]).settings().err().unwrap().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn what_tests_and_charts_pass() {
        let flags = parse(&[
            "--log-level=debug",
            "--id=x",
            "--port=0",
            "--listen-address=127.0.0.1",
            "--healthz-port=1",
            "--healthz-listen-address=127.0.0.1",
            "--metrics-port=2",
            "--metrics-listen-address=127.0.0.1",
            "--initial-cluster=x=127.0.0.1:3",
            "--tls-enabled=true",
            "--metadata-enabled=true",
            "--max-api-level=20",
            "--min-api-level=10",
            "--mode=standalone",
            "--disseminate-coalesce-window=500ms",
            "--inmem-store-enabled",
            "--raft-logstore-path=x",
        ]);
        let settings = flags.settings().unwrap();
        assert!(settings.service.tls && settings.metadata);
        assert_eq!(settings.board.coalesce, Duration::from_millis(500));
    }
}
