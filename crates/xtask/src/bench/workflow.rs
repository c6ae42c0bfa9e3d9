//! Workflows per second, and how long one takes alone: a worker of this process beside a sidecar, with its own placement, scheduler and
//! store. Every sidecar gets the same worker and the same load.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::LocalBoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use proto::durabletask::{CreateInstanceRequest, GetInstanceRequest, OrchestrationStatus};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use transport::{ChannelOptions, Connector};
use workflow_worker::{Outcome, Skills, TaskHub, Workflow};

use super::binaries::{self, Binary};
use super::mesh::{self, Role};
use super::print;
use super::process::megabytes;
use super::redis::Redis;

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
            runtime.block_on(site.measure(&daprd.label, arguments))?;
        }
    }
    Ok(())
}

/// What keeps the state.
#[derive(Clone, Copy)]
enum Store {
    Sqlite,
    Redis,
}

impl Store {
    fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Redis => "Redis",
        }
    }
}

/// A sidecar with all that it needs; gone when dropped.
struct Site {
    sidecar: mesh::Sidecar,
    _around: (
        mesh::Placement,
        mesh::Scheduler,
        Option<Redis>,
        tempfile::TempDir,
    ),
}

impl Site {
    fn start(binaries: [&Binary; 3], store: Store, fast_path: bool) -> Result<Self> {
        let [daprd, placement, scheduler] = binaries;
        let folder = tempfile::Builder::new().prefix("dapr-bench-").tempdir()?;
        let placement = mesh::placement(placement, folder.path(), None)?;
        let scheduler = mesh::scheduler(scheduler, folder.path())?;
        let redis = match store {
            Store::Redis => Some(Redis::start(folder.path())?),
            Store::Sqlite => None,
        };
        resources(folder.path(), redis.as_ref(), fast_path)?;
        let role = Role {
            app_id: "bench",
            app: None,
            sentry: None,
            placement: Some(&placement),
            scheduler: Some(&scheduler),
        };
        let sidecar = mesh::sidecar(daprd, folder.path(), role)?;
        Ok(Self {
            sidecar,
            _around: (placement, scheduler, redis, folder),
        })
    }

    async fn measure(&self, label: &str, arguments: &Arguments) -> Result<()> {
        let uri = format!("http://127.0.0.1:{}", self.sidecar.grpc).parse()?;
        let channel = transport::channel(uri, Connector::plain(), ChannelOptions::default());
        let hub = TaskHub::new(channel);
        let (stop, workers) = (CancellationToken::new(), TaskTracker::new());
        let work = workflow_worker::work(hub.clone(), skills());
        workers.spawn(stop.clone().run_until_cancelled_owned(work));
        let _stop = stop.drop_guard();
        self.reach(&hub).await?;
        for case in CASES {
            let mut rates = Vec::new();
            for _ in 0..arguments.runs.max(1) {
                rates.push(rate(&hub, case, arguments.workflows).await?);
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
            one(&hub, "short").await?;
            alone.push(began.elapsed());
        }
        alone.sort_unstable();
        print(&format!(
            "  {label:<24} 3 activities, alone: p50 {:.1} ms, p90 {:.1} ms",
            millis(alone[ALONE / 2]),
            millis(alone[ALONE * 9 / 10])
        ))?;
        let memory = self.sidecar.process.memory()?;
        print(&format!(
            "  {label:<24} afterwards resident {:.1} MB, anonymous {:.1} MB",
            megabytes(memory.resident),
            megabytes(memory.anonymous)
        ))
    }

    /// The first workflow runs once placement and the scheduler know the sidecar.
    async fn reach(&self, hub: &TaskHub) -> Result<()> {
        let began = Instant::now();
        loop {
            let tried = tokio::time::timeout(READY, one(hub, "short")).await;
            match tried {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(_)) if began.elapsed() < READY => tokio::time::sleep(PAUSE).await,
                Ok(Err(error)) => return Err(error.context("no workflow ends")),
                Err(_) => anyhow::bail!("no workflow ends within {READY:?}"),
            }
        }
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Workflows per second, so many under way at a time.
async fn rate(hub: &TaskHub, case: &Case, count: usize) -> Result<f64> {
    let began = Instant::now();
    stream::iter(0..count)
        .map(|_| Ok(one(hub, case.workflow)))
        .try_buffer_unordered(case.at_once)
        .try_collect::<()>()
        .await?;
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

/// Starts a workflow and waits for its end.
async fn one(hub: &TaskHub, name: &str) -> Result<()> {
    let mut hub = hub.clone();
    let request = CreateInstanceRequest {
        name: name.to_owned(),
        input: Some("\"1\"".to_owned()),
        ..CreateInstanceRequest::default()
    };
    let instance_id = hub.start_instance(request).await?.into_inner().instance_id;
    let request = GetInstanceRequest {
        instance_id,
        get_inputs_and_outputs: false,
        router: None,
    };
    let ended = hub.wait_for_instance_completion(request).await?;
    let state = ended.into_inner().workflow_state.unwrap_or_default();
    let status = state.workflow_status();
    ensure!(
        status == OrchestrationStatus::Completed,
        "a workflow has ended as {status:?}"
    );
    Ok(())
}

fn skills() -> Skills {
    Skills::default()
        .activity("echo", |input| async move { Ok(input) })
        .workflow("serial", |workflow| serial(workflow, 5))
        .workflow("short", |workflow| serial(workflow, 3))
        .workflow("parallel", parallel)
}

fn serial(workflow: Workflow, count: usize) -> LocalBoxFuture<'static, Outcome> {
    async move {
        let mut value = workflow.input();
        for _ in 0..count {
            value = workflow.activity("echo", &value).await?;
        }
        Ok(value)
    }
    .boxed_local()
}

fn parallel(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move {
        let input = workflow.input();
        let echoes = (0..5).map(|_| workflow.activity("echo", &input));
        let echoes = futures::future::join_all(echoes).await;
        echoes.into_iter().next_back().unwrap_or(Ok(input.clone()))
    }
    .boxed_local()
}

/// The store, and the features that are asked for.
fn resources(folder: &Path, redis: Option<&Redis>, fast_path: bool) -> Result<()> {
    let resources = folder.join(mesh::RESOURCES);
    std::fs::create_dir_all(&resources)?;
    let (kind, name, value) = match redis {
        Some(redis) => (
            "state.redis",
            "redisHost",
            format!("127.0.0.1:{}", redis.port),
        ),
        None => (
            "state.sqlite",
            "connectionString",
            folder.join("state.db").display().to_string(),
        ),
    };
    let store = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: state}}\nspec:\n  type: {kind}\n  version: v1\n  \
         metadata: [{{name: {name}, value: '{value}'}}, {{name: actorStateStore, value: 'true'}}]\n"
    );
    std::fs::write(resources.join("state.yaml"), store)?;
    let features = match fast_path {
        true => "[{name: WorkflowsFastPath, enabled: true}]",
        false => "[]",
    };
    let configuration = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {{name: bench}}\nspec: {{features: {features}}}\n"
    );
    std::fs::write(folder.join(mesh::CONFIGURATION), configuration)?;
    Ok(())
}

/// How many workflows run alone.
const ALONE: usize = 50;

/// How long it may take until the first workflow has ended.
const READY: Duration = Duration::from_secs(60);

const PAUSE: Duration = Duration::from_millis(50);
