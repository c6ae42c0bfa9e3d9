//! Workflows over real placement, scheduler and SQLite: what they come to, how often activities run, and who goes on with them
//! when a sidecar is killed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

pub use e2e::worker::{ask, start};
use e2e::{
    Daprd, Placement, Scheduler, wait,
    worker::{self, Outcome, Skills, Worker, Workflow, becomes},
};
use futures::{FutureExt, future::LocalBoxFuture};
use tempfile::TempDir;

use crate::resources::component;

/// What workflows need, beside sidecars.
pub struct Ground {
    placement: Placement,
    scheduler: Scheduler,
    folder: TempDir,
}

impl Ground {
    pub async fn new() -> Self {
        let (placement, scheduler) =
            tokio::join!(Placement::builder().start(), Scheduler::builder().start());
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self {
            placement,
            scheduler,
            folder,
        }
    }

    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// A sidecar of an app; all share one store.
    pub fn daprd(&self, app_id: &str) -> e2e::daprd::Builder {
        let file = self.folder.path().join("state.db");
        let store = component(
            "store",
            "state.sqlite",
            &[
                ("connectionString", &file.display().to_string()),
                ("actorStateStore", "true"),
            ],
        );
        Daprd::builder(app_id)
            .placement(&self.placement)
            .flag("scheduler-host-address", &self.scheduler.address())
            .resources(&store)
    }
}

async fn completed(daprd: &Daprd, id: &str) -> String {
    let (status, outcome) = worker::ended(daprd, id).await;
    assert_eq!(status, "COMPLETED", "{outcome:?}");
    outcome.expect("it has completed")
}

/// Reserves, charges and ships, one after the other.
fn order(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move {
        let item = workflow.input();
        let reserved = workflow.activity("reserve", &item).await?;
        let charged = workflow.activity("charge", &reserved).await?;
        workflow.activity("ship", &charged).await
    }
    .boxed_local()
}

/// One activity for each number below the input, all at once.
fn fan_out(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move {
        let count: u32 = workflow
            .input()
            .parse()
            .map_err(|_| "no number".to_owned())?;
        let squares = (0..count).map(|number| {
            let (workflow, number) = (workflow.clone(), number.to_string());
            async move { workflow.activity("square", &number).await }
        });
        let squares = futures::future::join_all(squares).await;
        let squares: Result<Vec<String>, String> = squares.into_iter().collect();
        let sum: u32 = squares?
            .iter()
            .filter_map(|it| it.parse::<u32>().ok())
            .sum();
        Ok(sum.to_string())
    }
    .boxed_local()
}

fn nap(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move {
        workflow.sleep(Duration::from_millis(300)).await;
        Ok("rested".to_owned())
    }
    .boxed_local()
}

fn approval(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move {
        let first = workflow.event("approve").await;
        let second = workflow.event("approve").await;
        Ok(format!("{first}+{second}"))
    }
    .boxed_local()
}

fn parent(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move {
        let shipped = workflow.child("order", "the-child", "book").await?;
        let problem = workflow.child("broken", "", "").await;
        Ok(format!("{shipped}, {}", problem.expect_err("it breaks")))
    }
    .boxed_local()
}

fn broken(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move { workflow.activity("break", "it").await }.boxed_local()
}

/// Takes an event in each of three runs.
fn rounds(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move {
        let so_far = workflow.input();
        let said = workflow.event("next").await;
        let now = format!("{so_far}{said}");
        if now.len() < 3 {
            return workflow.again(&now).await;
        }
        Ok(now)
    }
    .boxed_local()
}

fn forever(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move {
        workflow.child("approval", "the-waiting-child", "").await?;
        Ok(String::new())
    }
    .boxed_local()
}

/// What the workers of these tests can do.
fn skills() -> Skills {
    let tell =
        |what: &'static str| move |input: String| async move { Ok(format!("{what} {input}")) };
    Skills::default()
        .workflow("order", order)
        .workflow("fan out", fan_out)
        .workflow("nap", nap)
        .workflow("approval", approval)
        .workflow("parent", parent)
        .workflow("broken", broken)
        .workflow("rounds", rounds)
        .workflow("forever", forever)
        .activity("reserve", tell("reserved"))
        .activity("charge", tell("charged"))
        .activity("ship", tell("shipped"))
        .activity("square", |input: String| async move {
            let number: u32 = input.parse().map_err(|_| "no number".to_owned())?;
            Ok((number * number).to_string())
        })
        .activity("break", |input: String| async move {
            Err(format!("{input} broke"))
        })
}

#[tokio::test]
async fn workflows_come_to_what_their_functions_say() {
    let ground = Ground::new().await;
    let daprd = ground.daprd("shop").start().await;
    let skills = skills();
    let _worker = Worker::start(&daprd, &skills).await;

    start(&daprd, "order", "o1", "book").await;
    assert_eq!(
        completed(&daprd, "o1").await,
        "shipped charged reserved book"
    );
    for (activity, input) in [
        ("reserve", "book"),
        ("charge", "reserved book"),
        ("ship", "charged reserved book"),
    ] {
        assert_eq!(skills.runs(activity, input), 1, "{activity}");
    }

    start(&daprd, "fan%20out", "f1", "20").await;
    assert_eq!(completed(&daprd, "f1").await, "2470");
    assert!((0..20).all(|number| skills.runs("square", &number.to_string()) == 1));

    start(&daprd, "nap", "n1", "").await;
    assert_eq!(completed(&daprd, "n1").await, "rested");

    start(&daprd, "parent", "p1", "").await;
    let outcome = completed(&daprd, "p1").await;
    assert!(
        outcome.starts_with("shipped charged reserved book, "),
        "{outcome}"
    );
    assert!(outcome.contains("it broke"), "{outcome}");
    assert_eq!(
        completed(&daprd, "the-child").await,
        "shipped charged reserved book"
    );

    start(&daprd, "broken", "b1", "").await;
    let (status, outcome) = worker::ended(&daprd, "b1").await;
    assert_eq!(
        (status.as_str(), outcome),
        ("FAILED", Err("it broke".to_owned()))
    );
    let metrics = daprd.metrics().get("/metrics").await.text();
    for by in ["method", "reminder"] {
        let label = format!("operation=\"{by}\"");
        let mut waits = metrics.lines().filter(|it| it.contains(WAITS));
        assert!(waits.any(|line| line.contains(&label)), "{by}: {metrics}");
    }
    daprd.stop().await;
}

#[tokio::test]
async fn events_come_in_order_and_go_along_with_a_new_run() {
    let ground = Ground::new().await;
    let daprd = ground.daprd("shop").start().await;
    let _worker = Worker::start(&daprd, &skills()).await;

    start(&daprd, "approval", "a1", "").await;
    ask(&daprd, "a1", "raiseEvent/approve", "one").await;
    ask(&daprd, "a1", "pause", "").await;
    becomes(&daprd, "a1", "SUSPENDED").await;
    ask(&daprd, "a1", "raiseEvent/approve", "two").await;
    ask(&daprd, "a1", "resume", "").await;
    assert_eq!(completed(&daprd, "a1").await, "one+two");

    start(&daprd, "rounds", "r1", "").await;
    for said in ["a", "b", "c"] {
        ask(&daprd, "r1", "raiseEvent/next", said).await;
    }
    assert_eq!(completed(&daprd, "r1").await, "abc");
    daprd.stop().await;
}

#[tokio::test]
async fn what_is_terminated_takes_its_children_along_and_what_is_purged_is_gone() {
    let ground = Ground::new().await;
    let daprd = ground.daprd("shop").start().await;
    let _worker = Worker::start(&daprd, &skills()).await;

    start(&daprd, "forever", "w1", "").await;
    becomes(&daprd, "the-waiting-child", "RUNNING").await;
    let purge = |id: &'static str| {
        let path = format!("/v1.0/workflows/dapr/{id}/purge");
        let request = daprd.http().request(http::Method::POST, &path);
        request.send()
    };
    let refused = purge("w1").await;
    refused.expect_error(500, "ERR_PURGE_WORKFLOW");
    ask(&daprd, "w1", "terminate", "").await;
    for id in ["w1", "the-waiting-child"] {
        assert_eq!(worker::ended(&daprd, id).await.0, "TERMINATED", "{id}");
    }
    purge("w1").await.expect_status(202);
    for id in ["w1", "the-waiting-child"] {
        let path = format!("/v1.0/workflows/dapr/{id}");
        let reply = daprd.http().get(&path).await;
        reply.expect_error(404, "ERR_INSTANCE_ID_NOT_FOUND");
    }
    daprd.stop().await;
}

/// Two sidecars of one app. The one that hosts an instance is killed while an activity is at its worker.
#[tokio::test]
async fn another_sidecar_goes_on_where_one_was_killed() {
    const ORDERS: usize = 12;
    let ground = Ground::new().await;
    let (reached, go_on) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let (counter, gate) = (Arc::clone(&reached), Arc::clone(&go_on));
    let skills = skills().activity("charge", move |input: String| {
        let (counter, gate) = (Arc::clone(&counter), Arc::clone(&gate));
        async move {
            counter.fetch_add(1, Ordering::SeqCst);
            wait::eventually("the test to go on", wait::DEADLINE * 3, || async {
                gate.load(Ordering::SeqCst)
            })
            .await;
            Ok(format!("charged {input}"))
        }
    });
    let (one, two) = tokio::join!(ground.daprd("shop").start(), ground.daprd("shop").start());
    let first = Worker::start(&one, &skills).await;
    let _second = Worker::start(&two, &skills).await;
    let id = |number: usize| format!("order-{number}");
    for number in 0..ORDERS {
        start(&two, "order", &id(number), &number.to_string()).await;
    }
    wait::eventually("all orders to be charged", wait::DEADLINE, || async {
        reached.load(Ordering::SeqCst) >= ORDERS
    })
    .await;
    one.kill().await;
    drop(first);
    go_on.store(true, Ordering::SeqCst);
    let mut again = 0;
    for number in 0..ORDERS {
        let outcome = completed(&two, &id(number)).await;
        assert_eq!(outcome, format!("shipped charged reserved {number}"));
        assert_eq!(skills.runs("reserve", &number.to_string()), 1, "{number}");
        let charged = skills.runs("charge", &format!("reserved {number}"));
        assert!((1..=2).contains(&charged), "{number}: {charged}");
        again += charged - 1;
    }
    assert!(again > 0, "nothing was at the sidecar that was killed");
    two.stop().await;
}

/// How long whoever works on an instance has waited for others.
const WAITS: &str = "dapr_runtime_workflow_lock_wait_count";
