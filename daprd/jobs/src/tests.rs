//! The line to schedulers in process, over real sockets.

mod fake;
mod leaving;

use std::{
    collections::BTreeSet,
    convert::Infallible,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use app_channel::{AppChannel, Protocol};
use async_trait::async_trait;
use blocks::Intake;
use component::body;
use component_conformance::Tasks;
use http::{Request, Response, StatusCode};
use proto::scheduler::v1::{
    self as wire, JobMetadata, JobTargetMetadata, JobTargetType, TargetActorReminder, TargetJob,
    WatchJobsRequestResultStatus as Status, WatchJobsResponse, job_target_metadata::Type,
};
use telemetry::{GrpcMetrics, HttpMetrics, Meter, MetricOptions, http_metrics::HttpOptions};
use tokio::sync::{Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::Code;
use transport::{ChannelOptions, Connector, ServerOptions};

use crate::{Engine, Hosting, Options, Outcome, Reminders, Scheduling, Trigger};
use fake::{Fake, Session, listener};

async fn soon<T>(future: impl Future<Output = T>) -> T {
    let limited = tokio::time::timeout(Duration::from_secs(20), future);
    limited.await.expect("in time")
}

/// Takes reminders: one called `broken` panics, of other names only `good` works.
struct Actors;

#[async_trait]
impl Reminders for Actors {
    async fn remind(&self, trigger: Trigger) -> Outcome {
        match &*trigger.name {
            "broken" => panic!("broken"),
            "good" if trigger.actor_id == "1" => Outcome::Done,
            _ => Outcome::Failed,
        }
    }
}

struct World {
    engine: Engine,
    registry: prometheus::Registry,
    types: watch::Sender<BTreeSet<String>>,
    known: Arc<AtomicBool>,
    /// Jobs called `slow` wait for it.
    gate: Arc<Semaphore>,
    shutdown: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl World {
    fn new(addresses: &[&str]) -> Self {
        rustls::crypto::aws_lc_rs::default_provider()
            .install_default()
            .ok();
        let shutdown = CancellationToken::new();
        let gate = Arc::new(Semaphore::new(0));
        let port = app(Arc::clone(&gate), shutdown.clone());
        let registry = prometheus::Registry::new();
        let meter = Meter::new(&registry, MetricOptions::default()).expect("fresh metrics");
        let (channel, _) = AppChannel::new(app_channel::Options {
            app_id: "shop".into(),
            port: Some(port),
            address: "127.0.0.1".into(),
            protocol: Protocol::Http,
            token: None,
            max_concurrency: None,
            pipeline: Arc::default(),
            max_message: 1 << 20,
            health: None,
            http_metrics: HttpMetrics::new(&meter, &HttpOptions::default()).expect("fresh metrics"),
            grpc_metrics: GrpcMetrics::new(&meter),
        });
        let (engine, run) = Engine::new(Options {
            addresses: addresses.iter().map(|it| (*it).to_owned()).collect(),
            streams: 2,
            app_id: "shop".into(),
            namespace: "default".into(),
            limits: Vec::new(),
            label: "default".into(),
            app: channel,
            dial: Arc::new(|address| {
                let uri = format!("http://{address}").parse().ok()?;
                let options = ChannelOptions::default();
                Some(transport::channel(uri, Connector::plain(), options))
            }),
            meter,
            spawn: Arc::new(Tasks::default()),
        });
        let (types, followed) = watch::channel(BTreeSet::new());
        let known = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&known);
        let hosting = Hosting {
            reminders: Arc::new(Actors),
            types: followed,
        };
        let run = run.run(
            Some(hosting),
            move || told.store(true, Ordering::Release),
            shutdown.clone(),
        );
        TaskTracker::new().spawn(run);
        Self {
            engine,
            registry,
            types,
            known,
            gate,
            shutdown,
        }
    }

    fn count(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        let series = family.into_iter().flat_map(|it| it.get_metric());
        series.map(|it| it.get_counter().get_value()).sum()
    }

    async fn schedule(&self, name: &str) -> Result<(), tonic::Status> {
        let request = wire::ScheduleJobRequest {
            name: name.to_owned(),
            ..wire::ScheduleJobRequest::default()
        };
        soon(self.engine.schedule(request)).await
    }
}

/// An app that takes jobs of all names but a few.
fn app(gate: Arc<Semaphore>, shutdown: CancellationToken) -> u16 {
    let listener = listener();
    let port = listener.local_addr().expect("a TCP port").port();
    let service = tower::service_fn(move |request: Request<transport::RequestBody>| {
        let gate = Arc::clone(&gate);
        async move {
            let status = match request.uri().path() {
                "/job/unknown" => StatusCode::NOT_FOUND,
                "/job/refused" => StatusCode::BAD_GATEWAY,
                "/job/slow" => {
                    drop(gate.acquire().await);
                    StatusCode::OK
                }
                _ => StatusCode::OK,
            };
            let mut response = Response::new(body::empty());
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        }
    });
    TaskTracker::new().spawn(async move {
        transport::serve(listener, ServerOptions::default(), service, shutdown).await;
    });
    port
}

fn trigger(id: u64, name: &str, target: Type) -> WatchJobsResponse {
    WatchJobsResponse {
        name: name.to_owned(),
        id,
        data: None,
        metadata: Some(JobMetadata {
            target: Some(JobTargetMetadata {
                r#type: Some(target),
            }),
            ..JobMetadata::default()
        }),
    }
}

fn job(id: u64, name: &str) -> WatchJobsResponse {
    trigger(id, name, Type::Job(TargetJob {}))
}

fn reminder(id: u64, name: &str) -> WatchJobsResponse {
    let actor = TargetActorReminder {
        id: "1".to_owned(),
        r#type: "cart".to_owned(),
    };
    trigger(id, name, Type::Actor(actor))
}

async fn outcome(session: &mut Session, trigger: WatchJobsResponse) -> Status {
    let id = trigger.id;
    session.trigger(trigger).await;
    let result = session.result().await;
    assert_eq!(result.id, id);
    result.status()
}

#[tokio::test]
async fn jobs_go_to_the_app_and_their_results_back() {
    let mut scheduler = Fake::start();
    let world = World::new(&[&scheduler.address]);
    world.engine.start().await;
    let mut session = scheduler.stream().await;
    scheduler.stream().await;
    assert_eq!(session.initial.app_id, "shop");
    assert_eq!(session.initial.namespace, "default");
    assert_eq!(
        session.initial.accept_job_types,
        [i32::from(JobTargetType::Job)]
    );
    assert_eq!(outcome(&mut session, job(1, "good")).await, Status::Success);
    assert_eq!(
        outcome(&mut session, job(2, "refused")).await,
        Status::Failed
    );
    assert_eq!(
        outcome(&mut session, job(3, "unknown")).await,
        Status::Success
    );
    let nobody = WatchJobsResponse::default();
    assert_eq!(outcome(&mut session, nobody).await, Status::Failed);
    assert_eq!(world.count("dapr_component_job_success_count"), 1.0);
    assert_eq!(world.count("dapr_component_job_failure_count"), 2.0);
    assert!(world.known.load(Ordering::Acquire));
    assert_eq!(world.engine.addresses(), [scheduler.address.clone()]);
}

#[tokio::test]
async fn streams_follow_the_types_of_actors_and_the_app() {
    let mut scheduler = Fake::start();
    let world = World::new(&[&scheduler.address]);
    world
        .types
        .send_replace(BTreeSet::from(["cart".to_owned()]));
    let mut before = [scheduler.stream().await, scheduler.stream().await];
    let [first, _] = &mut before;
    assert_eq!(first.initial.actor_types, ["cart"]);
    assert_eq!(outcome(first, reminder(1, "good")).await, Status::Success);
    assert_eq!(outcome(first, reminder(2, "bad")).await, Status::Failed);
    assert_eq!(outcome(first, reminder(3, "broken")).await, Status::Failed);
    assert_eq!(outcome(first, reminder(4, "good")).await, Status::Success);
    world.engine.start().await;
    let mut after = [scheduler.stream().await, scheduler.stream().await];
    let both = [JobTargetType::Job, JobTargetType::ActorReminder].map(i32::from);
    for (old, new) in before.iter_mut().zip(&mut after) {
        old.closed().await;
        assert_eq!(new.initial.accept_job_types, both);
    }
    // Without anything to take there is no stream.
    world.types.send_replace(BTreeSet::new());
    let mut jobs = [scheduler.stream().await, scheduler.stream().await];
    soon(world.engine.stop()).await;
    for session in after.iter_mut().chain(&mut jobs) {
        session.closed().await;
    }
    assert!(scheduler.streams.try_recv().is_err());
}

#[tokio::test]
async fn a_broken_stream_is_opened_again() {
    let mut scheduler = Fake::start();
    let world = World::new(&[&scheduler.address]);
    world.engine.start().await;
    for _ in 0..2 {
        let broken = scheduler.stream().await;
        let status = tonic::Status::unavailable("no leader");
        broken.triggers_end(status).await;
    }
    let mut session = scheduler.stream().await;
    assert_eq!(outcome(&mut session, job(1, "good")).await, Status::Success);
}

#[tokio::test]
async fn streams_are_held_to_every_host_that_is_announced() {
    let (mut first, mut second) = (Fake::start(), Fake::start());
    let world = World::new(&[&first.address]);
    world.engine.start().await;
    let mut stays = first.stream().await;
    first.stream().await;
    let both = vec![second.address.clone(), first.address.clone()];
    first.hosts.send_replace(both.clone());
    let mut goes = [second.stream().await, second.stream().await];
    assert_eq!(world.engine.addresses(), both);
    for name in ["a", "b", "c", "d"] {
        world.schedule(name).await.unwrap();
    }
    assert_eq!(first.scheduled.lock().len(), 2);
    assert_eq!(second.scheduled.lock().len(), 2);
    first.hosts.send_replace(vec![first.address.clone()]);
    for session in &mut goes {
        session.closed().await;
    }
    // What was there before has kept its streams.
    assert_eq!(outcome(&mut stays, job(1, "good")).await, Status::Success);
    assert!(first.streams.try_recv().is_err());
    // Nobody there is no news.
    first.hosts.send_replace(Vec::new());
    world.schedule("e").await.unwrap();
}

#[tokio::test]
async fn a_call_waits_for_a_scheduler_and_takes_no_for_an_answer() {
    let listener = listener();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let world = World::new(&[&address]);
    let late = async {
        tokio::task::yield_now().await;
        let again = transport::Listener::bind(address.parse().unwrap());
        Fake::on(again.unwrap())
    };
    let (scheduled, scheduler) = tokio::join!(world.schedule("a"), late);
    scheduled.unwrap();
    assert_eq!(*scheduler.scheduled.lock(), ["a"]);
    let refusal = tonic::Status::already_exists("there is one");
    *scheduler.refusal.lock() = Some(refusal);
    let status = world.schedule("a").await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::AlreadyExists, "there is one")
    );
}

#[tokio::test]
async fn a_list_has_a_limit_that_is_said() {
    let scheduler = Fake::start();
    let world = World::new(&[&scheduler.address]);
    let list = |app_id: &str| {
        let metadata = JobMetadata {
            app_id: app_id.to_owned(),
            ..JobMetadata::default()
        };
        let metadata = Some(metadata);
        world.engine.list(wire::ListJobsRequest { metadata })
    };
    assert_eq!(list("small").await.unwrap().jobs.len(), 1);
    let refused = list("large").await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let text = refused.message();
    assert!(text.starts_with("the list is larger than"), "{text}");
}

#[tokio::test]
async fn without_addresses_there_is_nothing_to_wait_for() {
    let world = World::new(&[]);
    let status = world.schedule("a").await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    world.engine.start().await;
    soon(async {
        while !world.known.load(Ordering::Acquire) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    soon(world.engine.drain()).await;
}
