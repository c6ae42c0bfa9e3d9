//! Replicas of the scheduler that share an etcd: who drives what when one dies, pauses or comes back, and when the etcd does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use e2e::process::{self, Process, Signal};
use e2e::scheduler::{Scheduler, Watcher, app, once};
use e2e::{Etcd, wait};
use proto::cron::{Counter, Job, Leadership, StoredJob, stored_job::Begin};
use proto::scheduler::v1 as wire;
use proto::scheduler::v1::scheduler_client::SchedulerClient;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::transport::Channel;

/// A lease has to end first.
const TAKEOVER: Duration = Duration::from_secs(60);

/// Waits until a replica says that there are so many; their addresses.
async fn replicas(scheduler: &Scheduler, count: usize) -> BTreeSet<String> {
    let hosts = async {
        let mut client = scheduler.client();
        let stream = client.watch_hosts(wire::WatchHostsRequest {}).await;
        let mut stream = stream.expect("it tells").into_inner();
        loop {
            let told = stream.message().await.expect("the stream holds");
            let hosts = told.expect("the stream is open").hosts;
            if hosts.len() == count {
                return hosts.into_iter().map(|host| host.address).collect();
            }
        }
    };
    wait::within(&format!("{count} replicas"), TAKEOVER, hosts).await
}

/// Takes what fires at several replicas: the number of the replica, and the name of the job.
struct Fired {
    names: mpsc::UnboundedReceiver<(usize, String)>,
    _takers: JoinSet<()>,
}

impl Fired {
    fn of(replicas: &[&Scheduler]) -> Self {
        let (sender, names) = mpsc::unbounded_channel();
        let mut takers = JoinSet::new();
        for (number, replica) in replicas.iter().enumerate() {
            let (mut client, sender) = (replica.client(), sender.clone());
            takers.spawn(async move {
                let watcher = Watcher::open(&mut client, "app").await;
                let watcher = watcher.expect("it takes streams");
                // The test may have ended.
                let tell = |name| drop(sender.send((number, name)));
                watcher.take_all(tell).await;
            });
        }
        Self {
            names,
            _takers: takers,
        }
    }

    /// Waits until so many different jobs have fired, each once; the replicas that fired them.
    async fn each(&mut self, count: usize) -> BTreeSet<usize> {
        let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
        let fired = async {
            while names.len() < count {
                let (number, name) = self.names.recv().await.expect("there are streams");
                numbers.insert(number);
                assert!(names.insert(name.clone()), "{name} fired twice");
            }
        };
        wait::within(&format!("{count} jobs"), TAKEOVER, fired).await;
        numbers
    }
}

async fn schedule(client: &mut SchedulerClient<Channel>, prefix: &str, count: usize, due: &str) {
    for n in 0..count {
        let job = once("app", &format!("{prefix}{n}"), due);
        client.schedule_job(job).await.expect("it is accepted");
    }
}

/// Asks for a job until it is accepted.
async fn until_taken(client: &SchedulerClient<Channel>, name: &str) {
    wait::eventually("a job to be taken", wait::DEADLINE, || {
        let mut client = client.clone();
        async move { client.schedule_job(once("app", name, "0s")).await.is_ok() }
    })
    .await;
}

async fn until_done(etcd: &Etcd) {
    wait::eventually("all jobs to be done", wait::DEADLINE, || async {
        etcd.all("dapr/jobs/").await.is_empty() && etcd.all("dapr/counters/").await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn three_divide_the_jobs_and_two_take_over_from_one_that_dies() {
    let etcd = Etcd::start().await;
    let a = etcd.replica("a").start().await;
    let b = etcd.replica("b").start().await;
    let c = etcd.replica("c").start().await;
    for replica in [&a, &b, &c] {
        let all = [&a, &b, &c].map(|replica| replica.address());
        assert_eq!(replicas(replica, 3).await, BTreeSet::from(all));
    }
    let mut fired = Fired::of(&[&a, &b, &c]);
    let mut client = a.client();
    schedule(&mut client, "all", 60, "0s").await;
    assert_eq!(fired.each(60).await, BTreeSet::from([0, 1, 2]));
    until_done(&etcd).await;

    // What comes due while nobody drives it is made up.
    schedule(&mut client, "late", 60, "2s").await;
    c.kill().await;
    assert_eq!(fired.each(60).await, BTreeSet::from([0, 1]));
    assert_eq!(replicas(&a, 2).await, replicas(&b, 2).await);
    until_done(&etcd).await;

    // One that is told to stop gives its share away at once.
    let stopped = tokio::time::Instant::now();
    b.stop().await;
    replicas(&a, 1).await;
    assert!(stopped.elapsed() < Duration::from_secs(10));
    schedule(&mut client, "one", 10, "0s").await;
    assert_eq!(fired.each(10).await, BTreeSet::from([0]));
    a.stop().await;
    assert_eq!(etcd.all("dapr/").await, []);
}

/// A replica that was paused past its lease finds it lost before it fires what came due meanwhile.
#[tokio::test]
async fn one_that_is_paused_past_its_lease_fires_nothing_of_what_others_have_fired() {
    let etcd = Etcd::start().await;
    let mut a = etcd.replica("a").start().await;
    let b = etcd.replica("b").start().await;
    replicas(&a, 2).await;
    replicas(&b, 2).await;
    let mut fired = Fired::of(&[&a, &b]);
    schedule(&mut b.client(), "job", 40, "3s").await;
    a.process().signal(Signal::Stop).await;
    assert_eq!(fired.each(40).await, BTreeSet::from([1]));
    until_done(&etcd).await;
    a.process().signal(Signal::Continue).await;
    replicas(&a, 2).await;
    replicas(&b, 2).await;
    schedule(&mut b.client(), "next", 40, "0s").await;
    // A job from before would be one too many, or come instead of one of these.
    assert_eq!(fired.each(40).await, BTreeSet::from([0, 1]));
    until_done(&etcd).await;
    a.stop().await;
    b.stop().await;
}

/// What is written while nobody watches, and forgotten by the etcd before somebody does, is read.
#[tokio::test]
async fn nothing_is_missed_when_the_etcd_restarts_and_compacts() {
    let mut etcd = Etcd::start().await;
    let mut scheduler = etcd.replica("a").start().await;
    let mut client = scheduler.client();
    let mut fired = Fired::of(&[&scheduler]);
    schedule(&mut client, "gone", 1, "8s").await;
    schedule(&mut client, "stays", 1, "8s").await;
    let key = |name: &str| format!("dapr/jobs/app||default||app||{name}");
    let template = etcd.all(&key("stays0")).await.remove(0).1;

    scheduler.process().signal(Signal::Stop).await;
    etcd.leave();
    etcd.come_back().await;
    etcd.delete(&key("gone0")).await;
    etcd.put(&key("new0"), template.to_vec()).await;
    etcd.compact().await;
    scheduler.process().signal(Signal::Continue).await;
    let mut names = BTreeSet::new();
    while names.len() < 2 {
        let next = wait::within("both jobs", TAKEOVER, fired.names.recv()).await;
        names.insert(next.expect("there is a stream").1);
    }
    assert_eq!(
        names,
        BTreeSet::from(["new0".to_owned(), "stays0".to_owned()])
    );
    until_done(&etcd).await;

    etcd.leave();
    let late = client.schedule_job(once("app", "refused", "0s")).await;
    assert_eq!(
        late.expect_err("there is no store").code(),
        tonic::Code::Unavailable
    );
    etcd.come_back().await;
    until_taken(&client, "after").await;
    assert_eq!(
        fired.names.recv().await.expect("there is a stream").1,
        "after"
    );
    scheduler.stop().await;
}

/// As after a restore of a backup: its revisions, leases and records are not those that the scheduler knows.
#[tokio::test]
async fn an_etcd_that_begins_anew_is_driven_again() {
    let mut etcd = Etcd::start().await;
    let scheduler = etcd.replica("a").start().await;
    let mut client = scheduler.client();
    let mut fired = Fired::of(&[&scheduler]);
    schedule(&mut client, "gone", 20, "1h").await;
    etcd.leave();
    etcd.come_back_empty().await;
    until_taken(&client, "after").await;
    let next = wait::within("the job", TAKEOVER, fired.names.recv()).await;
    assert_eq!(next.expect("there is a stream").1, "after");
    until_done(&etcd).await;
    scheduler.stop().await;
}

#[tokio::test]
async fn an_etcd_has_tls_and_users() {
    let etcd = Etcd::start().await;
    etcd.protect("user", "secret").await;
    let scheduler = etcd
        .secure_replica("a")
        .arg("--etcd-client-username=user")
        .arg("--etcd-client-password=secret")
        .start()
        .await;
    let mut client = scheduler.client();
    schedule(&mut client, "j", 1, "1h").await;
    let ask = wire::GetJobRequest {
        name: "j0".to_owned(),
        metadata: Some(app("app")),
    };
    assert!(
        client
            .get_job(ask)
            .await
            .expect("it is kept")
            .into_inner()
            .job
            .is_some()
    );
    scheduler.stop().await;
}

/// Keys and values as upstream's scheduler leaves them (contract 8.2).
#[tokio::test]
async fn jobs_of_upstream_go_on_where_they_were() {
    let etcd = Etcd::start().await;
    let seconds = |seconds| prost_types::Timestamp { seconds, nanos: 0 };
    let metadata = prost_types::Any {
        type_url: "type.googleapis.com/dapr.proto.scheduler.v1.JobMetadata".to_owned(),
        value: prost::Message::encode_to_vec(&app("app")),
    };
    let job = StoredJob {
        partition_id: u64::MAX - 1,
        begin: Some(Begin::Start(seconds(1_700_000_000))),
        expiration: None,
        job: Some(Job {
            schedule: Some("@every 10s".to_owned()),
            repeats: Some(5),
            metadata: Some(metadata),
            ..Job::default()
        }),
    };
    let counter = Counter {
        job_partition_id: u64::MAX - 1,
        count: 3,
        last_trigger: Some(seconds(1_700_000_030)),
        attempts: 0,
    };
    let put = async |name: &str| {
        let name = format!("app||default||app||{name}");
        let counted = prost::Message::encode_to_vec(&counter);
        etcd.put(&format!("dapr/counters/{name}"), counted).await;
        let stored = prost::Message::encode_to_vec(&job);
        etcd.put(&format!("dapr/jobs/{name}"), stored).await;
    };
    put("five").await;
    let scheduler = etcd.replica("a").start().await;
    let records = etcd.all("dapr/leadership/").await;
    let record: Leadership = prost::Message::decode(&records[0].1[..]).expect("a record");
    assert_eq!((records.len(), record.total), (1, 1));
    let host = record.replica_data.expect("it says where it is");
    assert_eq!(
        host.type_url,
        "type.googleapis.com/dapr.proto.scheduler.v1.Host"
    );
    let mut watcher = Watcher::open(&mut scheduler.client(), "app")
        .await
        .expect("a stream");
    assert_eq!(
        [watcher.take().await, watcher.take().await],
        ["five", "five"]
    );
    until_done(&etcd).await;
    // Also those that come while it runs.
    put("moved").await;
    assert_eq!(
        [watcher.take().await, watcher.take().await],
        ["moved", "moved"]
    );
    until_done(&etcd).await;
    scheduler.stop().await;
}

/// Runs a subcommand to its end.
async fn run(args: Vec<String>) {
    let options = process::Options {
        program: "scheduler",
        args,
        env: BTreeMap::from([("NAMESPACE".to_owned(), "default".to_owned())]),
        ..process::Options::default()
    };
    let mut process = Process::start(options, process::folder("scheduler"));
    let code = process.exit_code(wait::DEADLINE).await;
    assert_eq!(code, 0, "{}", process.stdout());
}

#[tokio::test]
async fn jobs_move_from_the_store_of_a_scheduler_to_an_etcd_and_back() {
    let (etcd, data) = (
        Etcd::start().await,
        [(); 2].map(|()| process::folder("data")),
    );
    let scheduler = Scheduler::builder().data(&data[0]).start().await;
    schedule(&mut scheduler.client(), "job", 20, "1h").await;
    scheduler.stop().await;
    let embedded = |number: usize| {
        let folder = data[number].path().display();
        vec![
            "--id=one".to_owned(),
            "--etcd-initial-cluster=one=http://127.0.0.1:1".to_owned(),
            format!("--etcd-data-dir={folder}"),
        ]
    };
    let shared = || {
        vec![
            "--etcd-embed=false".to_owned(),
            format!("--etcd-client-endpoints={}", etcd.address()),
        ]
    };
    let file = |name: &str| data[0].path().join(name).display().to_string();
    let command = |store: Vec<String>, command: [&str; 2]| {
        let command = command.map(str::to_owned);
        run(store.into_iter().chain(command).collect())
    };
    command(embedded(0), ["export", &file("there")]).await;
    command(shared(), ["import", &file("there")]).await;
    command(shared(), ["export", &file("back")]).await;
    command(embedded(1), ["import", &file("back")]).await;
    assert_eq!(etcd.all("dapr/jobs/").await.len(), 20);
    let read = |name| std::fs::read_to_string(file(name)).expect("it was written");
    assert_eq!(read("there"), read("back"));
    let scheduler = Scheduler::builder().data(&data[1]).start().await;
    let list = wire::ListJobsRequest {
        metadata: Some(app("app")),
    };
    let jobs = scheduler
        .client()
        .list_jobs(list)
        .await
        .expect("they are there");
    assert_eq!(jobs.into_inner().jobs.len(), 20);
    scheduler.stop().await;
}
