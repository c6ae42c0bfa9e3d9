//! The scheduler killed under load, stopped while nobody reads, and on a disk that is full.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use e2e::process::Signal;
use e2e::scheduler::{Scheduler, Watcher, app, keys, once};
use e2e::wait;
use proto::scheduler::v1 as wire;
use proto::scheduler::v1::scheduler_client::SchedulerClient;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Channel;

type Names = Arc<Mutex<BTreeSet<String>>>;

fn note(names: &Names, name: String) {
    names.lock().expect("nobody panics with it").insert(name);
}

fn count(names: &Names) -> usize {
    names.lock().expect("nobody panics with it").len()
}

/// Streams that take whatever comes until the scheduler is gone.
async fn take(scheduler: &Scheduler, fired: &Names) -> JoinSet<()> {
    let mut takers = JoinSet::new();
    for _ in 0..STREAMS {
        let watcher = Watcher::open(&mut scheduler.client(), "app").await;
        let (watcher, fired) = (watcher.expect("a stream"), fired.clone());
        takers.spawn(watcher.take_all(move |name| note(&fired, name)));
    }
    takers
}

/// Callers that register jobs which are due at once or soon, until the scheduler is gone.
fn register(scheduler: &Scheduler, round: usize, acknowledged: &Names) -> JoinSet<()> {
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (mut client, acknowledged) = (scheduler.client(), acknowledged.clone());
        callers.spawn(async move {
            for number in 0.. {
                let name = format!("{round}-{caller}-{number}");
                let due = ["0s", "100ms", "1s"][number % 3];
                if client.schedule_job(once("app", &name, due)).await.is_err() {
                    return;
                }
                note(&acknowledged, name);
            }
        });
    }
    callers
}

#[tokio::test]
async fn no_acknowledged_job_is_lost_where_the_scheduler_is_killed_under_load() {
    let data = tempfile::tempdir().unwrap();
    let (acknowledged, fired) = (Names::default(), Names::default());
    for round in 1..=ROUNDS {
        let scheduler = Scheduler::builder().data(&data).start().await;
        let mut takers = take(&scheduler, &fired).await;
        let mut callers = register(&scheduler, round, &acknowledged);
        wait::eventually("jobs to be registered", wait::DEADLINE, || async {
            count(&acknowledged) >= round * JOBS && count(&fired) >= round * JOBS / 2
        })
        .await;
        scheduler.kill().await;
        while callers.join_next().await.is_some() {}
        while takers.join_next().await.is_some() {}
    }
    let scheduler = Scheduler::builder().data(&data).start().await;
    let _takers = take(&scheduler, &fired).await;
    wait::eventually("every job to fire", BOUND, || async {
        let fired = fired.lock().expect("nobody panics with it");
        let acknowledged = acknowledged.lock().expect("nobody panics with it");
        fired.is_superset(&acknowledged)
    })
    .await;
    wait::eventually("all jobs to be done", wait::DEADLINE, || async {
        keys(&scheduler, "dapr/jobs/").await.is_empty()
            && keys(&scheduler, "dapr/counters/").await.is_empty()
    })
    .await;
    scheduler.stop().await;
}

#[tokio::test]
async fn it_stops_in_time_with_streams_that_do_not_read() {
    let mut scheduler = Scheduler::builder().start().await;
    let mut client = scheduler.client();
    let _stalled = Watcher::open(&mut client, "app").await.unwrap();
    for number in 0..200 {
        let mut request = once("app", &number.to_string(), "0s");
        request.job.as_mut().unwrap().data = Some(bytes(64 << 10));
        client.schedule_job(request).await.unwrap();
    }
    scheduler.process().signal(Signal::Terminate).await;
    let code = scheduler.process().exit_code(Duration::from_secs(9)).await;
    assert_eq!(code, 0);
}

/// A disk of its own, which root can have.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new(megabytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let size = format!("size={megabytes}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]);
        let mounted = mount.arg(folder.path()).output();
        let mounted = mounted.is_ok_and(|output| output.status.success());
        mounted.then_some(Self(folder))
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.filler()).expect("the disk is ours");
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    }

    fn empty(&self) {
        std::fs::remove_file(self.filler()).expect("it was filled");
    }

    fn filler(&self) -> std::path::PathBuf {
        self.0.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmount = |path: &Path| Command::new("umount").arg("-l").arg(path).status();
        // What stays is a folder in memory.
        let _ = unmount(self.0.path());
    }
}

fn bytes(size: usize) -> prost_types::Any {
    prost_types::Any {
        type_url: "type.googleapis.com/google.protobuf.BytesValue".to_owned(),
        value: vec![7; size],
    }
}

async fn exists(client: &mut SchedulerClient<Channel>, name: &str) -> bool {
    let ask = wire::GetJobRequest {
        name: name.to_owned(),
        metadata: Some(app("app")),
    };
    match client.get_job(ask).await {
        Ok(_) => true,
        Err(status) if status.code() == Code::NotFound => false,
        Err(status) => panic!("{status:?}"),
    }
}

/// Registers large jobs until one is refused, and says how many were not.
async fn register_until_full(client: &mut SchedulerClient<Channel>) -> usize {
    for number in 0..10_000 {
        let mut request = once("app", &format!("large-{number}"), "1h");
        request.job.as_mut().expect("it has a job").data = Some(bytes(20_000));
        if let Err(status) = client.schedule_job(request).await {
            assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
            assert!(status.message().contains("no space left"), "{status:?}");
            return number;
        }
    }
    panic!("the disk takes everything");
}

#[tokio::test]
async fn a_full_disk_refuses_jobs_and_loses_none() {
    let Some(disk) = SmallDisk::new(24) else {
        return;
    };
    let builder = || Scheduler::builder().data(&disk.0);
    let scheduler = builder().start().await;
    let mut client = scheduler.client();
    for number in 0..50 {
        let kept = once("app", &format!("kept-{number}"), "1h");
        client.schedule_job(kept).await.unwrap();
    }
    let mut every = once("ticking", "every", "0s");
    every.metadata = Some(app("ticking"));
    every.job.as_mut().unwrap().schedule = Some("@every 1s".to_owned());
    client.schedule_job(every).await.unwrap();
    let mut ticks = Watcher::open(&mut client, "ticking").await.unwrap();
    for _ in 0..2 {
        ticks.take().await;
    }

    disk.fill();
    let large = register_until_full(&mut client).await;
    assert!(exists(&mut client, "kept-0").await);
    let delete = wire::DeleteJobRequest {
        name: "kept-0".to_owned(),
        metadata: Some(app("app")),
    };
    client.delete_job(delete).await.unwrap();
    assert!(!exists(&mut client, "kept-0").await);
    for _ in 0..3 {
        ticks.take().await;
    }

    // It goes on by itself once there is room.
    disk.empty();
    wait::eventually("a job to be taken again", wait::DEADLINE, || {
        let (mut client, request) = (scheduler.client(), once("app", "later", "1h"));
        async move { client.schedule_job(request).await.is_ok() }
    })
    .await;
    scheduler.kill().await;
    let scheduler = builder().start().await;
    let mut client = scheduler.client();
    let kept = (1..50).map(|number| format!("kept-{number}"));
    let large = (0..large).map(|number| format!("large-{number}"));
    for name in kept.chain(large).chain(["later".to_owned()]) {
        assert!(exists(&mut client, &name).await, "{name} is lost");
    }
    assert!(!exists(&mut client, "kept-0").await);
    scheduler.stop().await;
}

const STREAMS: usize = 3;
const CALLERS: usize = 8;
const ROUNDS: usize = 3;
/// Jobs that are registered in each round at least.
const JOBS: usize = 400;

/// Within which a job fires that was due while the scheduler was away.
const BOUND: Duration = Duration::from_secs(10);
