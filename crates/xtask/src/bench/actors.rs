//! What two sidecars with mTLS add to a call of an actor, and how long a call takes that activates one: the caller's sidecar
//! asks placement, and the host's calls the app.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use http::Method;

use super::binaries::{self, Binary};
use super::calls::{NUMBER, Target};
use super::comparison::Phases;
use super::echo::{self, Echo, Protocol};
use super::invoke::{Pair, measure};
use super::load::{self, Load};
use super::mesh::{self, Role, Sentry};
use super::print;
use super::samples::Figures;

/// Flags of the bench.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    phases: Phases,
    /// Placement beside each sidecar, in their order, as placement=path or label:placement=path [default: ours]
    #[arg(long)]
    placement: Vec<String>,
    /// The sentry that gives all of them identities [default: ours]
    #[arg(long)]
    sentry: Option<PathBuf>,
}

/// Measures and prints.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let phases = &arguments.phases;
    let daprds = phases.daprds()?;
    let placements = binaries::several(&arguments.placement, "placement")?;
    ensure!(
        placements.len() == 1 || placements.len() == daprds.len(),
        "one placement, or one for each sidecar"
    );
    load::precise_timers();
    let folder = tempfile::Builder::new().prefix("dapr-bench-").tempdir()?;
    let sentry = match &arguments.sentry {
        Some(path) => binaries::parse(&format!("sentry={}", path.display()))?,
        None => binaries::own("sentry")?,
    };
    let sentry = mesh::sentry(&sentry, folder.path(), "")?;
    let load = phases.load(SECONDS);
    print(&format!(
        "actors, {} calls/s, {}",
        phases.rate,
        phases.describe(load)
    ))?;
    for (binary, placement) in daprds.iter().zip(placements.iter().cycle()) {
        let (pair, fresh) = start(binary, placement, &sentry, phases.payload)?;
        measure(&pair, load, phases)?;
        activate(&fresh, load, phases)?;
    }
    Ok(())
}

/// A host of actors and a caller, and a call that is of another actor each time.
fn start(
    binary: &Binary,
    placement: &Binary,
    sentry: &Sentry,
    payload: usize,
) -> Result<(Pair, Target)> {
    let folder = tempfile::Builder::new().prefix("dapr-bench-").tempdir()?;
    let placement = mesh::placement(placement, folder.path(), Some(sentry))
        .with_context(|| format!("beside {}", binary.label))?;
    let resources = folder.path().join(mesh::RESOURCES);
    std::fs::create_dir(&resources)?;
    std::fs::write(resources.join("state.yaml"), STORE)?;
    let app = Echo::hosting(KIND)?;
    let role = Role {
        app_id: "bench-host",
        app: Some((app.port(), Protocol::Http)),
        sentry: Some(sentry),
        placement: Some(&placement),
        scheduler: None,
    };
    let callee = mesh::sidecar(binary, folder.path(), role)?;
    let role = Role {
        app_id: "bench-caller",
        app: None,
        ..role
    };
    let caller = mesh::sidecar(binary, folder.path(), role)?;
    let call = |id: &str| {
        let path = format!("/v1.0/actors/{KIND}/{id}/method/echo");
        Target::http(caller.http, Method::POST, &path, echo::BYTES)
            .body(echo::body(payload))
            .answers(payload..=usize::MAX)
    };
    let (through, fresh) = (call("one"), call(NUMBER).numbered());
    let pair = Pair {
        direct: app.target(payload),
        through,
        caller,
        callee,
        title: binary.label.clone(),
        _around: Box::new((app, placement, folder)),
    };
    pair.reach()?;
    Ok((pair, fresh))
}

/// Calls that are each of a new actor.
fn activate(fresh: &Target, load: Load, phases: &Phases) -> Result<()> {
    let mut rounds = Vec::new();
    for _ in 0..phases.rounds.max(1) {
        let samples = load.run(fresh)?;
        load.report("activations", &samples)?;
        rounds.push(samples.figures());
    }
    print(&format!("  activations       {}", Figures::median(&rounds)))
}

const KIND: &str = "bench";

/// Where actors keep their state: without one, no sidecar hosts any.
const STORE: &str = "apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: state}
spec:
  type: state.in-memory
  version: v1
  metadata: [{name: actorStateStore, value: 'true'}]
";

const SECONDS: u64 = 10;
