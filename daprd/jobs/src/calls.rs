//! Calls of schedulers: each in turn, and one that cannot be connected gives way to the next as long as there is time.

use std::{future::Future, time::Duration};

use async_trait::async_trait;
use proto::scheduler::v1::{self as wire, scheduler_client::SchedulerClient};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, ConnectError, Response, Status, transport::Channel};

use crate::{DISABLED, Engine, MAX_MESSAGE, Scheduling};

/// How long a call may take, the time until there is a connection included (contract 8.5).
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// The pause after a scheduler that cannot be connected.
const PAUSE: Duration = Duration::from_millis(200);

impl Engine {
    async fn call<R, T, F, Fut>(&self, request: R, call: F) -> Result<T, Status>
    where
        R: Clone + Send + Sync,
        F: Fn(SchedulerClient<Channel>, R) -> Fut + Send,
        Fut: Future<Output = Result<Response<T>, Status>> + Send,
    {
        if !self.is_configured() {
            return Err(Status::internal(DISABLED));
        }
        let deadline = Instant::now() + CALL_LIMIT;
        let mut last = None;
        loop {
            let host = match timeout_at(deadline, self.0.next_host()).await {
                Ok(Some(host)) => host,
                _ => return Err(last.unwrap_or_else(|| unreached("none is known"))),
            };
            match timeout_at(deadline, call(host.client(), request.clone())).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) if is_unconnected(&status) => {
                    let problem = format!("{}: {}", host.address, transport::describe(&status));
                    last = Some(unreached(&problem));
                }
                Ok(Err(status)) => return Err(status),
                Err(_) => {
                    // Nobody may be at the other end any more.
                    self.0.renew(&host);
                    let text = format!("scheduler {} has not answered", host.address);
                    return Err(Status::deadline_exceeded(text));
                }
            }
            if timeout_at(deadline, sleep(PAUSE)).await.is_err() {
                return Err(last.unwrap_or_else(|| unreached("none is known")));
            }
        }
    }
}

fn unreached(problem: &str) -> Status {
    Status::unavailable(format!("no scheduler is reached: {problem}"))
}

/// Whether a call was not even sent, so that it can be made again.
fn is_unconnected(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[async_trait]
impl Scheduling for Engine {
    async fn schedule(&self, request: wire::ScheduleJobRequest) -> Result<(), Status> {
        self.call(request, |mut client, request| async move {
            client.schedule_job(request).await
        })
        .await
        .map(|_| ())
    }

    async fn get(&self, request: wire::GetJobRequest) -> Result<wire::GetJobResponse, Status> {
        self.call(request, |mut client, request| async move {
            client.get_job(request).await
        })
        .await
    }

    async fn delete(&self, request: wire::DeleteJobRequest) -> Result<(), Status> {
        self.call(request, |mut client, request| async move {
            client.delete_job(request).await
        })
        .await
        .map(|_| ())
    }

    async fn delete_by_metadata(
        &self,
        request: wire::DeleteByMetadataRequest,
    ) -> Result<(), Status> {
        self.call(request, |mut client, request| async move {
            client.delete_by_metadata(request).await
        })
        .await
        .map(|_| ())
    }

    async fn delete_by_name_prefix(
        &self,
        request: wire::DeleteByNamePrefixRequest,
    ) -> Result<(), Status> {
        self.call(request, |mut client, request| async move {
            client.delete_by_name_prefix(request).await
        })
        .await
        .map(|_| ())
    }

    async fn list(&self, request: wire::ListJobsRequest) -> Result<wire::ListJobsResponse, Status> {
        let listed = self.call(request, |mut client, request| async move {
            client.list_jobs(request).await
        });
        listed.await.map_err(|status| match status.code() {
            // What the library says of an answer that is too large.
            Code::OutOfRange => Status::resource_exhausted(format!(
                "the list is larger than {MAX_MESSAGE} bytes: {}",
                status.message()
            )),
            _ => status,
        })
    }
}
