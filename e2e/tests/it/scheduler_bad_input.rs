//! What a scheduler must not suffer from: schedules and names that are none, clients that never read, and actors with more
//! reminders than anybody can take. Each is refused in a message that names it, and others notice nothing.

use std::time::Duration;

use e2e::mesh::Tls;
use e2e::scheduler::{Scheduler, Watcher, app, keys, once};
use e2e::{Sentry, wait};
use proto::scheduler::v1 as wire;
use proto::scheduler::v1::scheduler_client::SchedulerClient;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Channel;

/// A job of its own comes due and is taken: the scheduler is there for others.
async fn serves_others(client: &mut SchedulerClient<Channel>) {
    let mut request = once("other", "job", "0s");
    request.overwrite = true;
    let mut watcher = Watcher::open(client, "other").await.expect("a stream");
    client.schedule_job(request).await.expect("it is accepted");
    let taken = wait::within("a job of another app", SOON, watcher.take()).await;
    assert_eq!(taken, "job");
}

fn with(change: impl FnOnce(&mut wire::Job)) -> wire::ScheduleJobRequest {
    let mut request = once("app", "job", "0s");
    let job = request.job.as_mut().expect("it has a job");
    job.due_time = None;
    change(job);
    request
}

fn scheduled(schedule: &str) -> wire::ScheduleJobRequest {
    with(|job| job.schedule = Some(schedule.to_owned()))
}

fn named(name: &str) -> wire::ScheduleJobRequest {
    once("app", name, "1h")
}

#[tokio::test]
async fn what_is_no_job_is_refused_by_its_name() {
    let mut scheduler = Scheduler::builder().start().await;
    let mut client = scheduler.client();
    let long = "x".repeat(600);
    let cases = [
        (scheduled("not a schedule"), "not a schedule"),
        (scheduled("99 * * * * *"), "99 * * * * *"),
        (scheduled("* * * * *"), "* * * * *"),
        (scheduled("@every"), "@every"),
        (scheduled("TZ=Nowhere/Else * * * * * *"), "Nowhere/Else"),
        (scheduled("1-0 * * * * *"), "1-0 * * * * *"),
        (scheduled("*/0 * * * * *"), "*/0 * * * * *"),
        (scheduled(&"1,".repeat(100_000)), "1,1,1,"),
        (with(|_| {}), "due time or a schedule"),
        (
            with(|job| job.due_time = Some("R5/PT1S".to_owned())),
            "due time format",
        ),
        (
            with(|job| job.due_time = Some("soon".to_owned())),
            "due time format",
        ),
        (
            with(|job| {
                job.schedule = Some("@daily".to_owned());
                job.ttl = Some("never".to_owned());
            }),
            "ttl format",
        ),
        (
            with(|job| {
                job.schedule = Some("@daily".to_owned());
                job.repeats = Some(0);
            }),
            "repeats",
        ),
        (named("a/b"), "a/b"),
        (named("..\\..\\x"), "..\\\\..\\\\x"),
        (named("a#b"), "a#b"),
        (named("a?b"), "a?b"),
        (named("a\0b"), "control characters"),
        (named(&long), "at most"),
    ];
    for (request, fragment) in cases {
        let shown: String = format!("{request:?}").chars().take(300).collect();
        let refused = client.schedule_job(request).await;
        let status = refused.expect_err(&shown);
        assert_eq!(status.code(), Code::Unknown, "{shown}: {status:?}");
        let message = status.message();
        assert!(message.contains(fragment), "{shown}: {message}");
        assert!(message.len() < 1000, "{shown}: {} bytes", message.len());
    }
    assert_eq!(keys(&scheduler, "dapr/jobs/").await.len(), 0);
    serves_others(&mut client).await;
    assert_eq!(scheduler.process().exited(), None);
    scheduler.stop().await;
}

/// Periods with years and months, names with separators, and data of any type are allowed, and come back as they went.
#[tokio::test]
async fn what_only_looks_wrong_is_kept_as_it_is() {
    let scheduler = Scheduler::builder().start().await;
    let mut client = scheduler.client();
    let data = [
        None,
        Some(prost_types::Any::default()),
        Some(prost_types::Any {
            type_url: "no url at all \u{0}".to_owned(),
            value: vec![0xff; 1000],
        }),
    ];
    for (number, data) in data.into_iter().enumerate() {
        for (name, due) in [
            ("a||b", "P1Y2M"),
            ("||", "P1Y2M3DT4H"),
            ("ünï || x", "9000h"),
        ] {
            let name = format!("{name}{number}");
            let mut request = once("app", &name, due);
            request.job.as_mut().unwrap().data = data.clone();
            client.schedule_job(request).await.expect("it is accepted");
            let ask = wire::GetJobRequest {
                name,
                metadata: Some(app("app")),
            };
            let job = client.get_job(ask).await.unwrap().into_inner().job.unwrap();
            assert_eq!(
                (job.data, job.due_time.as_deref()),
                (data.clone(), Some(due))
            );
        }
    }
    let list = wire::ListJobsRequest {
        metadata: Some(app("app")),
    };
    let jobs = client.list_jobs(list).await.unwrap().into_inner().jobs;
    assert_eq!(jobs.len(), 9);
    scheduler.stop().await;
}

/// Nobody reaches what is of another namespace, neither by what it says it is nor by separators in its names.
#[tokio::test]
async fn tenants_stay_in_their_namespace() {
    let sentry = Sentry::start().await;
    let scheduler = Scheduler::builder().sentry(&sentry).start().await;
    let of = |namespace: &str, app_id: &str| {
        let identity = sentry.ca().identity(namespace, app_id);
        let tls = Tls::new(sentry.anchor(), Some(identity));
        SchedulerClient::new(tls.channel(scheduler.port()))
    };
    let mut owner = of("default", "app");
    owner.schedule_job(named("secret")).await.unwrap();
    let mut stranger = of("evil", "app");
    let denied = |answer: Result<(), tonic::Status>| {
        assert_eq!(answer.expect_err("denied").code(), Code::PermissionDenied);
    };
    let metadata = Some(app("app"));
    denied(stranger.schedule_job(named("x")).await.map(drop));
    let ask = wire::GetJobRequest {
        name: "secret".to_owned(),
        metadata: metadata.clone(),
    };
    denied(stranger.get_job(ask).await.map(drop));
    let list = wire::ListJobsRequest {
        metadata: metadata.clone(),
    };
    denied(stranger.list_jobs(list).await.map(drop));
    let delete = wire::DeleteByNamePrefixRequest {
        name_prefix: String::new(),
        metadata: metadata.clone(),
    };
    denied(stranger.delete_by_name_prefix(delete).await.map(drop));
    let delete = wire::DeleteByMetadataRequest {
        metadata,
        id_prefix_match: Some(true),
    };
    denied(stranger.delete_by_metadata(delete).await.map(drop));
    denied(Watcher::open(&mut stranger, "app").await.map(drop));
    // In its own namespace it may do as it likes, and means nobody else's.
    let mut own = app("app");
    "evil".clone_into(&mut own.namespace);
    let delete = wire::DeleteByNamePrefixRequest {
        name_prefix: "||default||app||".to_owned(),
        metadata: Some(own),
    };
    stranger.delete_by_name_prefix(delete).await.unwrap();
    let left = keys(&scheduler, "dapr/jobs/").await;
    assert_eq!(left, ["dapr/jobs/app||default||app||secret"]);
    scheduler.stop().await;
    sentry.stop().await;
}

/// One actor with a heap of reminders that are due, and a sidecar that never reads them.
#[tokio::test]
async fn who_never_reads_keeps_nobody_waiting() {
    let mut scheduler = Scheduler::builder().start().await;
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let mut client = scheduler.client();
        callers.spawn(async move {
            for number in 0..REMINDERS / CALLERS {
                let mut request = once("app", &format!("{caller}-{number}"), "0s");
                let metadata = request.metadata.as_mut().expect("it has metadata");
                let actor = wire::TargetActorReminder {
                    id: "one".to_owned(),
                    r#type: "hoard".to_owned(),
                };
                metadata.target = Some(wire::JobTargetMetadata {
                    r#type: Some(wire::job_target_metadata::Type::Actor(actor)),
                });
                let data = prost_types::Any {
                    type_url: String::new(),
                    value: vec![1; 2048],
                };
                request.job.as_mut().expect("it has a job").data = Some(data);
                client.schedule_job(request).await.expect("it is accepted");
            }
        });
    }
    let mut client = scheduler.client();
    let _stalled = Watcher::of_actors(&mut client, "app", &["hoard"])
        .await
        .unwrap();
    while let Some(ended) = callers.join_next().await {
        ended.expect("all are accepted");
        serves_others(&mut scheduler.client()).await;
    }
    serves_others(&mut scheduler.client()).await;
    // The one who watches sees that something is not handed out.
    wait::eventually("the age of the oldest reminder", wait::DEADLINE, || async {
        let page = scheduler.metrics().get("/metrics").await.text();
        let line = page.lines().find(|line| line.starts_with(OLDEST));
        let age = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        age.is_some_and(|age| age >= 1.0)
    })
    .await;
    assert_eq!(scheduler.process().exited(), None);
    scheduler.stop().await;
}

/// Long enough for a machine that does other things, and far less than what the reminders take.
const SOON: Duration = Duration::from_secs(5);
const CALLERS: usize = 8;
const REMINDERS: usize = 8000;
const OLDEST: &str = "dapr_scheduler_oldest_due_seconds";
