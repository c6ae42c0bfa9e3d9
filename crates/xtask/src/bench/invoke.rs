//! What two sidecars with mTLS add to a call: the same load goes to an app directly and through them, in turn.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::binaries::{self, Binary};
use super::echo::{Echo, Protocol};
use super::load::{self, Load, Target};
use super::mesh::{self, Role, Sentry, Sidecar};
use super::samples::{Figures, Samples, median};
use super::{print, process};

/// Flags of the bench.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Sidecars to measure, as path or label:daprd=path; repeatable, measured in turn [default: our daprd]
    #[arg(long)]
    daprd: Vec<String>,
    /// The sentry that gives them identities [default: ours]
    #[arg(long)]
    sentry: Option<PathBuf>,
    /// Calls per second
    #[arg(long, default_value_t = RATE)]
    rate: u32,
    #[arg(long, default_value_t = CONNECTIONS)]
    connections: u32,
    /// Bytes of a request, and of its response
    #[arg(long, default_value_t = PAYLOAD)]
    payload: usize,
    /// Seconds of each phase
    #[arg(long, default_value_t = SECONDS)]
    seconds: u64,
    /// How often the phases are repeated
    #[arg(long, default_value_t = ROUNDS)]
    rounds: u32,
    /// Without mTLS
    #[arg(long)]
    plain: bool,
}

impl Default for Arguments {
    fn default() -> Self {
        Arguments {
            daprd: Vec::new(),
            sentry: None,
            rate: RATE,
            connections: CONNECTIONS,
            payload: PAYLOAD,
            seconds: SECONDS,
            rounds: ROUNDS,
            plain: false,
        }
    }
}

/// Two sidecars and the app behind the second one.
struct Pair {
    caller: Sidecar,
    callee: Sidecar,
    app: Echo,
    protocol: Protocol,
    _folder: tempfile::TempDir,
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
    ensure!(
        arguments.rate > 0 && arguments.connections > 0,
        "a load needs a rate and connections"
    );
    let daprds: Vec<Binary> = if arguments.daprd.is_empty() {
        vec![binaries::own("daprd")?]
    } else {
        arguments
            .daprd
            .iter()
            .map(|text| named(text))
            .collect::<Result<_>>()?
    };
    let sentry_binary = match &arguments.sentry {
        Some(path) => binaries::parse(&format!("sentry={}", path.display()))?,
        None => binaries::own("sentry")?,
    };
    // Timers of threads that are started from here on fire when they are due, not some 50 us later. A kernel that
    // does not allow it only makes both sides slower alike.
    let _ = std::fs::write("/proc/self/timerslack_ns", "1");
    let folder = tempfile::Builder::new().prefix("dapr-bench-").tempdir()?;
    let sentry = if arguments.plain {
        None
    } else {
        Some(mesh::sentry(&sentry_binary, folder.path())?)
    };
    print(&format!(
        "invoke, {} calls/s of {} bytes over {} connections, {} s a phase, latency from the intended send time",
        arguments.rate, arguments.payload, arguments.connections, arguments.seconds
    ))?;
    for protocol in [Protocol::Http, Protocol::Grpc] {
        for binary in &daprds {
            let pair = Pair::start(binary, sentry.as_ref(), protocol)?;
            measure(&binary.label, &pair, arguments)?;
        }
    }
    Ok(())
}

fn named(text: &str) -> Result<Binary> {
    if text.contains('=') {
        binaries::parse(text)
    } else {
        binaries::parse(&format!("{text}:daprd={text}"))
    }
}

fn measure(label: &str, pair: &Pair, arguments: &Arguments) -> Result<()> {
    let load = Load {
        rate: arguments.rate,
        connections: arguments.connections,
        duration: Duration::from_secs(arguments.seconds),
        payload: arguments.payload,
    };
    let warm_up = Load {
        rate: (load.rate / 10).max(load.connections),
        duration: WARM_UP,
        ..load
    };
    load::run(&pair.direct()?, warm_up)?;
    load::run(&pair.through()?, warm_up)?;
    let name = match pair.protocol {
        Protocol::Http => "http",
        Protocol::Grpc => "grpc",
    };
    print(&format!("\n{label}, {name}"))?;
    let mut rounds = Vec::new();
    for _ in 0..arguments.rounds.max(1) {
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
            memory.resident as f64 * 1024.0 / 1e6,
            memory.anonymous as f64 * 1024.0 / 1e6,
            memory.peak as f64 * 1024.0 / 1e6,
        ))?;
    }
    Ok(())
}

impl Pair {
    fn start(binary: &Binary, sentry: Option<&Sentry>, protocol: Protocol) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("dapr-bench-").tempdir()?;
        let app = Echo::start(protocol)?;
        let role = Role {
            app_id: CALLEE,
            app: Some((app.port(), protocol)),
            sentry,
        };
        let callee = mesh::sidecar(binary, folder.path(), role)?;
        let role = Role {
            app_id: "bench-caller",
            app: None,
            sentry,
        };
        let caller = mesh::sidecar(binary, folder.path(), role)?;
        let pair = Pair {
            caller,
            callee,
            app,
            protocol,
            _folder: folder,
        };
        pair.reach()
            .with_context(|| format!("with {}", binary.label))?;
        Ok(pair)
    }

    /// Waits until a call gets through: the caller has to find the callee first.
    fn reach(&self) -> Result<()> {
        let once = Load {
            rate: 1000,
            connections: 1,
            duration: Duration::from_millis(1),
            payload: 1,
        };
        let end = Instant::now() + REACH;
        loop {
            match load::run(&self.through()?, once) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > end => {
                    return Err(error.context("no call gets through"));
                }
                Err(_) => process::pause(Duration::from_millis(200)),
            }
        }
    }

    fn direct(&self) -> Result<Target> {
        Ok(match self.protocol {
            Protocol::Http => {
                Target::Http(format!("http://127.0.0.1:{}/echo", self.app.port()).parse()?)
            }
            Protocol::Grpc => Target::GrpcApp(self.app.port()),
        })
    }

    fn through(&self) -> Result<Target> {
        Ok(match self.protocol {
            Protocol::Http => {
                let path = format!("/v1.0/invoke/{CALLEE}/method/echo");
                Target::Http(format!("http://127.0.0.1:{}{path}", self.caller.http).parse()?)
            }
            Protocol::Grpc => Target::GrpcSidecar(self.caller.grpc, CALLEE.to_owned()),
        })
    }

    fn round(&self, load: Load) -> Result<Round> {
        let direct = load::run(&self.direct()?, load)?;
        let before = [self.caller.process.cpu()?, self.callee.process.cpu()?];
        let start = Instant::now();
        let through = load::run(&self.through()?, load)?;
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
            report(name, samples, load)?;
        }
        Ok(round)
    }
}

/// Says when a phase was not what it claims to be.
fn report(name: &str, samples: &Samples, load: Load) -> Result<()> {
    if samples.failures > 0 {
        print(&format!(
            "    {name}: {} calls failed and are in no figure",
            samples.failures
        ))?;
    }
    let asked = f64::from(load.rate) * load.duration.as_secs_f64();
    if (samples.len() as f64) < asked * 0.99 {
        print(&format!(
            "    {name}: only {} of {asked:.0} calls were made",
            samples.len()
        ))?;
    }
    Ok(())
}

const CALLEE: &str = "bench-callee";
const RATE: u32 = 1000;
const CONNECTIONS: u32 = 16;
const PAYLOAD: usize = 1024;
const SECONDS: u64 = 10;
const ROUNDS: u32 = 3;
const WARM_UP: Duration = Duration::from_secs(2);

/// How long the caller may look for the callee.
const REACH: Duration = Duration::from_secs(30);
