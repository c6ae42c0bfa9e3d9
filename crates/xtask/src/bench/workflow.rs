//! Workflows per second, and how long one takes alone: a worker of this process beside a sidecar, with its own placement, scheduler and
//! store. Every sidecar gets the same worker and the same load.

mod load;
mod site;
mod waiting;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use transport::{ChannelOptions, Connector};
use workflow_worker::TaskHub;

use self::load::Begun;
use self::site::{Site, Store};
use super::binaries;
use super::print;
use super::process::megabytes;

/// Flags of the bench.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Sidecars to measure, as path or label:daprd=path; repeatable, measured in turn [default: our daprd]
    #[arg(long)]
    daprd: Vec<String>,
    /// Placement beside each sidecar, in their order, as placement=path or label:placement=path [default: ours]
    #[arg(long)]
    placement: Vec<String>,
    /// Scheduler beside each sidecar, in their order, as scheduler=path or label:scheduler=path [default: ours]
    #[arg(long)]
    scheduler: Vec<String>,
    /// Workflows of a run
    #[arg(long, default_value_t = 300)]
    workflows: usize,
    /// Runs, one after the other, without a restart
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Workflows that sleep 5 s, started as fast as they go
    #[arg(long, default_value_t = 2_000)]
    timers: usize,
    /// Workflows that sleep for an hour, of which each takes memory
    #[arg(long, default_value_t = 10_000)]
    sleeping: usize,
    /// Whether the reference's fast path is asked for
    #[arg(long)]
    fast_path: bool,
}

/// A load.
struct Case {
    title: &'static str,
    workflow: &'static str,
    at_once: usize,
}

const CASES: &[Case] = &[
    Case {
        title: "5 activities, one after the other, 30 at once",
        workflow: "serial",
        at_once: 30,
    },
    Case {
        title: "5 activities at once, 110 at once",
        workflow: "parallel",
        at_once: 110,
    },
];

/// Measures and prints.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let daprds = binaries::daprds(&arguments.daprd)?;
    let placements = binaries::several(&arguments.placement, "placement")?;
    let schedulers = binaries::several(&arguments.scheduler, "scheduler")?;
    for beside in [&placements, &schedulers] {
        let fits = beside.len() == 1 || beside.len() == daprds.len();
        ensure!(fits, "one of each kind, or one for each sidecar");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for store in [Store::Sqlite, Store::Redis] {
        print(&format!(
            "\nworkflow, {}, {} workflows a run, {} runs",
            store.name(),
            arguments.workflows,
            arguments.runs
        ))?;
        for (at, daprd) in daprds.iter().enumerate() {
            let placement = &placements[at % placements.len()];
            let scheduler = &schedulers[at % schedulers.len()];
            let site = Site::start([daprd, placement, scheduler], store, arguments.fast_path)
                .with_context(|| format!("starting {}", daprd.label))?;
            runtime.block_on(measure(&site, &daprd.label, arguments))?;
        }
    }
    Ok(())
}

/// One sidecar: all loads, one after the other.
async fn measure(site: &Site, label: &str, arguments: &Arguments) -> Result<()> {
    let uri = format!("http://127.0.0.1:{}", site.sidecar.grpc).parse()?;
    let channel = transport::channel(uri, Connector::plain(), ChannelOptions::default());
    let hub = TaskHub::new(channel);
    let begun = Begun::default();
    let (stop, workers) = (CancellationToken::new(), TaskTracker::new());
    let work = workflow_worker::work(hub.clone(), load::skills(Begun::clone(&begun)));
    workers.spawn(stop.clone().run_until_cancelled_owned(work));
    let _stop = stop.drop_guard();
    site.reach(&hub).await?;
    for case in CASES {
        let mut rates = Vec::new();
        for _ in 0..arguments.runs.max(1) {
            rates.push(load::rate(&hub, case.workflow, case.at_once, arguments.workflows).await?);
        }
        let (first, last) = (rates[0], rates[rates.len() - 1]);
        print(&format!(
            "  {label:<24} {:<48} {first:7.1} per second, last run {last:7.1}",
            case.title
        ))?;
    }
    let mut alone = Vec::new();
    for _ in 0..ALONE {
        let began = Instant::now();
        load::one(&hub, "short").await?;
        alone.push(began.elapsed());
    }
    alone.sort_unstable();
    print(&format!(
        "  {label:<24} 3 activities, alone: p50 {:.1} ms, p90 {:.1} ms",
        millis(alone[ALONE / 2]),
        millis(alone[ALONE * 9 / 10])
    ))?;
    waiting::growth(&hub, label, &begun, &site.sidecar.process).await?;
    waiting::timers(&hub, label, arguments.timers).await?;
    waiting::sleeping(&hub, label, arguments.sleeping, &site.sidecar.process).await?;
    let memory = site.sidecar.process.memory()?;
    print(&format!(
        "  {label:<24} afterwards resident {:.1} MB, anonymous {:.1} MB",
        megabytes(memory.resident),
        megabytes(memory.anonymous)
    ))
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// How many workflows run alone.
const ALONE: usize = 50;
