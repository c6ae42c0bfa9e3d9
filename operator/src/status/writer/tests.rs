//! Reports on their way into a cluster.

use kubernetes_fake::{Fake, Fault, On};
use proto::extensions::operator::v1::component_status_server::ComponentStatus as _;
use proto::extensions::operator::v1::{ComponentReport, ReportRequest};
use tonic::{Code, Request};

use super::super::board::{Board, Sidecar};
use super::super::service::Reports;
use super::*;
use crate::resources::{Informer, Kind, entry::tests::raw};
use kube::runtime::watcher::Event as Watched;

const COMPONENTS: &str = "/apis/dapr.io/v1alpha1/components";

fn cluster(fake: &Fake) -> Cluster {
    Cluster::new(kubernetes::client::over(fake.service()), "")
}

fn with_component() -> Fake {
    let fake = Fake::new();
    let metadata = json!({"name": "store", "namespace": "n", "uid": "u"});
    fake.put(COMPONENTS, json!({"metadata": metadata, "spec": {}}));
    fake
}

fn informer_of(names: &[&str]) -> Informer {
    let informer = Informer::new(Kind::Component);
    informer.apply(Watched::Init);
    for name in names {
        let metadata = json!({"name": name, "namespace": "n"});
        informer.apply(Watched::InitApply(raw(json!({"metadata": metadata}))));
    }
    informer.apply(Watched::InitDone);
    informer
}

fn say(statuses: &Statuses, pod: &str, reason: Option<&str>) {
    let sidecar = Sidecar {
        namespace: "n".to_owned(),
        app_id: "cart".to_owned(),
        pod: pod.to_owned(),
    };
    let said = [("store".to_owned(), reason.map(str::to_owned))];
    let mut state = statuses.shared.lock();
    state
        .board
        .report(sidecar, said.into(), Instant::now())
        .expect("room");
}

fn shown(fake: &Fake) -> Value {
    let component = fake.object(COMPONENTS, "n", "store").expect("a component");
    component["status"].clone()
}

fn events(fake: &Fake) -> usize {
    let seen = fake.seen();
    seen.iter()
        .filter(|seen| seen.method == "POST" && seen.path.ends_with("/events"))
        .count()
}

/// A script beside the leader, in paused time.
async fn beside(fake: &Fake, script: impl AsyncFnOnce(&Statuses)) {
    beside_knowing(fake, Informer::new(Kind::Component), script).await;
}

async fn beside_knowing(fake: &Fake, known: Informer, script: impl AsyncFnOnce(&Statuses)) {
    let (statuses, stop) = (Statuses::new(known), CancellationToken::new());
    let run = run(statuses.clone(), cluster(fake), stop.clone());
    let script = async {
        tokio::task::yield_now().await;
        script(&statuses).await;
        stop.cancel();
    };
    tokio::join!(run, script);
    assert!(statuses.shared.lock().leading.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_sidecars_say_is_shown_in_a_few_writes() {
    let fake = with_component();
    beside(&fake, async |statuses| {
        for pod in 0..100 {
            say(statuses, &pod.to_string(), (pod < 30).then_some("refused"));
        }
        fake.until("the status", |fake| shown(fake)["ready"] == "70/100")
            .await;
        let status = shown(&fake);
        assert_eq!(
            (&status["loaded"], &status["failed"]),
            (&json!(70), &json!(30))
        );
        assert_eq!(
            status["failures"][0],
            json!({"appId": "cart", "pod": "0", "reason": "refused"})
        );
        let patches = |fake: &Fake| fake.seen().iter().filter(|it| it.verb == "patch").count();
        assert!(patches(&fake) <= 2, "{:?}", fake.lines());
        assert_eq!(events(&fake), 1);
        for pod in 0..30 {
            say(statuses, &pod.to_string(), None);
        }
        fake.until("all", |fake| shown(fake)["ready"] == "100/100")
            .await;
        assert_eq!(shown(&fake)["failures"], json!([]));
        assert_eq!(events(&fake), 1, "one a minute");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_does_not_take_those_away_that_it_has_not_heard_of_yet() {
    let fake = with_component();
    beside(&fake, async |statuses| {
        for pod in ["1", "2", "3"] {
            say(statuses, pod, None);
        }
        fake.until("the status", |fake| shown(fake)["ready"] == "3/3")
            .await;
    })
    .await;
    beside(&fake, async |statuses| {
        say(statuses, "1", None);
        tokio::time::sleep(WARM_UP / 2).await;
        assert_eq!(shown(&fake)["ready"], "3/3");
        say(statuses, "2", None);
        tokio::time::sleep(WARM_UP / 2 + PERIOD * 2).await;
        assert_eq!(shown(&fake)["ready"], "2/2", "the third is gone");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_forgets_what_nobody_says_any_more() {
    let fake = with_component();
    let metadata = json!({"name": "unused", "namespace": "n", "uid": "v"});
    fake.put(COMPONENTS, json!({"metadata": metadata, "spec": {}}));
    let informer = informer_of(&["store", "unused"]);
    beside(&fake, async |statuses| {
        say(statuses, "1", None);
        fake.until("the status", |fake| shown(fake)["ready"] == "1/1")
            .await;
    })
    .await;
    beside_knowing(&fake, informer, async |_| {
        tokio::time::sleep(WARM_UP + PERIOD * 2).await;
        assert_eq!(shown(&fake)["ready"], "0/0");
        let unused = fake.object(COMPONENTS, "n", "unused").expect("a component");
        assert!(unused["status"].is_null(), "{unused}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_refused_does_not_hold_up_the_others() {
    let fake = with_component();
    let metadata = json!({"name": "a", "namespace": "n", "uid": "v"});
    fake.put(COMPONENTS, json!({"metadata": metadata, "spec": {}}));
    fake.fault(On::verb("patch").times(1), Fault::Status(403));
    beside(&fake, async |statuses| {
        let sidecar = Sidecar {
            namespace: "n".to_owned(),
            app_id: "cart".to_owned(),
            pod: "1".to_owned(),
        };
        let said = ["a", "store"].map(|name| (name.to_owned(), None));
        let report = |board: &mut Board| board.report(sidecar, said.into(), Instant::now());
        report(&mut statuses.shared.lock().board).expect("room");
        tokio::time::sleep(PERIOD * 3).await;
        let other = fake.object(COMPONENTS, "n", "a").expect("a component");
        let ready = [&other["status"]["ready"], &shown(&fake)["ready"]];
        assert_eq!(ready, ["1/1", "1/1"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn where_it_may_not_write_the_operator_hardly_tries() {
    let fake = with_component();
    fake.fault(On::verb("patch"), Fault::Status(403));
    beside(&fake, async |statuses| {
        say(statuses, "1", None);
        tokio::time::sleep(REFUSED_PAUSE / 2).await;
        assert_eq!(fake.seen().len(), 2);
        fake.heal();
        say(statuses, "1", None);
        tokio::time::sleep(REFUSED_PAUSE / 2 + PERIOD * 2).await;
        assert_eq!(shown(&fake)["ready"], "1/1");
    })
    .await;
}

#[tokio::test]
async fn only_a_leader_takes_reports_and_only_of_callers_it_knows() {
    let reports = Reports::new(Statuses::new(Informer::new(Kind::Component)));
    let request = ReportRequest {
        namespace: "n".to_owned(),
        pod: "p".to_owned(),
        components: vec![ComponentReport::default()],
    };
    let refused = reports.report(Request::new(request)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}
