//! Memory of a sidecar: alone, with components and a subscribed app, and after a load of everything that other benches
//! measure. What a load needs is to be given back when it is over.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::binaries::{self, Binary};
use super::calls::Target;
use super::echo::Protocol;
use super::load::{self, Load};
use super::process::{self, Memory, megabytes};
use super::samples::{median, spread};
use super::site::{DELIVERED, Site, Technology};
use super::{idle, print, pubsub, state};

/// Flags of the bench.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Sidecars to measure, as path or label:daprd=path; repeatable, measured in turn [default: our daprd]
    #[arg(long)]
    daprd: Vec<String>,
    /// Starts of each sidecar
    #[arg(long, default_value_t = RUNS)]
    runs: u32,
    /// Seconds of load
    #[arg(long, default_value_t = SECONDS)]
    seconds: u64,
    /// Seconds between ready and reading
    #[arg(long, default_value_t = SETTLE)]
    settle: u64,
    /// Seconds between the load and reading
    #[arg(long, default_value_t = REST)]
    rest: u64,
}

impl Default for Arguments {
    fn default() -> Self {
        Arguments {
            daprd: Vec::new(),
            runs: RUNS,
            seconds: SECONDS,
            settle: SETTLE,
            rest: REST,
        }
    }
}

/// What was read of one start.
struct Run {
    alone: Memory,
    loaded: Memory,
    after: Memory,
}

/// Measures and prints.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let daprds = binaries::daprds(&arguments.daprd)?;
    load::precise_timers();
    let mut results: Vec<Vec<Run>> = daprds.iter().map(|_| Vec::new()).collect();
    for _ in 0..arguments.runs.max(1) {
        for (binary, results) in daprds.iter().zip(&mut results) {
            let run = once(binary, arguments);
            results.push(run.with_context(|| format!("measuring {}", binary.label))?);
        }
    }
    print(&format!(
        "\nmemory, median of {} starts (lowest to highest), {} s after ready, load of {} s, read {} s later",
        arguments.runs, arguments.settle, arguments.seconds, arguments.rest
    ))?;
    print(&format!(
        "{:<24} {:<20} {:>22} {:>22} {:>10}",
        "program", "", "resident MB", "anonymous MB", "most MB"
    ))?;
    for (binary, runs) in daprds.iter().zip(&results) {
        line(&binary.label, "alone", runs, |run| run.alone)?;
        line(&binary.label, "with components", runs, |run| run.loaded)?;
        line(&binary.label, "after the load", runs, |run| run.after)?;
        growth(&binary.label, runs)?;
    }
    Ok(())
}

fn line(label: &str, moment: &str, runs: &[Run], pick: fn(&Run) -> Memory) -> Result<()> {
    let column = |kib: fn(&Memory) -> u64| -> Vec<f64> {
        runs.iter().map(|run| megabytes(kib(&pick(run)))).collect()
    };
    print(&format!(
        "{label:<24} {moment:<20} {:>22} {:>22} {:>10.1}",
        spread(&column(|memory| memory.resident), 1),
        spread(&column(|memory| memory.anonymous), 1),
        median(column(|memory| memory.peak)),
    ))
}

/// What was not given back.
fn growth(label: &str, runs: &[Run]) -> Result<()> {
    let percent = |kib: fn(&Memory) -> u64| -> Vec<f64> {
        let growth = |run: &Run| kib(&run.after) as f64 / kib(&run.loaded) as f64 - 1.0;
        runs.iter().map(|run| growth(run) * 100.0).collect()
    };
    print(&format!(
        "{label:<24} {:<20} {:>22} {:>22}",
        "more after it, %",
        spread(&percent(|memory| memory.resident), 1),
        spread(&percent(|memory| memory.anonymous), 1),
    ))
}

fn once(binary: &Binary, arguments: &Arguments) -> Result<Run> {
    let settle = Duration::from_secs(arguments.settle);
    let alone = idle::once(binary, settle)?.memory;
    let technologies = [Technology::Memory, Technology::Redis];
    let site = Site::start(binary, &technologies, Some(Protocol::Http))?;
    process::pause(settle);
    let loaded = site.sidecar.process.memory()?;
    everything(&site, Duration::from_secs(arguments.seconds))?;
    process::pause(Duration::from_secs(arguments.rest));
    let after = site.sidecar.process.memory()?;
    Ok(Run {
        alone,
        loaded,
        after,
    })
}

/// All calls one after the other, again and again for about so long.
fn everything(site: &Site, duration: Duration) -> Result<()> {
    let slices = slices(site)?;
    let turn = SLICE.min(duration / u32::try_from(slices.len())?);
    let end = Instant::now() + duration;
    while Instant::now() + turn < end {
        for (target, rate) in &slices {
            let load = Load {
                rate: *rate,
                connections: CONNECTIONS,
                duration: turn,
            };
            let calls = load.run(target)?;
            load.report(&format!("{}, calls", site.label), &calls)?;
        }
    }
    // Those of the last calls may be under way.
    site.arrivals.take(usize::MAX, Duration::from_secs(1));
    Ok(())
}

/// The calls, and how often each is made in a second; in a closed loop where it is not said.
fn slices(site: &Site) -> Result<Vec<(Target, Option<u32>)>> {
    let mut slices = Vec::new();
    for technology in [Technology::Memory, Technology::Redis] {
        for protocol in [Protocol::Http, Protocol::Grpc] {
            for (operation, keys, rate) in [
                (state::Operation::Save, 1, RATE),
                (state::Operation::Get, 1, RATE),
                (state::Operation::Save, state::BULK, state::BULK_RATE),
                (state::Operation::Get, state::BULK, state::BULK_RATE),
            ] {
                let call = state::Call {
                    technology,
                    protocol,
                    operation,
                    keys,
                    payload: PAYLOAD,
                };
                slices.push((call.target(site)?, Some(rate)));
            }
            for (topic, events, rate) in [
                (DELIVERED, 1, Some(RATE)),
                (pubsub::UNHEARD, pubsub::BULK, None),
            ] {
                let call = pubsub::Call {
                    technology,
                    protocol,
                    topic,
                    events,
                    payload: PAYLOAD,
                };
                slices.push((call.target(site)?, rate));
            }
        }
    }
    Ok(slices)
}

const RUNS: u32 = 2;
const SECONDS: u64 = 24;
const SETTLE: u64 = 3;

/// Longer than allocators keep what they may need again.
const REST: u64 = 10;

/// The longest turn of a call.
const SLICE: Duration = Duration::from_secs(2);

const RATE: u32 = 1000;
const CONNECTIONS: u32 = 16;
const PAYLOAD: usize = 1024;
