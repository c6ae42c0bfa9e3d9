//! Workflows that have something done by another app, and what that app's policies require to have happened before.

use e2e::{
    Daprd, Placement, Scheduler, Sentry, wait,
    worker::{self, HistoryPropagationScope, Outcome, Place, Skills, TaskHub, Worker, Workflow},
};
use futures::{FutureExt, future::LocalBoxFuture};
use proto::durabletask::{GetInstanceHistoryRequest, HistoryEvent, history_event::EventType};
use tempfile::TempDir;

use crate::{
    resources::{component, configuration},
    workflow::{ask, start},
};

/// Two apps, a shop and its bank, with all that they need.
struct Ground {
    sentry: Sentry,
    placement: Placement,
    scheduler: Scheduler,
    folder: TempDir,
    signing: bool,
}

impl Ground {
    async fn new(signing: bool) -> Self {
        let sentry = Sentry::start().await;
        let placement = Placement::builder().sentry(&sentry).start();
        let scheduler = Scheduler::builder().sentry(&sentry).start();
        let (placement, scheduler) = tokio::join!(placement, scheduler);
        Self {
            sentry,
            placement,
            scheduler,
            folder: tempfile::tempdir().expect("a temporary folder"),
            signing,
        }
    }

    async fn daprd(&self, app_id: &str, policy: &str) -> Daprd {
        let file = self.folder.path().join("state.db");
        let store = [
            ("connectionString", &*file.display().to_string()),
            ("actorStateStore", "true"),
        ];
        let feature = format!(
            "  features:\n  - name: WorkflowHistorySigning\n    enabled: {}",
            self.signing
        );
        Daprd::builder(app_id)
            .resources(&component("store", "state.sqlite", &store))
            .resources(policy)
            .config(&configuration(&feature))
            .sentry(&self.sentry)
            .placement(&self.placement)
            .flag("scheduler-host-address", &self.scheduler.address())
            .start()
            .await
    }
}

/// What the bank asks of the shop: an activity wants a check before, a child a check and an approval after it.
const POLICY: &str = "
apiVersion: dapr.io/v1alpha1
kind: WorkflowAccessPolicy
metadata:
  name: bank
spec:
  rules:
  - callers:
    - appID: shop
    activities:
    - name: pay
      requires:
      - {eventType: activity.completed, name: check, appID: shop}
    - name: quote*
    workflows:
    - name: transfer
      operations: [schedule]
      requires:
      - {eventType: activity.completed, name: check, appID: shop}
      - {eventType: event.raised, name: approve, appID: shop}
scopes: [bank]
";

/// Does what its input says, word for word. Of `activity@scope` and `child!scope` the bank does the former two, showing that much;
/// behind `below!scope` a child of the shop's own goes on.
fn steps(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move {
        let input = workflow.input();
        let mut outcome = String::new();
        let mut words = input.split(' ');
        while let Some(word) = words.next() {
            if word == "approve" {
                workflow.event(word).await;
            } else if let Some((name, shows)) = word.split_once('@') {
                outcome = workflow.activity_at(bank(shows), name, "1").await?;
            } else if let Some(("below", shows)) = word.split_once('!') {
                let place = Place {
                    app_id: "",
                    ..bank(shows)
                };
                let rest: Vec<&str> = words.collect();
                return workflow.child_at(place, "steps", "", &rest.join(" ")).await;
            } else if let Some((name, shows)) = word.split_once('!') {
                outcome = workflow.child_at(bank(shows), name, "", "1").await?;
            } else {
                outcome = workflow.activity(word, "1").await?;
            }
        }
        Ok(outcome)
    }
    .boxed_local()
}

fn bank(shows: &str) -> Place<'static> {
    let shows = match shows {
        "own" => HistoryPropagationScope::OwnHistory,
        "lineage" => HistoryPropagationScope::Lineage,
        _ => HistoryPropagationScope::None,
    };
    Place {
        app_id: "bank",
        shows,
    }
}

fn transfer(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move { workflow.activity("pay", &workflow.input()).await }.boxed_local()
}

fn shop() -> Skills {
    Skills::default()
        .workflow("steps", steps)
        .activity("check", |_| async { Ok("checked".to_owned()) })
}

fn banker() -> Skills {
    Skills::default()
        .workflow("transfer", transfer)
        .activity("pay", |amount: String| async move {
            Ok(format!("paid {amount}"))
        })
        .activity("quote", |_| async { Ok("a quote".to_owned()) })
        .activity("open", |_| async { Ok("opened".to_owned()) })
}

/// Begins the steps and approves where they ask for it.
async fn done(daprd: &Daprd, id: &str, steps: &str) -> Outcome {
    start(daprd, "steps", id, steps).await;
    if let Some((before, _)) = steps.split_once("approve") {
        // An event that comes early is written down early.
        let checks = before.matches("check").count();
        wait::eventually("what comes before", wait::DEADLINE, || async {
            checked(daprd, id).await == Some(checks)
        })
        .await;
        ask(daprd, id, "raiseEvent/approve", "yes").await;
    }
    worker::ended(daprd, id).await.1
}

/// How many activities are completed by the history of an instance.
async fn checked(daprd: &Daprd, id: &str) -> Option<usize> {
    let request = GetInstanceHistoryRequest {
        instance_id: id.to_owned(),
    };
    let mut hub = TaskHub::new(daprd.channel());
    let history = hub.get_instance_history(request).await.ok()?.into_inner();
    let is_done =
        |event: &&HistoryEvent| matches!(event.event_type, Some(EventType::TaskCompleted(_)));
    Some(history.events.iter().filter(is_done).count())
}

#[tokio::test]
async fn activities_and_children_of_another_app() {
    let ground = Ground::new(false).await;
    let (shop_side, bank_side) = tokio::join!(ground.daprd("shop", ""), ground.daprd("bank", ""));
    let (shop, banker) = (shop(), banker());
    let _shop = Worker::start(&shop_side, &shop).await;
    let _bank = Worker::start(&bank_side, &banker).await;

    let outcome = done(&shop_side, "one", "check pay@none").await;
    assert_eq!(outcome, Ok("paid 1".to_owned()));
    assert_eq!((shop.runs("pay", "1"), banker.runs("pay", "1")), (0, 1));

    let outcome = done(&shop_side, "two", "transfer!none").await;
    assert_eq!(outcome, Ok("paid 1".to_owned()));
    assert_eq!(banker.runs("pay", "1"), 2);

    // What fails there fails here.
    let outcome = done(&shop_side, "three", "nothing@none").await;
    assert_eq!(outcome, Err("no activity is called nothing".to_owned()));
    shop_side.stop().await;
    bank_side.stop().await;
}

#[tokio::test]
async fn an_app_that_is_away_is_waited_for() {
    let ground = Ground::new(false).await;
    let shop_side = ground.daprd("shop", "").await;
    let shop = shop();
    let _shop = Worker::start(&shop_side, &shop).await;
    for (id, steps) in [("one", "check pay@none"), ("two", "check transfer!none")] {
        start(&shop_side, "steps", id, steps).await;
    }
    wait::eventually("the checks", wait::DEADLINE, || async {
        shop.runs("check", "1") == 2
    })
    .await;
    let bank_side = ground.daprd("bank", "").await;
    let banker = banker();
    let _bank = Worker::start(&bank_side, &banker).await;
    for id in ["one", "two"] {
        let (_, outcome) = worker::ended(&shop_side, id).await;
        assert_eq!(outcome, Ok("paid 1".to_owned()), "{id}");
    }
    shop_side.stop().await;
    bank_side.stop().await;
}

/// Steps, and whether the bank's policy allows the last of them where histories are signed.
const ASKED: &[(&str, bool)] = &[
    ("quote@none", true),
    ("open@own", false),
    ("check pay@own", true),
    ("check pay@lineage", true),
    // It has not happened,
    ("pay@own", false),
    // is not shown,
    ("check pay@none", false),
    // or happens only afterwards.
    ("check approve transfer!own", true),
    ("approve check transfer!own", false),
    ("check transfer!own", false),
    // What the parent has done is in its history, which the lineage has and the child's own has not.
    ("check below!lineage pay@lineage", true),
    ("check below!lineage pay@own", false),
    ("check below!none pay@lineage", false),
];

/// What is said of the ones that are not allowed: of `open` that there is no rule, of all others that nothing is proven.
async fn judged(signing: bool) {
    let ground = Ground::new(signing).await;
    let shop_side = ground.daprd("shop", POLICY).await;
    let bank_side = ground.daprd("bank", POLICY).await;
    let (shop, banker) = (shop(), banker());
    let _shop = Worker::start(&shop_side, &shop).await;
    let _bank = Worker::start(&bank_side, &banker).await;
    let asked = ASKED.iter().enumerate().map(|(index, (steps, allowed))| {
        let shop_side = &shop_side;
        async move {
            let outcome = done(shop_side, &format!("of-{index}"), steps).await;
            // Without signatures nothing is proven, and what no rule asks for is as it was.
            let allowed = *allowed && (signing || *steps == "quote@none");
            assert_eq!(outcome.is_ok(), allowed, "{steps}: {outcome:?}");
            if let Err(problem) = outcome {
                assert!(problem.contains("denied"), "{steps}: {problem}");
            }
        }
    });
    futures::future::join_all(asked).await;
    bank_side
        .logged("denied app 'shop' schedule on activity 'open': no rule allows it")
        .await;
    for what in ["activity 'pay'", "workflow 'transfer'"] {
        let unproven = "what the rule requires is not proven to have happened";
        bank_side
            .logged(&format!("denied app 'shop' schedule on {what}: {unproven}"))
            .await;
    }
    assert_eq!(banker.runs("open", "1"), 0);
    let paid = if signing { 4 } else { 0 };
    assert_eq!(banker.runs("pay", "1"), paid);
    shop_side.stop().await;
    bank_side.stop().await;
}

#[tokio::test]
async fn what_a_rule_requires_is_proven_by_signed_histories() {
    judged(true).await;
}

#[tokio::test]
async fn what_is_not_signed_proves_nothing() {
    judged(false).await;
}
