//! The scheduler as a sidecar sees it, and its store as tools see it.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::mesh::Tls;
use e2e::scheduler::{Scheduler, Watcher, app, keys, once, retries};
use e2e::{Sentry, wait};
use proto::scheduler::v1 as wire;
use proto::scheduler::v1::scheduler_client::SchedulerClient;
use tonic::Code;
use tonic::transport::Channel;

async fn schedule(client: &mut SchedulerClient<Channel>, request: wire::ScheduleJobRequest) {
    client.schedule_job(request).await.expect("it is accepted");
}

async fn until_empty(scheduler: &Scheduler) {
    wait::eventually("all jobs to be done", wait::DEADLINE, || async {
        keys(scheduler, "dapr/jobs/").await.is_empty()
            && keys(scheduler, "dapr/counters/").await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn jobs_are_kept_shown_replaced_and_fired() {
    let scheduler = Scheduler::builder().start().await;
    let mut client = scheduler.client();
    let first = once("app", "first", "1h");
    schedule(&mut client, first.clone()).await;
    let again = client.schedule_job(first.clone()).await.unwrap_err();
    assert_eq!(again.code(), Code::AlreadyExists);
    assert_eq!(
        keys(&scheduler, "dapr/").await,
        ["dapr/jobs/app||default||app||first", "dapr/leadership/one"]
    );
    let ask = wire::GetJobRequest {
        name: "first".to_owned(),
        metadata: Some(app("app")),
    };
    let shown = client.get_job(ask.clone()).await.unwrap().into_inner();
    assert_eq!(shown.job.unwrap().due_time.as_deref(), Some("1h"));

    let mut watcher = Watcher::open(&mut client, "app").await.unwrap();
    schedule(
        &mut client,
        wire::ScheduleJobRequest {
            overwrite: true,
            ..once("app", "first", "0s")
        },
    )
    .await;
    assert_eq!(watcher.take().await, "first");
    until_empty(&scheduler).await;
    let gone = client.get_job(ask).await.unwrap_err();
    assert_eq!(
        (gone.code(), gone.message()),
        (Code::NotFound, "job not found: first")
    );

    for name in ["a||1", "a||2", "b"] {
        schedule(&mut client, once("app", name, "1h")).await;
    }
    let list = wire::ListJobsRequest {
        metadata: Some(app("app")),
    };
    let jobs = client.list_jobs(list).await.unwrap().into_inner().jobs;
    let names: Vec<_> = jobs.iter().map(|job| &*job.name).collect();
    assert_eq!(names, ["a||1", "a||2", "b"]);
    let delete = wire::DeleteByNamePrefixRequest {
        name_prefix: "a".to_owned(),
        metadata: Some(app("app")),
    };
    client.delete_by_name_prefix(delete).await.unwrap();
    assert_eq!(keys(&scheduler, "dapr/jobs/").await.len(), 1);
    for bad in ["", "a/b", "../x"] {
        let refused = client.schedule_job(once("app", bad, "never")).await;
        assert_eq!(refused.unwrap_err().code(), Code::Unknown, "{bad:?}");
    }
    scheduler.stop().await;
}

#[tokio::test]
async fn a_failed_job_is_tried_again_and_then_given_up() {
    let scheduler = Scheduler::builder().start().await;
    let mut client = scheduler.client();
    let mut watcher = Watcher::open(&mut client, "app").await.unwrap();
    let mut request = once("app", "job", "0s");
    request.job.as_mut().unwrap().failure_policy = Some(retries(2));
    schedule(&mut client, request).await;
    for _ in 0..3 {
        let job = watcher.next().await;
        watcher.answer(&job, false).await;
    }
    until_empty(&scheduler).await;
    scheduler.stop().await;
}

/// Nothing that was acknowledged is lost, and times that were missed are made up.
#[tokio::test]
async fn jobs_outlive_a_killed_scheduler() {
    let data = tempfile::tempdir().unwrap();
    let builder = || Scheduler::builder().data(&data);
    let scheduler = builder().start().await;
    let mut client = scheduler.client();
    let mut watcher = Watcher::open(&mut client, "app").await.unwrap();
    let mut every = once("app", "every", "0s");
    let job = every.job.as_mut().unwrap();
    job.schedule = Some("@every 1s".to_owned());
    job.repeats = Some(4);
    schedule(&mut client, every).await;
    assert_eq!(watcher.take().await, "every");
    wait::eventually("the first time to be counted", wait::DEADLINE, || async {
        keys(&scheduler, "dapr/counters/").await.len() == 1
    })
    .await;
    for n in 0..100 {
        schedule(&mut client, once("app", &format!("n{n}"), "0s")).await;
    }
    // Whatever is out and not answered is out again behind the restart.
    drop(watcher);
    scheduler.kill().await;

    let scheduler = builder().start().await;
    let mut client = scheduler.client();
    let mut watcher = Watcher::open(&mut client, "app").await.unwrap();
    let (mut names, mut times) = (BTreeSet::new(), 0);
    while names.len() < 100 || times < 3 {
        match &*watcher.take().await {
            "every" => times += 1,
            name => drop(names.insert(name.to_owned())),
        }
    }
    until_empty(&scheduler).await;
    scheduler.stop().await;
}

#[tokio::test]
async fn what_nobody_takes_waits_and_a_dead_stream_gives_back() {
    let scheduler = Scheduler::builder().start().await;
    let mut client = scheduler.client();
    schedule(&mut client, once("app", "staged", "0s")).await;
    schedule(&mut client, once("other", "foreign", "0s")).await;
    let mut dead = Watcher::open(&mut client, "app").await.unwrap();
    assert_eq!(dead.next().await.name, "staged");
    drop(dead);
    let mut live = Watcher::open(&mut client, "app").await.unwrap();
    assert_eq!(live.take().await, "staged");
    wait::eventually("the job to be done", wait::DEADLINE, || async {
        keys(&scheduler, "dapr/jobs/").await == ["dapr/jobs/app||default||other||foreign"]
    })
    .await;
    scheduler.stop().await;
}

#[tokio::test]
async fn sidecars_speak_for_themselves_only() {
    let sentry = Sentry::start().await;
    let scheduler = Scheduler::builder().sentry(&sentry).start().await;
    let identity = sentry.ca().identity("default", "app");
    let tls = Tls::new(sentry.anchor(), Some(identity));
    let mut client = SchedulerClient::new(tls.channel(scheduler.port()));
    schedule(&mut client, once("app", "own", "1h")).await;
    let foreign = client.schedule_job(once("other", "job", "1h")).await;
    assert_eq!(foreign.unwrap_err().code(), Code::PermissionDenied);
    let watcher = Watcher::open(&mut client, "other").await.err().unwrap();
    assert_eq!(watcher.code(), Code::PermissionDenied);
    let hosts = client
        .watch_hosts(wire::WatchHostsRequest {})
        .await
        .unwrap();
    let hosts = hosts.into_inner().message().await.unwrap().unwrap().hosts;
    assert_eq!(hosts[0].address, scheduler.address());
    scheduler.stop().await;
    sentry.stop().await;
}

/// A stream that never said anything does not keep the program.
#[tokio::test]
async fn it_stops_with_streams_that_hang() {
    let mut scheduler = Scheduler::builder().start().await;
    let mut client = scheduler.client();
    let _watcher = Watcher::open(&mut client, "app").await.unwrap();
    let silent = client.watch_jobs(tokio_stream::pending::<wire::WatchJobsRequest>());
    let stop = async {
        scheduler
            .process()
            .signal(e2e::process::Signal::Terminate)
            .await;
        scheduler.process().exit_code(Duration::from_secs(9)).await
    };
    let (answer, code) = tokio::join!(silent, stop);
    assert!(answer.is_err());
    assert_eq!(code, 0);
}
