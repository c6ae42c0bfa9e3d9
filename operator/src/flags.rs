//! The operator's flags (contract 5.1).

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser};
use daemon::{HealthFlags, LogFlags, MetricsFlags, boolean};
use values::GoDuration;

/// Flags of the operator, in the order of contract 5.1.
#[derive(Clone, Debug, Parser)]
#[command(name = "operator", version = daemon::version(), args_override_self = true)]
pub struct Flags {
    /// Name of the Configuration of the control plane
    #[arg(long, default_value = "daprsystem")]
    pub config: String,
    /// Interval for checking that pods have their sidecar, e.g. 2m; 0 is never, `once` is once at the start
    #[arg(long, default_value = "0", value_parser = watch_interval)]
    pub watch_interval: WatchInterval,
    /// How many pods without a sidecar may be restarted in a minute; 0 or less is no limit
    #[arg(long, default_value_t = 20, allow_hyphen_values = true)]
    pub max_pod_restarts_per_minute: i64,
    /// Lead without asking other replicas
    #[arg(long, default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = boolean)]
    pub disable_leader_election: bool,
    /// Make no Services for apps
    #[arg(long, default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = boolean)]
    pub disable_service_reconciler: bool,
    /// The one namespace to watch; empty is all
    #[arg(long, default_value = "")]
    pub watch_namespace: String,
    /// Make Services for Argo Rollouts too
    #[arg(long, default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = boolean)]
    pub enable_argo_rollout_service_reconciler: bool,
    /// Label pods whose sidecar someone else put there, so that they are not looked at again
    #[arg(long, default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = boolean)]
    pub watchdog_can_patch_pod_labels: bool,
    /// File with the trust anchors of the control plane
    #[arg(long, default_value = "/var/run/secrets/dapr.io/tls/ca.crt")]
    pub trust_anchors_file: PathBuf,
    /// Port of the API for sidecars
    #[arg(long, default_value_t = 6500)]
    pub port: u16,
    /// Host of the API for sidecars; empty is all interfaces
    #[arg(long, default_value = "")]
    pub listen_address: String,
    /// Port of the conversion webhook
    #[arg(long, default_value_t = 19443)]
    pub webhook_server_port: u16,
    /// Host of the conversion webhook; empty is all interfaces
    #[arg(long, default_value = "")]
    pub webhook_server_listen_address: String,
    /// How often every app's Service is looked at again; 0 is every ten hours
    #[arg(long, default_value = "0", value_parser = duration)]
    pub cache_sync_period: Duration,
    /// Kubeconfig file; empty looks in the usual places
    #[arg(long, default_value = "")]
    pub kubeconfig: String,
    /// Undo what would outlive the operator (the conversion webhook of Subscriptions, the lease), then exit
    #[arg(long, default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, value_parser = boolean)]
    pub uninstall_cleanup: bool,
    #[command(flatten)]
    log: LogFlags,
    #[command(flatten)]
    metrics: MetricsFlags,
    #[command(flatten)]
    health: HealthFlags,
}

daemon::program!(Flags, "operator");

/// How often the watchdog checks pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchInterval {
    Never,
    Once,
    Every(Duration),
}

/// The shortest interval of the watchdog.
const SHORTEST_WATCH_INTERVAL: Duration = Duration::from_secs(1);

fn watch_interval(text: &str) -> Result<WatchInterval, String> {
    match text.to_ascii_lowercase().as_str() {
        "0" | "false" | "f" | "no" | "off" => return Ok(WatchInterval::Never),
        "once" => return Ok(WatchInterval::Once),
        _ => {}
    }
    let interval = duration(text)?;
    if interval < SHORTEST_WATCH_INTERVAL {
        return Err(format!(
            "must be at least {SHORTEST_WATCH_INTERVAL:?} unless it is 0 or once"
        ));
    }
    Ok(WatchInterval::Every(interval))
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration: GoDuration = text.parse().map_err(|error| format!("{error}"))?;
    duration
        .to_std()
        .ok_or_else(|| format!("duration {text} is negative"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::Program;

    fn parse(args: &[&str]) -> Result<Flags, daemon::Stop> {
        let args = std::iter::once("operator").chain(args.iter().copied());
        let args = daemon::normalise(
            args.map(std::ffi::OsString::from).collect(),
            <Flags as Program>::command().as_ref(),
        );
        <Flags as Program>::parse(args)
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let flags = parse(&[]).unwrap();
        assert_eq!(flags.config, "daprsystem");
        assert_eq!(flags.watch_interval, WatchInterval::Never);
        assert_eq!(flags.max_pod_restarts_per_minute, 20);
        assert_eq!((flags.port, flags.webhook_server_port), (6500, 19443));
        assert!(!flags.disable_leader_election && !flags.disable_service_reconciler);
        assert_eq!(flags.cache_sync_period, Duration::ZERO);
    }

    #[test]
    fn single_dashes_and_bare_booleans_are_accepted() {
        let flags = parse(&[
            "-port=1",
            "-listen-address=127.0.0.1",
            "-disable-leader-election=true",
            "-kubeconfig",
            "/tmp/k",
            "-watch-interval=2m",
            "-cache-sync-period=1.5s",
            "-watchdog-can-patch-pod-labels",
            "-max-pod-restarts-per-minute=-1",
        ])
        .unwrap();
        assert_eq!((flags.port, flags.kubeconfig.as_str()), (1, "/tmp/k"));
        assert!(flags.disable_leader_election && flags.watchdog_can_patch_pod_labels);
        assert_eq!(
            flags.watch_interval,
            WatchInterval::Every(Duration::from_secs(120))
        );
        assert_eq!(flags.cache_sync_period, Duration::from_millis(1500));
        assert_eq!(flags.max_pod_restarts_per_minute, -1);
    }

    #[test]
    fn watch_intervals() {
        for (text, interval) in [("Off", WatchInterval::Never), ("ONCE", WatchInterval::Once)] {
            assert_eq!(watch_interval(text), Ok(interval));
        }
        for text in ["", "soon", "10ms", "-5m"] {
            assert!(watch_interval(text).is_err(), "{text}");
        }
    }
}
