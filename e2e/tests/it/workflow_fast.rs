//! Workflows on the fast path (the feature `WorkflowsFastPath`): one reminder for each, whatever it does, and nothing lost with a
//! sidecar.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use e2e::{
    Daprd, scheduler, wait,
    worker::{self, Outcome, Skills, Worker, Workflow},
};
use futures::{FutureExt, future::LocalBoxFuture};

use crate::workflow::{Ground, ask, start};

const CONFIGURATION: &str = "
apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata: {name: fast}
spec: {features: [{name: WorkflowsFastPath, enabled: true}]}
";

/// Packs, waits for a word, and ships.
fn parcel(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move {
        let packed = workflow.activity("pack", &workflow.input()).await?;
        let word = workflow.event("go").await;
        workflow
            .activity("ship", &format!("{packed}, {word}"))
            .await
    }
    .boxed_local()
}

fn skills() -> Skills {
    let tell =
        |what: &'static str| move |input: String| async move { Ok(format!("{what} {input}")) };
    Skills::default()
        .workflow("parcel", parcel)
        .activity("pack", tell("packed"))
        .activity("ship", tell("shipped"))
}

async fn daprd(ground: &Ground) -> Daprd {
    let builder = ground.daprd("shop").config(CONFIGURATION);
    builder
        .env("DAPR_WORKFLOW_JANITOR_PERIOD", "1s")
        .start()
        .await
}

/// Waits until the scheduler has these reminders, by the ends of their keys.
async fn reminders(ground: &Ground, ends: &[&str]) {
    let what = format!("reminders {ends:?}");
    wait::eventually(&what, wait::DEADLINE, || async {
        let keys = scheduler::keys(ground.scheduler(), "dapr/jobs").await;
        keys.len() == ends.len() && keys.iter().zip(ends).all(|(key, end)| key.ends_with(end))
    })
    .await;
}

async fn count(daprd: &Daprd, metric: &str, status: &str) -> f64 {
    let text = daprd.metrics().get("/metrics").await.text();
    let label = format!("status=\"{status}\"");
    let lines = text.lines().filter(|line| line.starts_with(metric));
    let values = lines.filter(|line| line.contains(&label));
    let values = values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

#[tokio::test]
async fn a_workflow_has_one_reminder_whatever_it_does() {
    let ground = Ground::new().await;
    let daprd = daprd(&ground).await;
    let skills = skills();
    let _worker = Worker::start(&daprd, &skills).await;
    start(&daprd, "parcel", "p1", "book").await;
    wait::eventually("the book to be packed", wait::DEADLINE, || async {
        skills.runs("pack", "book") == 1
    })
    .await;
    reminders(&ground, &["||p1||new-event-janitor"]).await;
    ask(&daprd, "p1", "raiseEvent/go", "now").await;
    let (status, outcome) = worker::ended(&daprd, "p1").await;
    let outcome = outcome.expect("it has completed");
    assert_eq!(
        (status.as_str(), outcome.as_str()),
        ("COMPLETED", "shipped packed book, now")
    );
    reminders(&ground, &[]).await;
    let woken = count(&daprd, "dapr_runtime_workflow_local_wake_count", "success").await;
    assert!(woken >= 3.0, "{woken}");
    let ran = count(
        &daprd,
        "dapr_runtime_workflow_local_activity_count",
        "success",
    )
    .await;
    assert!(ran >= 2.0, "{ran}");
    daprd.stop().await;
}

#[tokio::test]
async fn the_janitor_finds_what_a_sidecar_has_left_behind() {
    let ground = Ground::new().await;
    let one = daprd(&ground).await;
    let reached = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&reached);
    let stuck = skills().activity("pack", move |_: String| {
        counter.fetch_add(1, Ordering::SeqCst);
        async move {
            std::future::pending::<()>().await;
            Ok(String::new())
        }
    });
    let first = Worker::start(&one, &stuck).await;
    start(&one, "parcel", "p1", "book").await;
    wait::eventually("the book to be packed", wait::DEADLINE, || async {
        reached.load(Ordering::SeqCst) == 1
    })
    .await;
    // That it is at a worker is known to this sidecar alone.
    one.kill().await;
    drop(first);
    let two = daprd(&ground).await;
    let skills = skills();
    let _second = Worker::start(&two, &skills).await;
    wait::eventually("the book to be packed again", wait::DEADLINE, || async {
        skills.runs("pack", "book") == 1
    })
    .await;
    ask(&two, "p1", "raiseEvent/go", "now").await;
    let (status, outcome) = worker::ended(&two, "p1").await;
    let outcome = outcome.expect("it has completed");
    assert_eq!(
        (status.as_str(), outcome.as_str()),
        ("COMPLETED", "shipped packed book, now")
    );
    let metric = "dapr_runtime_workflow_local_activity_count";
    assert!(count(&two, metric, "janitor_redispatched").await >= 1.0);
    reminders(&ground, &[]).await;
    two.stop().await;
}

/// Each tells of its own; none is left.
#[tokio::test]
async fn many_at_once_leave_nothing_at_the_scheduler() {
    const PARCELS: usize = 20;
    let ground = Ground::new().await;
    let daprd = daprd(&ground).await;
    let _worker = Worker::start(&daprd, &skills()).await;
    let id = |number: usize| format!("p{number}");
    for number in 0..PARCELS {
        start(&daprd, "parcel", &id(number), &number.to_string()).await;
        ask(&daprd, &id(number), "raiseEvent/go", "now").await;
    }
    for number in 0..PARCELS {
        let (status, outcome) = worker::ended(&daprd, &id(number)).await;
        assert_eq!(status, "COMPLETED", "{outcome:?}");
    }
    reminders(&ground, &[]).await;
    daprd.stop().await;
}
