//! Jobs in an etcd whose scheduler is swapped for one of the other build.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use e2e::scheduler::{Scheduler, Watcher, app, once, retries};
use e2e::{Etcd, process::Build, wait};
use proto::scheduler::v1 as wire;
use proto::scheduler::v1::scheduler_client::SchedulerClient;
use tokio::task::JoinSet;
use tonic::transport::Channel;

/// The scheduler before may have to be given up first.
const TAKEOVER: Duration = Duration::from_secs(60);

async fn scheduler(etcd: &Etcd, build: Build) -> Scheduler {
    etcd.replica("one").build(build).start().await
}

/// Asks for a job until it is accepted: whoever has just started may still be finding out which jobs are its own.
async fn schedule(client: &SchedulerClient<Channel>, job: &wire::ScheduleJobRequest) {
    wait::eventually("a job to be accepted", TAKEOVER, || {
        let (mut client, job) = (client.clone(), job.clone());
        async move { client.schedule_job(job).await.is_ok() }
    })
    .await;
}

async fn stored(client: &mut SchedulerClient<Channel>, name: &str) -> Option<wire::Job> {
    let request = wire::GetJobRequest {
        name: name.to_owned(),
        metadata: Some(app("app")),
    };
    let answer = client.get_job(request).await.expect("it answers");
    answer.into_inner().job
}

/// A job for each second, so many times.
fn each_second(name: &str, times: u32) -> wire::ScheduleJobRequest {
    let mut request = once("app", name, "0s");
    let job = request.job.as_mut().expect("it has one");
    job.due_time = None;
    job.schedule = Some("@every 1s".to_owned());
    job.repeats = Some(times);
    request
}

/// The names of all jobs, as soon as the scheduler says them.
async fn names(client: &SchedulerClient<Channel>) -> Vec<String> {
    wait::until("a list of jobs", TAKEOVER, || {
        let mut client = client.clone();
        async move {
            let request = wire::ListJobsRequest {
                metadata: Some(app("app")),
            };
            let answer = client.list_jobs(request).await.ok()?.into_inner();
            let names = answer.jobs.into_iter().map(|job| job.name);
            Some(names.collect())
        }
    })
    .await
}

async fn watch(scheduler: &Scheduler) -> Watcher {
    let mut client = scheduler.client();
    let watcher = Watcher::open(&mut client, "app").await;
    watcher.expect("it takes streams")
}

async fn exchange(first: Build, second: Build) {
    let etcd = Etcd::start().await;
    let scheduler_one = scheduler(&etcd, first).await;
    let mut client = scheduler_one.client();
    let mut far = once("app", "far", "24h");
    let job = far.job.as_mut().expect("it has one");
    job.schedule = Some("@every 12h".to_owned());
    job.ttl = Some("48h".to_owned());
    job.failure_policy = Some(retries(7));
    job.data = Some(prost_types::Any {
        type_url: "type.googleapis.com/google.protobuf.BytesValue".to_owned(),
        value: vec![10, 2, 0, 255],
    });
    schedule(&client, &far).await;
    schedule(&client, &once("app", "doomed", "24h")).await;
    schedule(&client, &each_second("ticks", 6)).await;
    let told = stored(&mut client, "far").await;
    assert!(told.is_some());
    let mut watcher = watch(&scheduler_one).await;
    for tick in ["first", "second"] {
        assert_eq!(watcher.take().await, "ticks", "{tick}");
    }
    drop(watcher);
    // It comes due while nobody takes it.
    schedule(&client, &once("app", "staged", "0s")).await;
    scheduler_one.stop().await;

    let scheduler_two = scheduler(&etcd, second).await;
    let mut client = scheduler_two.client();
    assert!(names(&client).await.contains(&"far".to_owned()));
    assert_eq!(stored(&mut client, "far").await, told);
    let doomed = wire::DeleteJobRequest {
        name: "doomed".to_owned(),
        metadata: Some(app("app")),
    };
    client.delete_job(doomed).await.expect("it is deleted");
    let taken = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&taken);
    let watcher = watch(&scheduler_two).await;
    let mut takers = JoinSet::new();
    takers.spawn(watcher.take_all(move |name| tell.lock().expect("whole").push(name)));
    wait::eventually("what is done to be gone", wait::DEADLINE, || async {
        names(&client).await == ["far"]
    })
    .await;
    drop(takers);
    let taken = taken.lock().expect("whole").clone();
    let times = |name: &str| taken.iter().filter(|taken| *taken == name).count();
    // The last that the first has fired may not have been counted there.
    assert!((4..=5).contains(&times("ticks")), "{taken:?}");
    assert!((1..=2).contains(&times("staged")), "{taken:?}");
    assert_eq!(times("ticks") + times("staged"), taken.len(), "{taken:?}");
    scheduler_two.stop().await;

    let back = scheduler(&etcd, first).await;
    let mut client = back.client();
    assert_eq!(names(&client).await, ["far"]);
    assert_eq!(stored(&mut client, "far").await, told);
    back.stop().await;
}

#[tokio::test]
async fn made_by_the_other_build() {
    exchange(Build::Other, Build::Ours).await;
}

#[tokio::test]
async fn made_by_ours() {
    exchange(Build::Ours, Build::Other).await;
}
