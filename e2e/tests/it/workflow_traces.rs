//! What traces show of workflows: who asked for one, its runs, activities and timers, each below the one that it belongs to.

use std::{collections::HashMap, time::Duration};

use e2e::{
    Daprd, wait,
    worker::{self, Outcome, Skills, Worker, Workflow},
};
use futures::{FutureExt, future::LocalBoxFuture};

use crate::{
    resources::configuration,
    workflow::{Ground, ask, start},
};

const TRACING: &str = "  tracing:\n    samplingRate: \"1\"\n    stdout: true";

/// A span as the log has it.
#[derive(Clone, Debug)]
struct Span {
    name: String,
    trace: String,
    id: String,
    parent: String,
}

/// Reads `[name] Trace: t Span: parent/id Time: ...` out of a line.
fn span(line: &str) -> Option<Span> {
    let (name, rest) = line
        .split_once("msg=\"[")
        .and_then(|(_, rest)| rest.split_once("] Trace: "))?;
    let mut words = rest.split_whitespace();
    let trace = words.next()?.to_owned();
    let (parent, id) = words.nth(1)?.split_once('/')?;
    Some(Span {
        name: name.to_owned(),
        trace,
        id: id.to_owned(),
        parent: parent.to_owned(),
    })
}

/// Spans of workflows that have been said so far.
fn spans(daprd: &Daprd) -> Vec<Span> {
    let log = daprd.log();
    let all = log.lines().filter_map(span);
    all.filter(|span| span.name.contains("||") || span.name == "timer")
        .collect()
}

async fn all(daprd: &Daprd, count: usize) -> Vec<Span> {
    let what = format!("{count} spans");
    wait::eventually(&what, wait::DEADLINE, || async {
        spans(daprd).len() >= count
    })
    .await;
    spans(daprd)
}

fn visit(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move {
        workflow.sleep(Duration::from_millis(100)).await;
        workflow.child("greet", "the-greeting", "you").await
    }
    .boxed_local()
}

fn greet(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move { workflow.activity("say", &workflow.input()).await }.boxed_local()
}

fn twice(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move {
        let input = workflow.input();
        workflow.event("next").await;
        match input.as_str() {
            "" => workflow.again("done").await,
            _ => Ok(input),
        }
    }
    .boxed_local()
}

fn skills() -> Skills {
    Skills::default()
        .workflow("visit", visit)
        .workflow("greet", greet)
        .workflow("twice", twice)
        .activity("say", |input: String| async move {
            Ok(format!("hello {input}"))
        })
}

#[tokio::test]
async fn each_span_stands_below_the_one_that_it_belongs_to() {
    let ground = Ground::new().await;
    let daprd = ground.daprd("shop").config(&configuration(TRACING));
    let daprd = daprd.start().await;
    let _worker = Worker::start(&daprd, &skills()).await;
    start(&daprd, "visit", "v1", "").await;
    assert_eq!(worker::ended(&daprd, "v1").await.0, "COMPLETED");
    let spans = all(&daprd, 5).await;
    assert_eq!(spans.len(), 5, "each is said once: {spans:?}");
    let by_name: HashMap<&str, &Span> = spans.iter().map(|it| (it.name.as_str(), it)).collect();
    for (name, above) in [
        ("orchestration||visit", "create_orchestration||visit"),
        ("timer", "orchestration||visit"),
        ("orchestration||greet", "orchestration||visit"),
        ("activity||say", "orchestration||greet"),
    ] {
        let (span, above) = (by_name[name], by_name[above]);
        assert_eq!(
            (&span.parent, &span.trace),
            (&above.id, &above.trace),
            "{name}: {spans:?}"
        );
    }
    daprd.stop().await;
}

#[tokio::test]
async fn a_workflow_that_begins_anew_has_a_trace_for_each_run() {
    let ground = Ground::new().await;
    let daprd = ground.daprd("shop").config(&configuration(TRACING));
    let daprd = daprd.start().await;
    let _worker = Worker::start(&daprd, &skills()).await;
    start(&daprd, "twice", "t1", "").await;
    ask(&daprd, "t1", "raiseEvent/next", "a").await;
    ask(&daprd, "t1", "raiseEvent/next", "b").await;
    assert_eq!(worker::ended(&daprd, "t1").await.0, "COMPLETED");
    let spans = all(&daprd, 3).await;
    let of = |name: &str| -> Vec<&Span> { spans.iter().filter(|it| it.name == name).collect() };
    let (asked, runs) = (
        of("create_orchestration||twice"),
        of("orchestration||twice"),
    );
    let ([asked], [first, second]) = (&asked[..], &runs[..]) else {
        panic!("one that asks, and two runs: {spans:?}");
    };
    assert_eq!((&first.parent, &first.trace), (&asked.id, &asked.trace));
    assert_ne!(second.trace, first.trace);
    daprd.stop().await;
}
