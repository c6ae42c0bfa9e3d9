//! The scheduler as a process, with a client that watches.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proto::common::v1::JobFailurePolicy;
use proto::etcd::rpc::{RangeRequest, kv_client::KvClient};
use proto::scheduler::v1 as wire;
use proto::scheduler::v1::scheduler_client::SchedulerClient;
use proto::scheduler::v1::watch_jobs_request::WatchJobRequestType;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::process::{self, Build, Options};
use crate::service::{Identity, Service, is_service};
use crate::{Sentry, mesh, ports, wait};

/// How the scheduler is started: one replica with its own store.
#[derive(Default)]
pub struct Builder {
    build: Build,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    identity: Option<Identity>,
    data: Option<PathBuf>,
}

impl Builder {
    /// Takes its identity from sentry, and demands one of every sidecar.
    #[must_use]
    pub fn sentry(mut self, sentry: &Sentry) -> Self {
        self.identity = Some(Identity::of(sentry));
        self
    }

    /// Whose build it is.
    #[must_use]
    pub fn build(mut self, build: Build) -> Self {
        self.build = build;
        self
    }

    /// Keeps its jobs in this folder, which outlives it.
    #[must_use]
    pub fn data(mut self, folder: &TempDir) -> Self {
        self.data = Some(folder.path().to_owned());
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// Starts it and waits until it is ready.
    pub async fn start(mut self) -> Scheduler {
        let dir = process::folder("scheduler");
        let [grpc, metrics, health, clients] = ports::several().map(ports::Reserved::release);
        let data = self.data.unwrap_or_else(|| dir.path().join("data"));
        let mut args = vec![
            "--id=one".to_owned(),
            "--etcd-initial-cluster=one=http://127.0.0.1:1".to_owned(),
            format!("--etcd-data-dir={}", data.display()),
            format!("--etcd-client-port={clients}"),
            "--etcd-client-listen-address=127.0.0.1".to_owned(),
        ];
        args.extend(self.identity.into_iter().flat_map(|it| it.arguments(&dir)));
        args.extend(self.args);
        self.env
            .insert("NAMESPACE".to_owned(), "default".to_owned());
        let ports = [grpc, metrics, health];
        let options = Options {
            program: "scheduler",
            build: self.build,
            args,
            env: self.env,
        };
        Scheduler {
            service: Service::start(options, dir, ports).await,
            clients,
        }
    }
}

/// A running scheduler.
pub struct Scheduler {
    service: Service,
    clients: u16,
}

is_service!(Scheduler);

impl Scheduler {
    /// A scheduler to configure.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A client without an identity.
    pub fn client(&self) -> SchedulerClient<Channel> {
        SchedulerClient::new(mesh::plain(self.port()))
    }

    /// A channel to the port for clients of the store.
    pub fn store(&self) -> Channel {
        mesh::plain(self.clients)
    }

    /// Kills it without warning.
    pub async fn kill(self) {
        self.service.kill().await;
    }
}

/// The keys of the store that begin so.
pub async fn keys(scheduler: &Scheduler, prefix: &str) -> Vec<String> {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().expect("a prefix") += 1;
    let range = RangeRequest {
        key: prefix.to_owned().into(),
        range_end: end.into(),
        ..RangeRequest::default()
    };
    let answer = KvClient::new(scheduler.store()).range(range).await;
    let kvs = answer.expect("it is readable").into_inner().kvs;
    let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
    kvs.iter().map(|kv| text(&kv.key)).collect()
}

/// Jobs of `default/<app id>`.
pub fn app(app_id: &str) -> wire::JobMetadata {
    wire::JobMetadata {
        app_id: app_id.to_owned(),
        namespace: "default".to_owned(),
        target: Some(wire::JobTargetMetadata {
            r#type: Some(wire::job_target_metadata::Type::Job(wire::TargetJob {})),
        }),
        concurrency_key: None,
    }
}

/// A request for a job that comes due at `due`, counted from now.
pub fn once(app_id: &str, name: &str, due: &str) -> wire::ScheduleJobRequest {
    wire::ScheduleJobRequest {
        name: name.to_owned(),
        job: Some(wire::Job {
            due_time: Some(due.to_owned()),
            ..wire::Job::default()
        }),
        metadata: Some(app(app_id)),
        overwrite: false,
    }
}

/// A policy of so many retries without a pause.
pub fn retries(most: u32) -> JobFailurePolicy {
    use proto::common::v1::{JobFailurePolicyConstant, job_failure_policy::Policy};
    JobFailurePolicy {
        policy: Some(Policy::Constant(JobFailurePolicyConstant {
            interval: None,
            max_retries: Some(most),
        })),
    }
}

/// A sidecar's stream of jobs.
pub struct Watcher {
    jobs: Streaming<wire::WatchJobsResponse>,
    requests: mpsc::Sender<wire::WatchJobsRequest>,
}

impl Watcher {
    /// Takes the jobs of `default/<app id>`.
    ///
    /// # Errors
    /// The scheduler's status.
    pub async fn open(
        client: &mut SchedulerClient<Channel>,
        app_id: &str,
    ) -> Result<Self, tonic::Status> {
        Self::of_actors(client, app_id, &[]).await
    }

    /// Takes the jobs of `default/<app id>`, and reminders of actors of these types.
    ///
    /// # Errors
    /// The scheduler's status.
    pub async fn of_actors(
        client: &mut SchedulerClient<Channel>,
        app_id: &str,
        types: &[&str],
    ) -> Result<Self, tonic::Status> {
        let initial = wire::WatchJobsRequestInitial {
            app_id: app_id.to_owned(),
            namespace: "default".to_owned(),
            actor_types: types.iter().map(|kind| (*kind).to_owned()).collect(),
            ..wire::WatchJobsRequestInitial::default()
        };
        let (requests, waiting) = mpsc::channel(16);
        let watcher = wire::WatchJobsRequest {
            watch_job_request_type: Some(WatchJobRequestType::Initial(initial)),
        };
        requests.send(watcher).await.expect("there is room");
        let jobs = client.watch_jobs(ReceiverStream::new(waiting)).await?;
        Ok(Self {
            jobs: jobs.into_inner(),
            requests,
        })
    }

    /// The next job.
    pub async fn next(&mut self) -> wire::WatchJobsResponse {
        let next = wait::within("the next job", wait::DEADLINE, self.jobs.message()).await;
        next.expect("the stream holds").expect("the stream is open")
    }

    /// Takes jobs, all of which work, until the stream ends, and tells of each by its name.
    pub async fn take_all(mut self, mut tell: impl FnMut(String)) {
        while let Ok(Some(job)) = self.jobs.message().await {
            // Where the stream ends, nobody hears it.
            let _ = self.requests.send(result(&job, true)).await;
            tell(job.name);
        }
    }

    /// Says that a job worked, or did not.
    pub async fn answer(&self, job: &wire::WatchJobsResponse, worked: bool) {
        let sent = self.requests.send(result(job, worked)).await;
        sent.expect("the stream is open");
    }

    /// The next job, which works; its name.
    pub async fn take(&mut self) -> String {
        let job = self.next().await;
        self.answer(&job, true).await;
        job.name
    }
}

fn result(job: &wire::WatchJobsResponse, worked: bool) -> wire::WatchJobsRequest {
    let status = if worked {
        wire::WatchJobsRequestResultStatus::Success
    } else {
        wire::WatchJobsRequestResultStatus::Failed
    };
    let result = wire::WatchJobsRequestResult {
        id: job.id,
        status: status.into(),
    };
    wire::WatchJobsRequest {
        watch_job_request_type: Some(WatchJobRequestType::Result(result)),
    }
}
