//! What two sidecars with mTLS add to a call: the same load goes to an app directly and through them, in turn.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use http::Method;
use proto::runtime::v1::InvokeServiceRequest;

use super::arrivals::Arrivals;
use super::binaries::{self, Binary};
use super::calls::Target;
use super::comparison::Phases;
use super::echo::{self, Echo, Protocol};
use super::load::{self, Load};
use super::mesh::{self, Role, Sentry, Sidecar};
use super::samples::{Figures, median};
use super::{print, process};

/// Flags of the bench.
#[derive(Default, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    phases: Phases,
    /// The sentry that gives them identities [default: ours]
    #[arg(long)]
    sentry: Option<PathBuf>,
    /// Without mTLS
    #[arg(long)]
    plain: bool,
}

/// Two sidecars and the app behind the second one.
pub(super) struct Pair {
    pub caller: Sidecar,
    pub callee: Sidecar,
    /// A call of the app.
    pub direct: Target,
    /// The same through the sidecars.
    pub through: Target,
    pub title: String,
    /// What they need as long as they run.
    pub _around: Box<dyn std::any::Any>,
}

/// One round of a pair.
struct Round {
    direct: Figures,
    through: Figures,
    /// Cores, of the caller's and of the callee's sidecar.
    cpu: [f64; 2],
}

/// Measures and prints.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let phases = &arguments.phases;
    let daprds = phases.daprds()?;
    load::precise_timers();
    let folder = tempfile::Builder::new().prefix("dapr-bench-").tempdir()?;
    let sentry = match (arguments.plain, &arguments.sentry) {
        (true, _) => None,
        (false, Some(path)) => {
            let binary = binaries::parse(&format!("sentry={}", path.display()))?;
            Some(mesh::sentry(&binary, folder.path(), "")?)
        }
        (false, None) => Some(mesh::sentry(&binaries::own("sentry")?, folder.path(), "")?),
    };
    let load = phases.load(SECONDS);
    print(&format!(
        "invoke, {} calls/s, {}",
        phases.rate,
        phases.describe(load)
    ))?;
    for protocol in [Protocol::Http, Protocol::Grpc] {
        for binary in &daprds {
            let pair = Pair::start(binary, sentry.as_ref(), protocol, phases.payload)?;
            measure(&pair, load, phases)?;
        }
    }
    Ok(())
}

/// Measures a pair in rounds, and prints.
pub(super) fn measure(pair: &Pair, load: Load, phases: &Phases) -> Result<()> {
    let warm_up = Load {
        rate: Some((phases.rate / 10).max(load.connections)),
        duration: WARM_UP,
        ..load
    };
    warm_up.run(&pair.direct)?;
    warm_up.run(&pair.through)?;
    print(&format!("\n{}", pair.title))?;
    let mut rounds = Vec::new();
    for _ in 0..phases.rounds.max(1) {
        rounds.push(pair.round(load)?);
    }
    let figures =
        |pick: fn(&Round) -> Figures| Figures::median(&rounds.iter().map(pick).collect::<Vec<_>>());
    print(&format!(
        "  direct            {}",
        figures(|round| round.direct)
    ))?;
    print(&format!(
        "  through sidecars  {}",
        figures(|round| round.through)
    ))?;
    print(&format!(
        "  added             {}",
        figures(|round| round.through.over(round.direct))
    ))?;
    let cpu = |index: usize| median(rounds.iter().map(|round| round.cpu[index]).collect());
    for (index, (who, sidecar)) in [("caller", &pair.caller), ("callee", &pair.callee)]
        .into_iter()
        .enumerate()
    {
        let memory = sidecar.process.memory()?;
        print(&format!(
            "  {who}'s sidecar   {:.3} cores, resident {:.1} MB (anonymous {:.1}, peak {:.1})",
            cpu(index),
            process::megabytes(memory.resident),
            process::megabytes(memory.anonymous),
            process::megabytes(memory.peak),
        ))?;
    }
    Ok(())
}

impl Pair {
    fn start(
        binary: &Binary,
        sentry: Option<&Sentry>,
        protocol: Protocol,
        payload: usize,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("dapr-bench-").tempdir()?;
        let app = Echo::start(protocol, &Arrivals::default())?;
        let role = Role {
            app_id: CALLEE,
            app: Some((app.port(), protocol)),
            sentry,
            placement: None,
            scheduler: None,
        };
        let callee = mesh::sidecar(binary, folder.path(), role)?;
        let role = Role {
            app_id: "bench-caller",
            app: None,
            sentry,
            placement: None,
            scheduler: None,
        };
        let caller = mesh::sidecar(binary, folder.path(), role)?;
        let pair = Pair {
            direct: app.target(payload),
            through: through(&caller, protocol, payload),
            caller,
            callee,
            title: format!("{}, {}", binary.label, protocol.name()),
            _around: Box::new((app, folder)),
        };
        pair.reach()?;
        Ok(pair)
    }

    /// Waits until a call gets through: the caller has to find the callee first.
    pub fn reach(&self) -> Result<()> {
        let end = Instant::now() + REACH;
        loop {
            match load::once(&self.through) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > end => {
                    return Err(error.context(format!("no call gets through {}", self.title)));
                }
                Err(_) => process::pause(Duration::from_millis(200)),
            }
        }
    }

    fn round(&self, load: Load) -> Result<Round> {
        let direct = load.run(&self.direct)?;
        let before = [self.caller.process.cpu()?, self.callee.process.cpu()?];
        let start = Instant::now();
        let through = load.run(&self.through)?;
        let elapsed = start.elapsed().as_secs_f64();
        let after = [self.caller.process.cpu()?, self.callee.process.cpu()?];
        let cores = |index: usize| (after[index] - before[index]).as_secs_f64() / elapsed;
        let round = Round {
            direct: direct.figures(),
            through: through.figures(),
            cpu: [cores(0), cores(1)],
        };
        print(&format!("    {}", round.through.over(round.direct)))?;
        for (name, samples) in [("direct", &direct), ("through sidecars", &through)] {
            load.report(&format!("{name}, calls"), samples)?;
        }
        Ok(round)
    }
}

fn through(caller: &Sidecar, protocol: Protocol, payload: usize) -> Target {
    let target = match protocol {
        Protocol::Http => {
            let path = format!("/v1.0/invoke/{CALLEE}/method/echo");
            Target::http(caller.http, Method::POST, &path, echo::BYTES).body(echo::body(payload))
        }
        Protocol::Grpc => {
            let request = InvokeServiceRequest {
                id: CALLEE.to_owned(),
                message: Some(echo::message(payload)),
            };
            Target::grpc(
                caller.grpc,
                "/dapr.proto.runtime.v1.Dapr/InvokeService",
                &request,
            )
        }
    };
    target.answers(payload..=usize::MAX)
}

const CALLEE: &str = "bench-callee";
const SECONDS: u64 = 10;
const WARM_UP: Duration = Duration::from_secs(2);

/// How long the caller may look for the callee.
const REACH: Duration = Duration::from_secs(30);
