//! Instances in every state that they may wait in, while their sidecar is swapped for one of the other build, and swapped back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use e2e::{
    Daprd, Placement, Scheduler,
    process::Build,
    redis::Redis,
    resources::component,
    wait,
    worker::{self, Outcome, Skills, Worker, Workflow, ask, becomes, start},
};
use futures::{FutureExt, future::LocalBoxFuture};
use serde_json::Value;

/// Where instances are kept.
#[derive(Clone, Copy)]
enum Store {
    Sqlite,
    Redis,
}

/// What stays when the sidecar is swapped.
struct Ground {
    placement: Placement,
    scheduler: Scheduler,
    redis: Redis,
    folder: tempfile::TempDir,
    store: Store,
}

impl Ground {
    async fn new(store: Store) -> Self {
        let (placement, scheduler, redis) = tokio::join!(
            Placement::builder().start(),
            Scheduler::builder().start(),
            Redis::start()
        );
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self {
            placement,
            scheduler,
            redis,
            folder,
            store,
        }
    }

    async fn daprd(&self, build: Build) -> Daprd {
        let (kind, place) = match self.store {
            Store::Sqlite => {
                let file = self.folder.path().join("state.db");
                let place = ("connectionString", file.display().to_string());
                ("state.sqlite", place)
            }
            Store::Redis => ("state.redis", ("redisHost", self.redis.address())),
        };
        let metadata = [(place.0, place.1.as_str()), ("actorStateStore", "true")];
        Daprd::builder("shop")
            .build(build)
            .placement(&self.placement)
            .flag("scheduler-host-address", &self.scheduler.address())
            .resources(&component("store", kind, &metadata))
            .start()
            .await
    }
}

/// Says what it is given, after the time that it is given.
fn nap(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move {
        let before = workflow.activity("note", "before").await?;
        workflow.sleep(Duration::from_secs(4)).await;
        let after = workflow.activity("note", "after").await?;
        Ok(format!("{before}, {after}"))
    }
    .boxed_local()
}

/// Two events of one name, and a third of another.
fn approval(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move {
        let first = workflow.event("approve").await;
        let noted = workflow.activity("note", &first).await?;
        let second = workflow.event("approve").await;
        let last = workflow.event("close").await;
        Ok(format!("{noted}, {second}, {last}"))
    }
    .boxed_local()
}

/// A slow activity beside a quick one.
fn work(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move {
        let both = (
            workflow.activity("note", "quick"),
            workflow.activity("slow", "task"),
        );
        let (quick, slow) = futures::future::join(both.0, both.1).await;
        Ok(format!("{}, {}", quick?, slow?))
    }
    .boxed_local()
}

fn parent(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move {
        let child = workflow.child("approval", "the-child", "").await?;
        Ok(format!("of the child: {child}"))
    }
    .boxed_local()
}

/// Begins anew with each event, and ends with the third.
fn rounds(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move {
        let so_far = workflow.input().trim_matches('"').to_owned();
        let heard = so_far + workflow.event("next").await.trim_matches('"');
        match heard.len() {
            3.. => Ok(heard),
            _ => workflow.again(&heard).await,
        }
    }
    .boxed_local()
}

fn broken(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move {
        let _event = workflow.event("go").await;
        workflow.activity("fail", "").await
    }
    .boxed_local()
}

/// What the worker can do. A slow activity waits until `go_on`, and counts who has begun it.
fn skills(begun: &Arc<AtomicUsize>, go_on: &Arc<AtomicBool>) -> Skills {
    let (begun, go_on) = (Arc::clone(begun), Arc::clone(go_on));
    Skills::default()
        .workflow("nap", nap)
        .workflow("approval", approval)
        .workflow("work", work)
        .workflow("parent", parent)
        .workflow("rounds", rounds)
        .workflow("broken", broken)
        .activity("note", |input: String| async move {
            Ok(format!("noted {}", input.trim_matches('"')))
        })
        .activity("fail", |_| async { Err("it broke".to_owned()) })
        .activity("slow", move |input: String| {
            let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
            async move {
                begun.fetch_add(1, Ordering::SeqCst);
                wait::eventually("the test to go on", wait::DEADLINE * 3, || async {
                    go_on.load(Ordering::SeqCst)
                })
                .await;
                Ok(format!("did {input}"))
            }
        })
}

async fn seen(daprd: &Daprd, id: &str) -> Value {
    let path = format!("/v1.0/workflows/dapr/{id}");
    daprd.http().get(&path).await.expect_status(200).json()
}

async fn comes_to(daprd: &Daprd, id: &str, outcome: &str) {
    let (status, came_to) = worker::ended(daprd, id).await;
    assert_eq!(
        (status.as_str(), came_to),
        ("COMPLETED", Ok(outcome.to_owned())),
        "{id}"
    );
}

/// Begins instances on one build, goes on with them on the other, and ends the last of them on the first again.
async fn exchange(first: Build, second: Build, store: Store) {
    let ground = Ground::new(store).await;
    let (begun, go_on) = (Arc::default(), Arc::default());
    let skills = skills(&begun, &go_on);

    let daprd = ground.daprd(first).await;
    let worker = Worker::start(&daprd, &skills).await;
    for (workflow, id) in [
        ("nap", "asleep"),
        ("approval", "waiting"),
        ("approval", "full"),
        ("approval", "held"),
        ("work", "at-work"),
        ("parent", "parent"),
        ("rounds", "rounds"),
        ("broken", "broken"),
        ("approval", "over"),
        ("approval", "stopped"),
    ] {
        start(&daprd, workflow, id, "").await;
    }
    ask(&daprd, "rounds", "raiseEvent/next", "\"a\"").await;
    ask(&daprd, "full", "raiseEvent/close", "\"early\"").await;
    ask(&daprd, "held", "pause", "").await;
    for event in ["approve", "approve", "close"] {
        ask(&daprd, "over", &format!("raiseEvent/{event}"), "\"x\"").await;
    }
    ask(&daprd, "stopped", "terminate", "").await;
    becomes(&daprd, "held", "SUSPENDED").await;
    becomes(&daprd, "the-child", "RUNNING").await;
    becomes(&daprd, "over", "COMPLETED").await;
    becomes(&daprd, "stopped", "TERMINATED").await;
    wait::eventually("the slow activity", wait::DEADLINE, || async {
        begun.load(Ordering::SeqCst) > 0
    })
    .await;
    let over = seen(&daprd, "over").await;
    daprd.stop().await;
    drop(worker);
    go_on.store(true, Ordering::SeqCst);

    let daprd = ground.daprd(second).await;
    let worker = Worker::start(&daprd, &skills).await;
    assert_eq!(seen(&daprd, "over").await, over);
    comes_to(&daprd, "asleep", "noted before, noted after").await;
    comes_to(&daprd, "at-work", "noted quick, did task").await;
    ask(&daprd, "full", "raiseEvent/approve", "\"one\"").await;
    ask(&daprd, "full", "raiseEvent/approve", "\"two\"").await;
    comes_to(&daprd, "full", "noted one, \"two\", \"early\"").await;
    ask(&daprd, "held", "raiseEvent/approve", "\"while held\"").await;
    becomes(&daprd, "held", "SUSPENDED").await;
    ask(&daprd, "the-child", "raiseEvent/approve", "\"kid\"").await;
    ask(&daprd, "rounds", "raiseEvent/next", "\"b\"").await;
    ask(&daprd, "stopped", "purge", "").await;
    ask(&daprd, "broken", "raiseEvent/go", "").await;
    let (status, came_to) = worker::ended(&daprd, "broken").await;
    assert_eq!(status, "FAILED");
    assert!(came_to.is_err_and(|it| it.contains("it broke")));
    start(&daprd, "rounds", "later", "").await;
    ask(&daprd, "later", "raiseEvent/next", "\"x\"").await;
    let seen_broken = seen(&daprd, "broken").await;
    daprd.stop().await;
    drop(worker);

    let daprd = ground.daprd(first).await;
    let _worker = Worker::start(&daprd, &skills).await;
    assert_eq!(seen(&daprd, "broken").await, seen_broken);
    ask(&daprd, "held", "resume", "").await;
    for (id, first) in [("held", None), ("waiting", Some("here"))] {
        if let Some(first) = first {
            ask(&daprd, id, "raiseEvent/approve", &format!("{first:?}")).await;
        }
        ask(&daprd, id, "raiseEvent/approve", "\"then\"").await;
        ask(&daprd, id, "raiseEvent/close", "\"bye\"").await;
        let first = first.unwrap_or("while held");
        comes_to(&daprd, id, &format!("noted {first}, \"then\", \"bye\"")).await;
    }
    ask(&daprd, "the-child", "raiseEvent/approve", "\"sis\"").await;
    ask(&daprd, "the-child", "raiseEvent/close", "\"bye\"").await;
    comes_to(
        &daprd,
        "parent",
        "of the child: noted kid, \"sis\", \"bye\"",
    )
    .await;
    for id in ["rounds", "later"] {
        ask(&daprd, id, "raiseEvent/next", "\"c\"").await;
    }
    comes_to(&daprd, "rounds", "abc").await;
    ask(&daprd, "later", "raiseEvent/next", "\"z\"").await;
    comes_to(&daprd, "later", "xcz").await;
    let gone = daprd.http().get("/v1.0/workflows/dapr/stopped").await;
    gone.expect_error(404, "ERR_INSTANCE_ID_NOT_FOUND");
    daprd.stop().await;
}

#[tokio::test]
async fn begun_on_the_other_build_in_sqlite() {
    exchange(Build::Other, Build::Ours, Store::Sqlite).await;
}

#[tokio::test]
async fn begun_on_the_other_build_in_redis() {
    exchange(Build::Other, Build::Ours, Store::Redis).await;
}

#[tokio::test]
async fn begun_on_ours_in_sqlite() {
    exchange(Build::Ours, Build::Other, Store::Sqlite).await;
}

#[tokio::test]
async fn begun_on_ours_in_redis() {
    exchange(Build::Ours, Build::Other, Store::Redis).await;
}
