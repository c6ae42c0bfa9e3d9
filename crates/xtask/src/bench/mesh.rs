//! Programs wired up as the contract says: sentry with a fresh root, and sidecars that get their identity from it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::binaries::{self, Binary};
use super::cluster::Cluster;
use super::echo::Protocol;
use super::process::{self, Process};

/// A running sentry.
pub(super) struct Sentry {
    pub process: Process,
    pub ready: Duration,
    pub port: u16,
    pub anchors: String,
}

impl Sentry {
    /// Where it is, as other programs want it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// A running sidecar.
pub(super) struct Sidecar {
    pub process: Process,
    pub ready: Duration,
    pub http: u16,
    pub grpc: u16,
}

/// What a sidecar is for.
#[derive(Clone, Copy, Default)]
pub(super) struct Role<'a> {
    pub app_id: &'a str,
    /// The app behind it.
    pub app: Option<(u16, Protocol)>,
    /// Where its identity comes from; none turns mTLS off.
    pub sentry: Option<&'a Sentry>,
    /// The placement of its actors.
    pub placement: Option<&'a Placement>,
    /// The scheduler of its reminders.
    pub scheduler: Option<&'a Scheduler>,
}

/// Starts sentry in a folder of its own, with a Configuration, which may be empty.
pub(super) fn sentry(binary: &Binary, folder: &Path, configuration: &str) -> Result<Sentry> {
    let credentials = folder.join("credentials");
    std::fs::create_dir_all(&credentials)?;
    let config = folder.join("config.yaml");
    std::fs::write(&config, configuration)?;
    let (port, health) = (process::port()?, process::port()?);
    let mut args = shared(&[("port", port), ("healthz-port", health)])?;
    args.push("--listen-address=127.0.0.1".to_owned());
    args.push("--healthz-listen-address=127.0.0.1".to_owned());
    args.push(format!("--issuer-credentials={}", credentials.display()));
    args.push(format!("--config={}", config.display()));
    args.push("--trust-domain=localhost".to_owned());
    let mut process = Process::start(
        &binary.path,
        &args,
        &environment(),
        &folder.join("sentry.log"),
    )?;
    let ready = process.ready(health, "/healthz")?;
    let anchors =
        std::fs::read_to_string(credentials.join("ca.crt")).context("sentry wrote no root")?;
    Ok(Sentry {
        process,
        ready,
        port,
        anchors,
    })
}

/// Starts a sidecar, with the resources and the Configuration that are already in its folder.
pub(super) fn sidecar(binary: &Binary, folder: &Path, role: Role<'_>) -> Result<Sidecar> {
    let resources = folder.join(RESOURCES);
    std::fs::create_dir_all(&resources)?;
    let (http, grpc) = (process::port()?, process::port()?);
    let mut args = shared(&[
        ("dapr-http-port", http),
        ("dapr-grpc-port", grpc),
        ("dapr-internal-grpc-port", process::port()?),
    ])?;
    args.push("--mode=standalone".to_owned());
    args.push(format!("--app-id={}", role.app_id));
    args.push("--dapr-listen-addresses=127.0.0.1".to_owned());
    args.push("--dapr-internal-grpc-listen-address=127.0.0.1".to_owned());
    args.push(format!("--resources-path={}", resources.display()));
    if let Some((port, protocol)) = role.app {
        args.push(format!("--app-port={port}"));
        args.push(format!("--app-protocol={}", protocol.name()));
    }
    let mut env = environment();
    if let Some(sentry) = role.sentry {
        args.push("--enable-mtls=true".to_owned());
        args.push(format!("--sentry-address={}", sentry.address()));
        args.push("--control-plane-trust-domain=localhost".to_owned());
        env.insert("DAPR_TRUST_ANCHORS".to_owned(), sentry.anchors.clone());
    }
    if let Some(placement) = role.placement {
        args.push(format!(
            "--placement-host-address=127.0.0.1:{}",
            placement.port
        ));
    }
    if let Some(scheduler) = role.scheduler {
        args.push(format!(
            "--scheduler-host-address=127.0.0.1:{}",
            scheduler.port
        ));
    }
    let configuration = folder.join(CONFIGURATION);
    if configuration.is_file() {
        args.push(format!("--config={}", configuration.display()));
    }
    let log = folder.join(format!("{}.log", role.app_id));
    let mut process = Process::start(&binary.path, &args, &env, &log)?;
    let ready = process.ready(http, "/v1.0/healthz")?;
    Ok(Sidecar {
        process,
        ready,
        http,
        grpc,
    })
}

/// A program that idles, and what it needs for that.
pub(super) struct Alone {
    pub process: Process,
    pub ready: Duration,
    _around: Option<(Sentry, Cluster)>,
}

/// Starts any program with nobody but what it cannot do without, and gives its time to ready.
pub(super) fn alone(binary: &Binary, folder: &Path) -> Result<Alone> {
    let (process, ready) = match binary.program.as_str() {
        "daprd" => {
            let role = Role {
                app_id: "idle",
                ..Role::default()
            };
            let sidecar = sidecar(binary, folder, role)?;
            (sidecar.process, sidecar.ready)
        }
        "sentry" => {
            let sentry = sentry(binary, folder, "")?;
            (sentry.process, sentry.ready)
        }
        "placement" => {
            let placement = placement(binary, folder, None)?;
            (placement.process, placement.ready)
        }
        "scheduler" => {
            let scheduler = scheduler(binary, folder)?;
            (scheduler.process, scheduler.ready)
        }
        "operator" | "injector" => {
            let sentry = sentry(&binaries::own("sentry")?, folder, "")?;
            let cluster = Cluster::start(folder, &sentry)?;
            let service = cluster.service(binary, folder, &sentry)?;
            return Ok(Alone {
                process: service.process,
                ready: service.ready,
                _around: Some((sentry, cluster)),
            });
        }
        other => bail!("{other} cannot be measured"),
    };
    Ok(Alone {
        process,
        ready,
        _around: None,
    })
}

/// A placement with one member.
pub(super) struct Placement {
    pub process: Process,
    port: u16,
    ready: Duration,
}

/// Starts placement.
pub(super) fn placement(
    binary: &Binary,
    folder: &Path,
    sentry: Option<&Sentry>,
) -> Result<Placement> {
    let (port, health) = (process::port()?, process::port()?);
    let mut args = shared(&[("port", port), ("healthz-port", health)])?;
    args.push("--listen-address=127.0.0.1".to_owned());
    args.push("--healthz-listen-address=127.0.0.1".to_owned());
    args.push(format!(
        "--initial-cluster=dapr-placement-0=127.0.0.1:{}",
        process::port()?
    ));
    if let Some(sentry) = sentry {
        let anchors = folder.join("anchors.pem");
        std::fs::write(&anchors, &sentry.anchors)?;
        args.push("--tls-enabled=true".to_owned());
        args.push(format!("--sentry-address={}", sentry.address()));
        args.push("--trust-domain=localhost".to_owned());
        args.push(format!("--trust-anchors-file={}", anchors.display()));
    }
    let log = folder.join("placement.log");
    let mut process = Process::start(&binary.path, &args, &environment(), &log)?;
    let ready = process.ready(health, "/healthz")?;
    Ok(Placement {
        process,
        port,
        ready,
    })
}

/// A scheduler with a store of its own, and its port.
pub(super) struct Scheduler {
    pub process: Process,
    pub port: u16,
    ready: Duration,
}

/// Starts a scheduler, and waits until it is ready.
pub(super) fn scheduler(binary: &Binary, folder: &Path) -> Result<Scheduler> {
    let (mut scheduler, health) = begin_scheduler(binary, folder)?;
    scheduler.ready = scheduler.process.ready(health, "/healthz")?;
    Ok(scheduler)
}

/// Starts a scheduler; its port for health.
pub(super) fn begin_scheduler(binary: &Binary, folder: &Path) -> Result<(Scheduler, u16)> {
    let (port, health) = (process::port()?, process::port()?);
    let mut args = shared(&[
        ("port", port),
        ("healthz-port", health),
        ("etcd-client-port", process::port()?),
    ])?;
    args.push("--listen-address=127.0.0.1".to_owned());
    args.push("--healthz-listen-address=127.0.0.1".to_owned());
    args.push(format!("--etcd-data-dir={}", folder.join("data").display()));
    args.push(format!(
        "--etcd-initial-cluster=dapr-scheduler-server-0=http://127.0.0.1:{}",
        process::port()?
    ));
    let log = folder.join("scheduler.log");
    let process = Process::start(&binary.path, &args, &environment(), &log)?;
    let scheduler = Scheduler {
        process,
        port,
        ready: Duration::ZERO,
    };
    Ok((scheduler, health))
}

pub(super) fn shared(ports: &[(&str, u16)]) -> Result<Vec<String>> {
    let mut args: Vec<String> = ports
        .iter()
        .map(|(name, port)| format!("--{name}={port}"))
        .collect();
    args.push(format!("--metrics-port={}", process::port()?));
    args.push("--metrics-listen-address=127.0.0.1".to_owned());
    args.push("--log-level=info".to_owned());
    Ok(args)
}

pub(super) fn environment() -> BTreeMap<String, String> {
    [("NAMESPACE".to_owned(), "default".to_owned())].into()
}

/// Where in its folder a sidecar looks for resources.
pub(super) const RESOURCES: &str = "resources";

/// The Configuration of a sidecar, in its folder.
pub(super) const CONFIGURATION: &str = "sidecar.yaml";
