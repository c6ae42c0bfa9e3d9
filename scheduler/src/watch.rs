//! The two streams of the API: the schedulers there are, and jobs that go to a sidecar while its results come back.

use std::collections::HashSet;
use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use proto::extensions::jobs::UNDELIVERED;
use proto::scheduler::v1 as wire;
use proto::scheduler::v1::watch_jobs_request::WatchJobRequestType as Kind;
use tokio::time::timeout;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use crate::authorize::Caller;
use crate::cron::Joined;
use crate::leadership::Hosts;
use crate::metrics::Metrics;
use crate::service::Service;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The replicas, whenever they have agreed on who they are.
pub(crate) fn hosts(
    hosts: Hosts,
    shutdown: CancellationToken,
) -> Answers<wire::WatchHostsResponse> {
    let told = WatchStream::new(hosts).filter_map(|hosts| async {
        let hosts = hosts?.to_vec();
        Some(Ok(wire::WatchHostsResponse { hosts }))
    });
    let end = stream::once(async { Err(closing()) });
    Box::pin(told.take_until(shutdown.cancelled_owned()).chain(end))
}

/// Begins a stream of jobs.
pub(crate) async fn jobs(
    service: &Service,
    caller: Caller,
    mut requests: Streaming<wire::WatchJobsRequest>,
) -> Result<Answers<wire::WatchJobsResponse>, Status> {
    let first = tokio::select! {
        first = timeout(FIRST, requests.message()) => first,
        () = service.shutdown.cancelled() => return Err(closing()),
    };
    let first = first.map_err(|_| Status::deadline_exceeded("no initial request was sent"))??;
    let Some(Kind::Initial(initial)) = first.and_then(|first| first.watch_job_request_type) else {
        let text = "initial request is required on stream connection";
        return Err(Status::invalid_argument(text));
    };
    let wire::WatchJobsRequestInitial {
        namespace, app_id, ..
    } = &initial;
    service.authorizer.check(&caller, namespace, app_id)?;
    let mut types = HashSet::new();
    if let Some(twice) = initial
        .accept_job_types
        .iter()
        .find(|kind| !types.insert(**kind))
    {
        let kind = wire::JobTargetType::try_from(*twice);
        let kind = kind.map_or_else(|_| twice.to_string(), |kind| kind.as_str_name().to_owned());
        let text = format!("duplicate target type specified: {kind}");
        return Err(Status::invalid_argument(text));
    }
    let sidecar = format!("{namespace}/{app_id}");
    tracing::info!(
        "Sidecar connected: {sidecar} (actorTypes={:?})",
        initial.actor_types
    );
    let joined = service.streams.join(initial).await.ok_or_else(closing)?;
    let session = Session {
        joined,
        requests,
        sidecar,
        metrics: service.metrics.clone(),
        shutdown: service.shutdown.clone(),
    };
    // The stream of answers reads the results, too: it lives as long as the connection wants it, and dropping it tells the
    // engine that the sidecar has left.
    let answers = stream::unfold(Some(session), |session| async move {
        let mut session = session?;
        match session.next().await {
            Some(Ok(job)) => Some((Ok(job), Some(session))),
            Some(Err(status)) => Some((Err(status), None)),
            None => None,
        }
    });
    Ok(Box::pin(answers))
}

struct Session {
    joined: Joined,
    requests: Streaming<wire::WatchJobsRequest>,
    sidecar: String,
    metrics: Metrics,
    shutdown: CancellationToken,
}

impl Session {
    /// The next job to send; `None` when the sidecar has closed its side.
    async fn next(&mut self) -> Option<Result<wire::WatchJobsResponse, Status>> {
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return Some(Err(closing())),
                job = self.joined.next() => return Some(job.ok_or_else(closing)),
                request = self.requests.message() => match request {
                    Ok(Some(request)) => {
                        if let Err(status) = self.result(request).await {
                            return Some(Err(status));
                        }
                    }
                    Ok(None) => return None,
                    Err(status) => {
                        if status.code() != Code::Cancelled {
                            tracing::warn!("error receiving from {}: {}", self.sidecar, status.message());
                            self.metrics.sidecar_error("recv_failed");
                        }
                        return Some(Err(status));
                    }
                },
            }
        }
    }

    async fn result(&self, request: wire::WatchJobsRequest) -> Result<(), Status> {
        let Some(Kind::Result(result)) = request.watch_job_request_type else {
            return Err(Status::invalid_argument(
                "a result is expected behind the initial request",
            ));
        };
        if result.status == UNDELIVERED {
            self.joined.refused(result.id).await;
            return Ok(());
        }
        let status = wire::WatchJobsRequestResultStatus::try_from(result.status);
        let status = status.map_err(|_| {
            Status::invalid_argument(format!(
                "unknown trigger response status: {}",
                result.status
            ))
        })?;
        self.joined.result(result.id, status).await;
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        tracing::info!("Closing connection to {}", self.sidecar);
    }
}

fn closing() -> Status {
    Status::unavailable("server is closing")
}

/// A sidecar says at once what it takes; what only opens streams does not get to hold them.
const FIRST: Duration = Duration::from_secs(30);
