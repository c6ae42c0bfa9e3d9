//! The injector's command line (contract 4.1).

use std::path::PathBuf;

use clap::{ArgAction, Parser};
use daemon::{HealthFlags, LogFlags, MetricsFlags};

/// What the injector is started with; the rest of its configuration is environment.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "injector",
    version = daemon::version(),
    about = "Adds the Dapr sidecar to pods",
    args_override_self = true
)]
pub struct Flags {
    /// The port of the webhook
    #[arg(long, default_value_t = 4000)]
    pub port: u16,
    /// The listening address of the webhook; empty means all interfaces
    #[arg(long, default_value = "")]
    pub listen_address: String,
    /// Tell sidecars the address of the scheduler
    #[arg(long, default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          action = ArgAction::Set, value_parser = daemon::boolean)]
    pub scheduler_enabled: bool,
    /// Path of a kubeconfig file, before KUBECONFIG, ~/.kube/config and the pod's service account
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// PEM file of the authorities that sign the client certificates of API servers; whoever shows none of theirs is not
    /// answered. Without it, everyone is
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    /// Common names that a client certificate may be for, separated by commas; empty means any
    #[arg(long, default_value = "")]
    pub client_names: String,
    #[command(flatten)]
    log: LogFlags,
    #[command(flatten)]
    metrics: MetricsFlags,
    #[command(flatten)]
    health: HealthFlags,
}

daemon::program!(Flags, "injector");

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Flags {
        let args = std::iter::once("injector")
            .chain(args.iter().copied())
            .map(std::ffi::OsString::from)
            .collect();
        let command = <Flags as daemon::Program>::command();
        <Flags as daemon::Program>::parse(daemon::normalise(args, command.as_ref()))
            .expect("parses")
    }

    #[test]
    fn defaults_and_single_dashes() {
        let flags = parse(&[]);
        assert_eq!(
            (flags.port, flags.scheduler_enabled, flags.kubeconfig),
            (4000, true, None)
        );
        assert_eq!(flags.client_ca_file, None);
        let flags = parse(&[
            "-port=1",
            "-listen-address=127.0.0.1",
            "-kubeconfig",
            "/k",
            "-scheduler-enabled=false",
        ]);
        assert_eq!((flags.port, flags.scheduler_enabled), (1, false));
        assert_eq!(flags.kubeconfig, Some(PathBuf::from("/k")));
    }

    #[test]
    fn the_command_is_sound() {
        <Flags as clap::CommandFactory>::command().debug_assert();
    }
}
