//! A scheduler that is started with many jobs: how long until the first one fires, and what a job costs beyond its own bytes.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use prost::{Message as _, Name as _};
use prost_types::{Any, Timestamp};
use proto::cron::{Job, StoredJob, stored_job::Begin};
use proto::scheduler::v1 as wire;
use proto::scheduler::v1::failure_policy::Policy;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;

use super::{Arguments, PATIENCE, client, initial, metadata, register, reminder};
use crate::bench::binaries::Binary;
use crate::bench::{mesh, print};

/// Stores jobs that are not due and one that is, starts the program again, and prints.
pub(super) async fn run(binary: &Binary, arguments: &Arguments) -> Result<()> {
    let jobs = arguments.stored;
    if jobs == 0 {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let scheduler = mesh::scheduler(binary, folder.path())?;
    let idle = scheduler.process.memory()?;
    register(scheduler.port, arguments, jobs, LATER).await?;
    due(scheduler.port, jobs).await?;
    scheduler.process.stop()?;
    let (first, memory) = first_firing(binary, folder.path(), false).await?;
    let (killed, _) = first_firing(binary, folder.path(), true).await?;
    let grown = memory.resident.saturating_sub(idle.resident) * 1024;
    let bytes = grown as f64 / jobs as f64;
    let own = own(jobs / 2) as f64;
    print(&format!(
        "{:<24} {jobs} stored jobs: first fires {:.2} s behind the start, {:.2} s where it was killed; {bytes:.0} bytes a job, {:.0} beyond its own {own:.0}",
        binary.label,
        first.as_secs_f64(),
        killed.as_secs_f64(),
        bytes - own,
    ))
}

/// A job that is due and that nobody takes yet.
async fn due(port: u16, number: usize) -> Result<()> {
    let request = reminder(number, "0s");
    client(port)?.schedule_job(request).await?;
    Ok(())
}

/// Starts the program, takes the first job without giving a result, and reads the memory. It is killed, or stopped.
async fn first_firing(
    binary: &Binary,
    folder: &Path,
    killed: bool,
) -> Result<(Duration, crate::bench::process::Memory)> {
    if killed {
        // It has to be one that was writing.
        let scheduler = mesh::scheduler(binary, folder)?;
        due(scheduler.port, usize::MAX).await?;
        drop(scheduler);
    }
    let (scheduler, _) = mesh::begin_scheduler(binary, folder)?;
    let mut client = client(scheduler.port)?;
    let first = async {
        loop {
            let requests = tokio_stream::once(initial()).chain(tokio_stream::pending());
            if let Ok(stream) = client.watch_jobs(requests).await {
                let job = stream.into_inner().message().await?;
                return job.context("the stream ended");
            }
            tokio::time::sleep(RETRY).await;
        }
    };
    timeout(PATIENCE, first).await??;
    let took = scheduler.process.started().elapsed();
    let memory = scheduler.process.memory()?;
    scheduler.process.stop()?;
    Ok((took, memory))
}

/// Bytes of a stored job with its key.
fn own(number: usize) -> usize {
    let metadata = metadata(&number.to_string());
    let key = format!("dapr/jobs/actorreminder||default||kind||{number}||remind");
    let at = Timestamp {
        seconds: 1_767_225_600,
        nanos: 123_456_789,
    };
    let policy = wire::FailurePolicyConstant {
        interval: Some(prost_types::Duration {
            seconds: 1,
            nanos: 0,
        }),
        max_retries: Some(3),
    };
    let stored = StoredJob {
        partition_id: u64::MAX,
        begin: Some(Begin::DueTime(at)),
        expiration: None,
        job: Some(Job {
            due_time: Some(LATER.to_owned()),
            metadata: Some(Any {
                type_url: format!("type.googleapis.com/{}", wire::JobMetadata::full_name()),
                value: metadata.encode_to_vec(),
            }),
            failure_policy: Some(wire::FailurePolicy {
                policy: Some(Policy::Constant(policy)),
            }),
            ..Job::default()
        }),
    };
    key.len() + stored.encoded_len()
}

/// When the jobs are due that only lie there.
const LATER: &str = "24h";

/// Between attempts to open a stream.
const RETRY: Duration = Duration::from_millis(5);
