//! The scheduler: jobs registered per second over many connections, memory of a job, jobs fired per second that have
//! waited for a sidecar, and how long one with many jobs takes from its start to the first that it fires.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use proto::scheduler::v1 as wire;
use proto::scheduler::v1::scheduler_client::SchedulerClient;
use proto::scheduler::v1::watch_jobs_request::WatchJobRequestType;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use transport::{ChannelOptions, Connector};

use super::binaries::{self, Binary};
use super::{mesh, print};

mod restart;

/// Flags of the bench.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// What to measure, as scheduler=path or label:scheduler=path; repeatable [default: ours]
    #[arg(long = "binary")]
    binaries: Vec<String>,
    /// Jobs
    #[arg(long, default_value_t = 100_000)]
    jobs: usize,
    /// Connections that register them
    #[arg(long, default_value_t = 24)]
    connections: usize,
    /// Calls under way on each of them
    #[arg(long, default_value_t = 4)]
    calls: usize,
    /// Streams that take them
    #[arg(long, default_value_t = 3)]
    streams: usize,
    /// Jobs that are stored, and not due, when it is started again
    #[arg(long, default_value_t = 100_000)]
    stored: usize,
}

/// Measures and prints a line per program.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let named = arguments.binaries.iter().map(|text| binaries::parse(text));
    let mut binaries = named.collect::<Result<Vec<_>>>()?;
    if binaries.is_empty() {
        binaries.push(binaries::own("scheduler")?);
    }
    print(&format!(
        "scheduler, {} jobs over {} connections with {} calls each, fired on {} streams",
        arguments.jobs, arguments.connections, arguments.calls, arguments.streams
    ))?;
    print(&format!(
        "{:<24} {:>14} {:>14} {:>14} {:>14}",
        "program", "registered/s", "bytes a job", "fired/s", "done/s"
    ))?;
    let runtime = tokio::runtime::Runtime::new()?;
    for binary in &binaries {
        runtime.block_on(once(binary, arguments))?;
    }
    for binary in &binaries {
        runtime.block_on(restart::run(binary, arguments))?;
    }
    Ok(())
}

async fn once(binary: &Binary, arguments: &Arguments) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let scheduler = mesh::scheduler(binary, folder.path())?;
    let before = scheduler.process.memory()?;
    let jobs = arguments.jobs as f64;
    let began = Instant::now();
    register(scheduler.port, arguments, arguments.jobs, "0s").await?;
    let registered = jobs / began.elapsed().as_secs_f64();
    let after = scheduler.process.memory()?;
    let grown = after.anonymous.saturating_sub(before.anonymous) * 1024;
    let began = Instant::now();
    let (fired, streams) = fire(scheduler.port, arguments, began).await?;
    let fired = jobs / fired.as_secs_f64();
    let done = jobs / done(scheduler.port, began).await?.as_secs_f64();
    drop(streams);
    print(&format!(
        "{:<24} {registered:>14.0} {:>14.0} {fired:>14.0} {done:>14.0}",
        binary.label,
        grown as f64 / jobs,
    ))
}

/// Registers so many jobs, for which nobody is there yet.
async fn register(port: u16, arguments: &Arguments, jobs: usize, due: &'static str) -> Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..arguments.connections {
        let client = client(port)?;
        for _ in 0..arguments.calls {
            let (mut client, next) = (client.clone(), next.clone());
            callers.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= jobs {
                        return Ok::<_, tonic::Status>(());
                    }
                    client.schedule_job(reminder(number, due)).await?;
                }
            });
        }
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(())
}

/// Takes all jobs on several streams; how long it took until the last one had arrived, and the streams, which still send
/// results.
async fn fire(
    port: u16,
    arguments: &Arguments,
    began: Instant,
) -> Result<(Duration, JoinSet<Result<(), tonic::Status>>)> {
    let arrived = Arc::new(AtomicUsize::new(0));
    let mut takers = JoinSet::new();
    let (sender, mut last) = mpsc::channel(1);
    for _ in 0..arguments.streams {
        let (mut client, arrived) = (client(port)?, arrived.clone());
        let (jobs, sender) = (arguments.jobs, sender.clone());
        takers.spawn(async move {
            let (results, waiting) = mpsc::channel(1024);
            let _ = results.send(initial()).await;
            let requests = ReceiverStream::new(waiting);
            let mut stream = client.watch_jobs(requests).await?.into_inner();
            while let Some(job) = stream.message().await? {
                let result = wire::WatchJobsRequestResult {
                    id: job.id,
                    status: wire::WatchJobsRequestResultStatus::Success.into(),
                };
                let _ = results
                    .send(request(WatchJobRequestType::Result(result)))
                    .await;
                if arrived.fetch_add(1, Ordering::Relaxed) + 1 == jobs {
                    let _ = sender.send(began.elapsed()).await;
                }
            }
            Ok::<_, tonic::Status>(())
        });
    }
    let took = timeout(PATIENCE, last.recv())
        .await?
        .context("a stream ended early")?;
    Ok((took, takers))
}

/// Waits until every job is done and gone.
async fn done(port: u16, began: Instant) -> Result<Duration> {
    let mut client = client(port)?;
    let list = wire::ListJobsRequest {
        metadata: Some(metadata("")),
    };
    while began.elapsed() < PATIENCE {
        let jobs = client.list_jobs(list.clone()).await?.into_inner().jobs;
        if jobs.is_empty() {
            return Ok(began.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("jobs are left after {PATIENCE:?}")
}

fn client(port: u16) -> Result<SchedulerClient<Channel>> {
    let uri = format!("http://127.0.0.1:{port}").parse()?;
    let channel = transport::channel(uri, Connector::plain(), ChannelOptions::default());
    Ok(SchedulerClient::new(channel).max_decoding_message_size(usize::MAX))
}

/// What a stream of a sidecar begins with.
fn initial() -> wire::WatchJobsRequest {
    request(WatchJobRequestType::Initial(
        wire::WatchJobsRequestInitial {
            app_id: APP.to_owned(),
            namespace: NAMESPACE.to_owned(),
            actor_types: vec![KIND.to_owned()],
            ..wire::WatchJobsRequestInitial::default()
        },
    ))
}

fn request(kind: WatchJobRequestType) -> wire::WatchJobsRequest {
    wire::WatchJobsRequest {
        watch_job_request_type: Some(kind),
    }
}

fn reminder(number: usize, due: &str) -> wire::ScheduleJobRequest {
    wire::ScheduleJobRequest {
        name: "remind".to_owned(),
        job: Some(wire::Job {
            due_time: Some(due.to_owned()),
            ..wire::Job::default()
        }),
        metadata: Some(metadata(&number.to_string())),
        overwrite: true,
    }
}

fn metadata(id: &str) -> wire::JobMetadata {
    let actor = wire::TargetActorReminder {
        id: id.to_owned(),
        r#type: KIND.to_owned(),
    };
    wire::JobMetadata {
        app_id: APP.to_owned(),
        namespace: NAMESPACE.to_owned(),
        target: Some(wire::JobTargetMetadata {
            r#type: Some(wire::job_target_metadata::Type::Actor(actor)),
        }),
        concurrency_key: None,
    }
}

const NAMESPACE: &str = "default";
const APP: &str = "app";
const KIND: &str = "kind";

/// Longer than any run takes.
const PATIENCE: Duration = Duration::from_secs(1800);
