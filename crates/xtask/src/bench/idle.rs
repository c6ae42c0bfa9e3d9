//! Idle footprint: each program is started several times in turn, left alone, and read.

use std::time::Duration;

use anyhow::{Context, Result};

use super::binaries::{self, Binary};
use super::process::{Memory, megabytes};
use super::samples::spread;
use super::{mesh, print, process};

/// Flags of the bench.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// What to measure, as program=path or label:program=path; repeatable [default: all of ours]
    #[arg(long = "binary")]
    binaries: Vec<String>,
    /// Starts of each program
    #[arg(long, default_value_t = RUNS)]
    runs: u32,
    /// Seconds between ready and reading
    #[arg(long, default_value_t = SETTLE)]
    settle: u64,
}

impl Default for Arguments {
    fn default() -> Self {
        Arguments {
            binaries: Vec::new(),
            runs: RUNS,
            settle: SETTLE,
        }
    }
}

/// What was read of one start.
pub(super) struct Run {
    pub memory: Memory,
    ready: Duration,
}

/// Measures and prints a line per program.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let binaries: Vec<Binary> = if arguments.binaries.is_empty() {
        [
            "daprd",
            "sentry",
            "placement",
            "scheduler",
            "operator",
            "injector",
        ]
        .into_iter()
        .map(binaries::own)
        .collect::<Result<_>>()?
    } else {
        arguments
            .binaries
            .iter()
            .map(|text| binaries::parse(text))
            .collect::<Result<_>>()?
    };
    let mut results: Vec<Vec<Run>> = binaries.iter().map(|_| Vec::new()).collect();
    // In turn, so that what disturbs the machine disturbs all of them.
    for _ in 0..arguments.runs.max(1) {
        for (binary, results) in binaries.iter().zip(&mut results) {
            results.push(once(binary, Duration::from_secs(arguments.settle))?);
        }
    }
    print(&format!(
        "idle, median of {} starts (lowest to highest), {} s after ready",
        arguments.runs, arguments.settle
    ))?;
    print(&format!(
        "{:<24} {:>22} {:>22} {:>10} {:>24}",
        "program", "resident MB", "anonymous MB", "PSS MB", "ready ms"
    ))?;
    for (binary, runs) in binaries.iter().zip(&results) {
        let column = |pick: fn(&Run) -> f64| runs.iter().map(pick).collect::<Vec<f64>>();
        print(&format!(
            "{:<24} {:>22} {:>22} {:>10.1} {:>24}",
            binary.label,
            spread(&column(|run| megabytes(run.memory.resident)), 1),
            spread(&column(|run| megabytes(run.memory.anonymous)), 1),
            megabytes(runs.first().map_or(0, |run| run.memory.proportional)),
            spread(&column(|run| run.ready.as_secs_f64() * 1000.0), 1),
        ))?;
    }
    Ok(())
}

/// Starts a program, leaves it alone, and reads.
pub(super) fn once(binary: &Binary, settle: Duration) -> Result<Run> {
    let folder = tempfile::Builder::new().prefix("dapr-bench-").tempdir()?;
    let alone = mesh::alone(binary, folder.path())
        .with_context(|| format!("measuring {}", binary.label))?;
    process::pause(settle);
    Ok(Run {
        memory: alone.process.memory()?,
        ready: alone.ready,
    })
}

const RUNS: u32 = 5;
const SETTLE: u64 = 3;
