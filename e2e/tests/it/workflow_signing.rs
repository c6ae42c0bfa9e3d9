//! Workflows whose histories are signed: they go on across restarts, and one whose rows somebody else has changed ends, alone.

use std::path::PathBuf;

use e2e::{
    Daprd, Placement, Scheduler, Sentry, wait,
    worker::{self, Outcome, Skills, Worker, Workflow},
};
use futures::{FutureExt, future::LocalBoxFuture};
use tempfile::TempDir;

use crate::{
    resources::{component, configuration},
    workflow::{ask, start},
};

const SIGNING: &str = "  features:\n  - name: WorkflowHistorySigning\n    enabled: true";

/// What signed workflows need, beside sidecars.
struct Ground {
    sentry: Sentry,
    placement: Placement,
    scheduler: Scheduler,
    folder: TempDir,
}

impl Ground {
    async fn new() -> Self {
        let sentry = Sentry::start().await;
        let placement = Placement::builder().sentry(&sentry).start();
        let scheduler = Scheduler::builder().sentry(&sentry).start();
        let (placement, scheduler) = tokio::join!(placement, scheduler);
        Self {
            sentry,
            placement,
            scheduler,
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("state.db")
    }

    async fn daprd(&self, app_id: &str) -> Daprd {
        let builder = with_store(Daprd::builder(app_id), &self.file());
        builder
            .sentry(&self.sentry)
            .placement(&self.placement)
            .flag("scheduler-host-address", &self.scheduler.address())
            .start()
            .await
    }

    /// Runs a statement on the store behind the sidecars' backs: how many rows it changed.
    fn change(&self, statement: &str) -> usize {
        let store = rusqlite::Connection::open(self.file()).expect("a store");
        store.execute(statement, []).expect("a statement")
    }

    fn count(&self, pattern: &str) -> i64 {
        let store = rusqlite::Connection::open(self.file()).expect("a store");
        let count = "SELECT count(*) FROM state WHERE key LIKE ?1";
        store
            .query_row(count, [pattern], |row| row.get(0))
            .expect("a count")
    }
}

fn with_store(builder: e2e::daprd::Builder, file: &std::path::Path) -> e2e::daprd::Builder {
    let store = component(
        "store",
        "state.sqlite",
        &[
            ("connectionString", &file.display().to_string()),
            ("actorStateStore", "true"),
        ],
    );
    builder.resources(&store).config(&configuration(SIGNING))
}

/// An activity, an event, and a child in between.
fn order(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move {
        let charged = workflow.activity("charge", &workflow.input()).await?;
        let approved = workflow.event("approve").await;
        let shipped = workflow.child("ship", "", &charged).await?;
        Ok(format!("{shipped} {approved}"))
    }
    .boxed_local()
}

fn ship(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move { Ok(format!("shipped {}", workflow.input())) }.boxed_local()
}

fn skills() -> Skills {
    Skills::default()
        .workflow("order", order)
        .workflow("ship", ship)
        .activity("charge", |input: String| async move {
            Ok(format!("charged {input}"))
        })
}

#[tokio::test]
async fn a_workflow_whose_history_was_changed_ends_and_others_go_on() {
    let ground = Ground::new().await;
    let daprd = ground.daprd("shop").await;
    let skills = skills();
    let worker = Worker::start(&daprd, &skills).await;
    for id in ["good", "bad", "worse"] {
        start(&daprd, "order", id, "book").await;
        let signed = format!("%||{id}||signature-000001");
        wait::eventually("a second turn", wait::DEADLINE, || async {
            ground.count(&signed) == 1
        })
        .await;
    }
    daprd.stop().await;
    drop(worker);
    let changed = ground.change(
        "UPDATE state SET value = (SELECT value FROM state WHERE key LIKE '%||bad||history-000002')
         WHERE key LIKE '%||bad||history-000001'",
    );
    let deleted = ground.change("DELETE FROM state WHERE key LIKE '%||worse||sigcert-000000'");
    assert_eq!((changed, deleted), (1, 1));

    let daprd = ground.daprd("shop").await;
    let _worker = Worker::start(&daprd, &skills).await;
    for id in ["good", "bad", "worse"] {
        ask(&daprd, id, "raiseEvent/approve", "yes").await;
    }
    let good = worker::ended(&daprd, "good").await;
    let shipped = "shipped charged book yes".to_owned();
    assert_eq!(good, ("COMPLETED".to_owned(), Ok(shipped)));
    for id in ["bad", "worse"] {
        let (status, outcome) = worker::ended(&daprd, id).await;
        assert_eq!(status, "FAILED", "{id}");
        let reason = outcome.expect_err("a reason");
        assert!(
            reason.contains("signature verification failed"),
            "{id}: {reason}"
        );
    }
    // Certificates of two lives, and one attestation of each of them beside it.
    assert_eq!(ground.count("%||good||sigcert-%"), 2);
    assert_eq!(ground.count("%||good||ext-sigcert-%"), 2);
    for id in ["good", "worse"] {
        let path = format!("/v1.0/workflows/dapr/{id}/purge");
        let request = daprd.http().request(http::Method::POST, &path);
        request.send().await.expect_status(202);
        assert_eq!(ground.count(&format!("%||{id}||%")), 0, "rows of {id}");
    }
    daprd.stop().await;
}

#[tokio::test]
async fn without_mtls_nothing_is_signed_and_the_sidecar_says_so() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("state.db");
    let mut daprd = with_store(Daprd::builder("shop"), &file).spawn();
    assert_eq!(daprd.process().exit_code(wait::DEADLINE).await, 1);
    let log = daprd.log();
    assert!(log.contains("mTLS is not configured"), "{log}");
}
