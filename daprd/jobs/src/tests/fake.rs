//! A scheduler in process, whose streams the test holds in its hands.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::Stream;
use parking_lot::Mutex;
use proto::extensions::jobs::TAKES_BACK;
use proto::scheduler::v1::{
    self as wire, WatchJobsRequest, WatchJobsRequestInitial, WatchJobsRequestResult,
    WatchJobsResponse,
    scheduler_server::{Scheduler, SchedulerServer},
    watch_jobs_request::WatchJobRequestType,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::{
    StreamExt,
    wrappers::{ReceiverStream, WatchStream},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataValue};
use transport::{Listener, ServerOptions};

use super::soon;

type Stretch<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The handle of a test.
pub struct Fake {
    pub address: String,
    pub hosts: watch::Sender<Vec<String>>,
    /// Streams as they are opened.
    pub streams: mpsc::UnboundedReceiver<Session>,
    /// Names of scheduled jobs.
    pub scheduled: Arc<Mutex<Vec<String>>>,
    /// What calls are refused with.
    pub refusal: Arc<Mutex<Option<Status>>>,
    /// Whether it says that it takes jobs back.
    pub takes_back: Arc<AtomicBool>,
    stop: CancellationToken,
}

/// The scheduler's side of a stream.
pub struct Session {
    pub initial: WatchJobsRequestInitial,
    triggers: mpsc::Sender<Result<WatchJobsResponse, Status>>,
    results: Streaming<WatchJobsRequest>,
}

struct Served {
    hosts: watch::Receiver<Vec<String>>,
    opened: mpsc::UnboundedSender<Session>,
    scheduled: Arc<Mutex<Vec<String>>>,
    refusal: Arc<Mutex<Option<Status>>>,
    takes_back: Arc<AtomicBool>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Fake {
    /// One that announces itself.
    pub fn start() -> Self {
        Self::on(listener())
    }

    pub fn on(listener: Listener) -> Self {
        let address = listener.local_addr().expect("a TCP port").to_string();
        let (hosts, announced) = watch::channel(vec![address.clone()]);
        let (opened, streams) = mpsc::unbounded_channel();
        let (scheduled, refusal) = (Arc::default(), Arc::default());
        let takes_back = Arc::<AtomicBool>::default();
        let service = SchedulerServer::new(Served {
            hosts: announced,
            opened,
            scheduled: Arc::clone(&scheduled),
            refusal: Arc::clone(&refusal),
            takes_back: Arc::clone(&takes_back),
        });
        let stop = CancellationToken::new();
        let serving = transport::serve(listener, ServerOptions::default(), service, stop.clone());
        TaskTracker::new().spawn(serving);
        Self {
            address,
            hosts,
            streams,
            scheduled,
            refusal,
            takes_back,
            stop,
        }
    }

    pub async fn stream(&mut self) -> Session {
        soon(self.streams.recv()).await.expect("the server lives")
    }
}

pub fn listener() -> Listener {
    Listener::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port")
}

impl Session {
    pub async fn trigger(&self, trigger: WatchJobsResponse) {
        self.triggers
            .send(Ok(trigger))
            .await
            .expect("an open stream");
    }

    /// Breaks the stream.
    pub async fn triggers_end(&self, status: Status) {
        self.triggers
            .send(Err(status))
            .await
            .expect("an open stream");
    }

    pub async fn result(&mut self) -> WatchJobsRequestResult {
        let next = soon(self.results.next()).await.expect("an open stream");
        let request = next.expect("a message").watch_job_request_type;
        match request {
            Some(WatchJobRequestType::Result(result)) => result,
            other => panic!("{other:?} is no result"),
        }
    }

    /// Waits until the sidecar has closed its side.
    pub async fn closed(&mut self) {
        while let Some(Ok(_)) = soon(self.results.next()).await {}
    }
}

#[async_trait::async_trait]
impl Scheduler for Served {
    type WatchJobsStream = Stretch<WatchJobsResponse>;
    type WatchHostsStream = Stretch<wire::WatchHostsResponse>;

    async fn schedule_job(
        &self,
        request: Request<wire::ScheduleJobRequest>,
    ) -> Result<Response<wire::ScheduleJobResponse>, Status> {
        if let Some(status) = self.refusal.lock().clone() {
            return Err(status);
        }
        self.scheduled.lock().push(request.into_inner().name);
        Ok(Response::new(Default::default()))
    }

    async fn get_job(
        &self,
        _: Request<wire::GetJobRequest>,
    ) -> Result<Response<wire::GetJobResponse>, Status> {
        Err(Status::not_found("job not found"))
    }

    async fn delete_job(
        &self,
        _: Request<wire::DeleteJobRequest>,
    ) -> Result<Response<wire::DeleteJobResponse>, Status> {
        Ok(Response::new(Default::default()))
    }

    async fn watch_jobs(
        &self,
        request: Request<Streaming<WatchJobsRequest>>,
    ) -> Result<Response<Self::WatchJobsStream>, Status> {
        let mut results = request.into_inner();
        let first = results.message().await?.unwrap_or_default();
        let Some(WatchJobRequestType::Initial(initial)) = first.watch_job_request_type else {
            return Err(Status::invalid_argument("no initial request"));
        };
        let (triggers, outgoing) = mpsc::channel(16);
        let session = Session {
            initial,
            triggers,
            results,
        };
        let _ = self.opened.send(session);
        let mut answer: Response<Self::WatchJobsStream> =
            Response::new(Box::pin(ReceiverStream::new(outgoing)));
        if self.takes_back.load(Ordering::Acquire) {
            let says = MetadataValue::from_static("true");
            answer.metadata_mut().insert(TAKES_BACK, says);
        }
        Ok(answer)
    }

    async fn list_jobs(
        &self,
        request: Request<wire::ListJobsRequest>,
    ) -> Result<Response<wire::ListJobsResponse>, Status> {
        let named = |app_id: &str| {
            let metadata = request.get_ref().metadata.as_ref();
            metadata.is_some_and(|metadata| metadata.app_id == app_id)
        };
        // More than anybody takes, for an app of this name.
        let size = if named("large") {
            crate::MAX_MESSAGE
        } else {
            0
        };
        let name = "x".repeat(size);
        let job = wire::NamedJob {
            name,
            ..wire::NamedJob::default()
        };
        Ok(Response::new(wire::ListJobsResponse { jobs: vec![job] }))
    }

    async fn watch_hosts(
        &self,
        _: Request<wire::WatchHostsRequest>,
    ) -> Result<Response<Self::WatchHostsStream>, Status> {
        let hosts = WatchStream::new(self.hosts.clone()).map(|addresses| {
            let hosts = addresses.into_iter();
            let hosts = hosts.map(|address| wire::Host { address }).collect();
            Ok(wire::WatchHostsResponse { hosts })
        });
        Ok(Response::new(Box::pin(hosts)))
    }

    async fn delete_by_metadata(
        &self,
        _: Request<wire::DeleteByMetadataRequest>,
    ) -> Result<Response<wire::DeleteByMetadataResponse>, Status> {
        Ok(Response::new(Default::default()))
    }

    async fn delete_by_name_prefix(
        &self,
        _: Request<wire::DeleteByNamePrefixRequest>,
    ) -> Result<Response<wire::DeleteByNamePrefixResponse>, Status> {
        Ok(Response::new(Default::default()))
    }
}
