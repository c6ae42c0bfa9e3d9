//! The gRPC API (contract 8.4).

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use prost::Message as _;
use proto::cron::StoredJob;
use proto::extensions::jobs::TAKES_BACK;
use proto::scheduler::v1 as wire;
use proto::scheduler::v1::scheduler_server::Scheduler;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};
use values::Clock;

use crate::authorize::{Authorizer, Caller};
use crate::cron::Streams;
use crate::leadership::Hosts;
use crate::metrics::Metrics;
use crate::names::{self, COUNTERS, JOBS};
use crate::spec;
use crate::store::{self, Compare, Op, Range, Txn};
use crate::watch;

/// The service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Service {
    pub authorizer: Authorizer,
    pub store: store::Shared,
    pub streams: Streams,
    pub metrics: Metrics,
    pub clock: Arc<dyn Clock>,
    /// Every replica of the scheduler.
    pub hosts: Hosts,
    pub shutdown: CancellationToken,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Service {
    fn checked<'a>(
        &self,
        caller: &Caller,
        metadata: Option<&'a wire::JobMetadata>,
    ) -> Result<&'a wire::JobMetadata, Status> {
        let (namespace, app_id) = metadata.map_or(("", ""), |metadata| {
            (&*metadata.namespace, &*metadata.app_id)
        });
        self.authorizer.check(caller, namespace, app_id)?;
        metadata.ok_or_else(|| Status::invalid_argument("metadata are required"))
    }

    async fn schedule(
        &self,
        caller: Caller,
        request: wire::ScheduleJobRequest,
    ) -> Result<(), Status> {
        let metadata = self.checked(&caller, request.metadata.as_ref())?;
        let name = names::job(metadata, &request.name).map_err(invalid)?;
        let written = self
            .write(&name, request.job, metadata, request.overwrite)
            .await;
        self.metrics.created(Some(metadata), written.is_ok());
        written.inspect_err(|status| {
            tracing::error!("error scheduling job {name}: {}", status.message());
        })
    }

    async fn write(
        &self,
        name: &str,
        job: Option<wire::Job>,
        metadata: &wire::JobMetadata,
        overwrite: bool,
    ) -> Result<(), Status> {
        let job = job.ok_or_else(|| Status::invalid_argument("job cannot be nil"))?;
        let now = self.clock.now();
        let partition = fastrand::u64(..);
        let stored = spec::stored(job, spec::any(metadata), now, partition);
        let stored = stored.map_err(|error| {
            // Compat: Q-scheduler-codes
            Status::unknown(format!("job failed validation: {}", chain(&error)))
        })?;
        let key = Bytes::from(format!("{JOBS}{name}"));
        let txn = Txn {
            compare: if overwrite {
                Vec::new()
            } else {
                vec![Compare::Absent(key.clone())]
            },
            then: vec![Op::put(key, stored.encode_to_vec())],
        };
        if self.store.commit(txn).await.map_err(unavailable)?.held {
            return Ok(());
        }
        Err(Status::already_exists(format!(
            "job already exists: '{name}'"
        )))
    }

    async fn delete_range(&self, prefix: &str) -> Result<(), Status> {
        delete_prefix(&self.store, prefix).await.map_err(|error| {
            tracing::error!("failed to delete jobs {prefix}: {}", chain(&error));
            unavailable(error)
        })?;
        self.metrics.bulk_deleted();
        Ok(())
    }
}

/// Deletes all jobs whose names begin so, with their counters.
pub(crate) async fn delete_prefix(store: &store::Shared, prefix: &str) -> Result<(), store::Error> {
    let ranges = [JOBS, COUNTERS].map(|place| {
        let Range { start, end, .. } = Range::prefix(&format!("{place}{prefix}"));
        (start, end)
    });
    store.clear(ranges.into()).await.map(drop)
}

#[tonic::async_trait]
impl Scheduler for Service {
    type WatchJobsStream = Answers<wire::WatchJobsResponse>;
    type WatchHostsStream = Answers<wire::WatchHostsResponse>;

    async fn schedule_job(
        &self,
        request: Request<wire::ScheduleJobRequest>,
    ) -> Result<Response<wire::ScheduleJobResponse>, Status> {
        let caller = self.authorizer.caller(&request);
        self.schedule(caller, request.into_inner()).await?;
        Ok(Response::new(wire::ScheduleJobResponse {}))
    }

    async fn get_job(
        &self,
        request: Request<wire::GetJobRequest>,
    ) -> Result<Response<wire::GetJobResponse>, Status> {
        let caller = self.authorizer.caller(&request);
        let request = request.into_inner();
        let metadata = self.checked(&caller, request.metadata.as_ref())?;
        let name = names::job(metadata, &request.name).map_err(invalid)?;
        let page = self.store.range(Range::one(format!("{JOBS}{name}"))).await;
        let page = page.map_err(unavailable)?;
        let Some(entry) = page.entries.into_iter().next() else {
            let text = format!("job not found: {}", request.name);
            return Err(Status::not_found(text));
        };
        let stored = StoredJob::decode(entry.value).map_err(unreadable)?;
        let job = stored.job.map(spec::shown);
        Ok(Response::new(wire::GetJobResponse { job }))
    }

    async fn delete_job(
        &self,
        request: Request<wire::DeleteJobRequest>,
    ) -> Result<Response<wire::DeleteJobResponse>, Status> {
        let caller = self.authorizer.caller(&request);
        let request = request.into_inner();
        let metadata = self.checked(&caller, request.metadata.as_ref())?;
        let name = names::job(metadata, &request.name).map_err(invalid)?;
        let then = [JOBS, COUNTERS].map(|place| Op::delete(format!("{place}{name}")));
        let txn = Txn {
            compare: Vec::new(),
            then: then.into(),
        };
        self.store.commit(txn).await.map_err(unavailable)?;
        self.metrics.deleted(Some(metadata));
        Ok(Response::new(wire::DeleteJobResponse {}))
    }

    async fn list_jobs(
        &self,
        request: Request<wire::ListJobsRequest>,
    ) -> Result<Response<wire::ListJobsResponse>, Status> {
        let caller = self.authorizer.caller(&request);
        let request = request.into_inner();
        let metadata = self.checked(&caller, request.metadata.as_ref())?;
        let prefix = names::range(metadata, false).map_err(invalid)?;
        let mut range = Range {
            limit: Some(PAGE),
            ..Range::prefix(&format!("{JOBS}{prefix}"))
        };
        let mut jobs = Vec::new();
        loop {
            let page = self.store.range(range.clone()).await;
            let page = page.map_err(unavailable)?;
            for entry in &page.entries {
                jobs.push(named(entry)?);
            }
            match page.next() {
                Some(next) => range.start = next,
                None => break,
            }
        }
        Ok(Response::new(wire::ListJobsResponse { jobs }))
    }

    async fn delete_by_metadata(
        &self,
        request: Request<wire::DeleteByMetadataRequest>,
    ) -> Result<Response<wire::DeleteByMetadataResponse>, Status> {
        let caller = self.authorizer.caller(&request);
        let request = request.into_inner();
        let metadata = self.checked(&caller, request.metadata.as_ref())?;
        let open = request.id_prefix_match.unwrap_or_default();
        let prefix = names::range(metadata, open).map_err(invalid)?;
        self.delete_range(&prefix).await?;
        Ok(Response::new(wire::DeleteByMetadataResponse {}))
    }

    async fn delete_by_name_prefix(
        &self,
        request: Request<wire::DeleteByNamePrefixRequest>,
    ) -> Result<Response<wire::DeleteByNamePrefixResponse>, Status> {
        let caller = self.authorizer.caller(&request);
        let request = request.into_inner();
        let metadata = self.checked(&caller, request.metadata.as_ref())?;
        let prefix = names::range(metadata, false).map_err(invalid)? + &request.name_prefix;
        names::checked(&prefix).map_err(invalid)?;
        self.delete_range(&prefix).await?;
        Ok(Response::new(wire::DeleteByNamePrefixResponse {}))
    }

    async fn watch_hosts(
        &self,
        _: Request<wire::WatchHostsRequest>,
    ) -> Result<Response<Self::WatchHostsStream>, Status> {
        let hosts = self.hosts.clone();
        Ok(Response::new(watch::hosts(hosts, self.shutdown.clone())))
    }

    async fn watch_jobs(
        &self,
        request: Request<Streaming<wire::WatchJobsRequest>>,
    ) -> Result<Response<Self::WatchJobsStream>, Status> {
        let caller = self.authorizer.caller(&request);
        let requests = request.into_inner();
        let jobs = watch::jobs(self, caller, requests).await?;
        let mut answer = Response::new(jobs);
        let knows = MetadataValue::from_static("true");
        answer.metadata_mut().insert(TAKES_BACK, knows);
        Ok(answer)
    }
}

/// A stored job under its own name. The name is what follows the prefix of its metadata: either may have separators in it.
fn named(entry: &store::Entry) -> Result<wire::NamedJob, Status> {
    let stored = StoredJob::decode(entry.value.clone()).map_err(unreadable)?;
    let job = stored.job.unwrap_or_default();
    let metadata = job.metadata.as_ref();
    let metadata = metadata.map_or(&[][..], |metadata| &metadata.value);
    let metadata = wire::JobMetadata::decode(metadata).map_err(unreadable)?;
    let full = names::of_key(&entry.key, JOBS).unwrap_or_default();
    let prefix = names::prefix(&metadata).map_err(invalid)?;
    let name = full.strip_prefix(&prefix).ok_or_else(|| {
        Status::internal(format!(
            "job {full:?} does not begin as its metadata say: {prefix:?}"
        ))
    })?;
    Ok(wire::NamedJob {
        name: name.to_owned(),
        metadata: Some(metadata),
        job: Some(spec::shown(job)),
    })
}

/// Compat: Q-scheduler-codes
fn invalid(error: names::Error) -> Status {
    Status::unknown(error.to_string())
}

fn unreadable(error: prost::DecodeError) -> Status {
    Status::internal(format!("a stored job cannot be read: {error}"))
}

pub(crate) fn unavailable(error: store::Error) -> Status {
    match &error {
        store::Error::Full | store::Error::Disk => Status::resource_exhausted(error.to_string()),
        store::Error::Closed | store::Error::Broken(_) | store::Error::Unavailable(_) => {
            Status::unavailable(chain(&error))
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// Jobs of a list that are read at a time.
const PAGE: usize = 1000;
