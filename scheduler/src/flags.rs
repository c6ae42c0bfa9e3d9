//! The command line (contract 8.1), and the settings it amounts to.

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use clap::{ArgAction, Parser};
use daemon::{HealthFlags, LogFlags, MetricsFlags, ServiceFlags, ServiceMode, ServiceOptions};
use security::{Anchors, TokenSource};
use values::{GoDuration, Quantity};

use crate::transfer::Command;

mod settings;

pub(crate) use settings::{Embedded, Settings, Store};

/// Command line of the scheduler.
#[derive(Parser, Debug)]
#[command(name = "scheduler", version = daemon::version(), args_override_self = true)]
pub struct Flags {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// The port for the scheduler server to listen on
    #[arg(long, default_value_t = 50006)]
    port: u16,
    /// The address for the scheduler to listen on
    #[arg(long, default_value = "")]
    listen_address: String,
    /// The address (host:port) that sidecars are told to connect to, where it is not the one this program knows of itself
    #[arg(long)]
    override_broadcast_host_port: Option<String>,
    /// Kubernetes mode only. Absolute path to the kubeconfig file.
    #[arg(long, hide = true)]
    kubeconfig: Option<PathBuf>,
    /// Scheduler server ID
    #[arg(long, default_value = "dapr-scheduler-server-0")]
    id: String,
    /// Keep jobs in the store of this program, which then has one replica; otherwise in an etcd
    #[arg(long, default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = daemon::boolean)]
    etcd_embed: bool,
    /// The members, as id=http://host:port; the store of this program has one
    #[arg(
        long,
        default_value = "dapr-scheduler-server-0=http://localhost:2380",
        value_delimiter = ','
    )]
    etcd_initial_cluster: Vec<String>,
    /// Directory to store jobs in
    #[arg(long, default_value = "./data")]
    etcd_data_dir: PathBuf,
    /// Port for clients of the store
    #[arg(long, default_value_t = 2379)]
    etcd_client_port: u16,
    /// Listen address for clients of the store
    #[arg(long, default_value = "localhost")]
    etcd_client_listen_address: String,
    /// Bytes of keys and values that the store takes
    #[arg(long, default_value = "9.2E")]
    etcd_space_quota: Quantity,
    /// Client endpoints of an etcd to keep jobs in, as host:port, http://host:port or https://host:port
    #[arg(long, value_delimiter = ',')]
    etcd_client_endpoints: Vec<String>,
    /// Username for that etcd
    #[arg(long, default_value = "")]
    etcd_client_username: String,
    /// Password for that etcd
    #[arg(long, default_value = "")]
    etcd_client_password: String,
    /// Folder to write the identity to, for a member of an etcd beside this program
    #[arg(long, hide = true)]
    identity_directory_write: Option<PathBuf>,
    #[command(flatten)]
    unused: Unused,
    #[command(flatten)]
    service: ServiceFlags,
    #[command(flatten)]
    log: LogFlags,
    #[command(flatten)]
    metrics: MetricsFlags,
    #[command(flatten)]
    health: HealthFlags,
}

/// What tunes an etcd, and means nothing for the store of this program.
#[derive(clap::Args, Debug)]
struct Unused {
    /// Without effect
    #[arg(long, default_value = "revision")]
    etcd_compaction_mode: String,
    /// Without effect
    #[arg(long, default_value = "1000000")]
    etcd_compaction_retention: String,
    /// Without effect
    #[arg(long, default_value_t = 100_000)]
    etcd_snapshot_count: u64,
    /// Without effect
    #[arg(long, default_value_t = 10)]
    etcd_max_snapshots: u64,
    /// Without effect
    #[arg(long, default_value_t = 10)]
    etcd_max_wals: u64,
    /// Without effect: what waits is flushed together
    #[arg(long, default_value_t = 10_000)]
    etcd_backend_batch_limit: i64,
    /// Without effect: what waits is flushed together
    #[arg(long, default_value = "100ms")]
    etcd_backend_batch_interval: GoDuration,
    /// Without effect
    #[arg(long, default_value_t = 10_000)]
    etcd_max_txn_ops: u64,
    /// Without effect
    #[arg(long, default_value_t = 100)]
    etcd_experimental_bootstrap_defrag_threshold_megabytes: u64,
    /// Without effect
    #[arg(long, default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = daemon::boolean)]
    etcd_initial_election_tick_advance: bool,
    /// Without effect
    #[arg(long, default_value = "basic")]
    etcd_metrics: String,
    /// Without effect: one task fires jobs
    #[arg(long, default_value_t = 2048)]
    workers: u32,
}

impl daemon::Program for Flags {
    const NAME: &'static str = "scheduler";

    fn command() -> Option<clap::Command> {
        Some(<Self as clap::CommandFactory>::command())
    }

    fn parse(args: Vec<std::ffi::OsString>) -> Result<Self, daemon::Stop> {
        Ok(<Self as Parser>::try_parse_from(args)?)
    }

    fn log(&self) -> daemon::LogOptions {
        self.log.options()
    }

    /// Subcommands may run beside a scheduler, which has the ports.
    fn metrics(&self) -> daemon::MetricsOptions {
        let options = self.metrics.options();
        daemon::MetricsOptions {
            enabled: options.enabled && self.command.is_none(),
            ..options
        }
    }

    fn health(&self) -> Option<daemon::HealthOptions> {
        self.command.is_none().then(|| self.health.options())
    }
}

impl Unused {
    /// Flags that were given another value than they have by themselves.
    fn given(&self) -> Vec<&'static str> {
        let Unused {
            etcd_compaction_mode,
            etcd_compaction_retention,
            etcd_snapshot_count,
            etcd_max_snapshots,
            etcd_max_wals,
            etcd_backend_batch_limit,
            etcd_backend_batch_interval,
            etcd_max_txn_ops,
            etcd_experimental_bootstrap_defrag_threshold_megabytes,
            etcd_initial_election_tick_advance,
            etcd_metrics,
            workers,
        } = self;
        let given = [
            ("etcd-compaction-mode", etcd_compaction_mode != "revision"),
            (
                "etcd-compaction-retention",
                etcd_compaction_retention != "1000000",
            ),
            ("etcd-snapshot-count", *etcd_snapshot_count != 100_000),
            ("etcd-max-snapshots", *etcd_max_snapshots != 10),
            ("etcd-max-wals", *etcd_max_wals != 10),
            (
                "etcd-backend-batch-limit",
                *etcd_backend_batch_limit != 10_000,
            ),
            (
                "etcd-backend-batch-interval",
                etcd_backend_batch_interval.to_string() != "100ms",
            ),
            ("etcd-max-txn-ops", *etcd_max_txn_ops != 10_000),
            (
                "etcd-experimental-bootstrap-defrag-threshold-megabytes",
                *etcd_experimental_bootstrap_defrag_threshold_megabytes != 100,
            ),
            (
                "etcd-initial-election-tick-advance",
                *etcd_initial_election_tick_advance,
            ),
            ("etcd-metrics", etcd_metrics != "basic"),
            ("workers", *workers != 2048),
        ];
        given
            .into_iter()
            .filter(|(_, given)| *given)
            .map(|(name, _)| name)
            .collect()
    }
}

#[cfg(test)]
mod tests;
