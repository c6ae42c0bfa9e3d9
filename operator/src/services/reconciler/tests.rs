//! What is looked at, and what becomes of Services.

use super::*;
use kube::runtime::watcher::Event;
use kubernetes_fake::{Fake, Fault, On};
use serde_json::{Value, json};

const SERVICES: &str = "/api/v1/services";
const DEPLOYMENTS: &str = "/apis/apps/v1/deployments";

fn object(name: &str, app_id: &str, enabled: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "n", "uid": format!("uid-{name}")},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"annotations": {"dapr.io/enabled": enabled, "dapr.io/app-id": app_id}}},
        },
    })
}

fn raw(name: &str, app_id: &str, enabled: &str) -> Raw {
    serde_json::from_value(object(name, app_id, enabled)).unwrap()
}

fn service(name: &str) -> PartialObjectMeta<Service> {
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "n"}})).unwrap()
}

fn state() -> State {
    State::new([Kind::Deployment].into_iter())
}

fn names(state: &mut State, now: Instant) -> Vec<String> {
    let mut names = Vec::new();
    while let Some(key) = state.queue.take(now) {
        names.push(key.name.clone());
        state.queue.done(key, true, now);
    }
    names.sort();
    names
}

#[test]
fn only_changes_that_matter_are_looked_at() {
    let (mut state, now) = (state(), Instant::now());
    let kind = Kind::Deployment;
    state.workload(kind, Event::Init, now);
    state.workload(kind, Event::InitApply(raw("a", "a", "true")), now);
    state.workload(kind, Event::InitApply(raw("b", "b", "false")), now);
    assert!(!state.is_known());
    state.workload(kind, Event::InitDone, now);
    assert!(state.is_known());
    assert_eq!(names(&mut state, now), ["a-dapr"]);
    state.workload(kind, Event::Apply(raw("a", "a", "true")), now);
    assert!(names(&mut state, now).is_empty());
    state.workload(kind, Event::Apply(raw("a", "other", "true")), now);
    state.workload(kind, Event::Apply(raw("b", "b", "true")), now);
    state.workload(kind, Event::Apply(raw("c", "Invalid", "true")), now);
    assert_eq!(names(&mut state, now), ["a-dapr", "b-dapr", "other-dapr"]);
    state.offer_all(now);
    assert_eq!(names(&mut state, now), ["b-dapr", "other-dapr"]);
    state.workload(kind, Event::Delete(raw("b", "b", "true")), now);
    state.workload(kind, Event::Init, now);
    state.workload(kind, Event::InitDone, now);
    assert!(state.owners.is_empty());
}

#[test]
fn services_that_an_app_wants_are_looked_at_when_they_change_or_go() {
    let (mut state, now) = (state(), Instant::now());
    state.workload(Kind::Deployment, Event::Apply(raw("a", "a", "true")), now);
    names(&mut state, now);
    state.service(Event::Apply(service("a-dapr")), now);
    state.service(Event::Apply(service("unknown-dapr")), now);
    assert_eq!(names(&mut state, now), ["a-dapr"]);
    state.service(Event::Delete(service("a-dapr")), now);
    assert_eq!(names(&mut state, now), ["a-dapr"]);
    state.service(Event::Apply(service("a-dapr")), now);
    names(&mut state, now);
    for expected in [vec!["a-dapr"], vec![]] {
        state.service(Event::Init, now);
        state.service(Event::InitDone, now);
        assert_eq!(
            names(&mut state, now),
            expected,
            "it went while nobody watched"
        );
    }
}

fn options(fake: &Fake) -> Options {
    let registry = prometheus::Registry::new();
    let meter = telemetry::Meter::new(&registry, telemetry::MetricOptions::default());
    Options {
        cluster: Cluster::new(kubernetes::client::over(fake.service()), ""),
        metrics: Metrics::new(&meter.unwrap()),
        mtls: true,
        rollouts: false,
        resync: DEFAULT_RESYNC,
    }
}

/// A script beside the reconciler, in paused time.
async fn beside(fake: &Fake, script: impl AsyncFnOnce(&Fake)) {
    let shutdown = CancellationToken::new();
    let script = async {
        script(fake).await;
        shutdown.cancel();
    };
    tokio::join!(run(options(fake), shutdown.clone()), script);
}

fn there(fake: &Fake) -> Option<Value> {
    fake.object(SERVICES, "n", "x-dapr")
}

fn owners(fake: &Fake) -> Vec<String> {
    let service = there(fake).unwrap_or_default();
    let owners = service["metadata"]["ownerReferences"].as_array().cloned();
    let text = |owner: Value| {
        let controls = if owner["controller"] == true { "*" } else { "" };
        format!("{}{controls}", owner["name"].as_str().unwrap_or_default())
    };
    owners.unwrap_or_default().into_iter().map(text).collect()
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_deleted_or_changed_while_nobody_watched_is_mended_at_once() {
    let fake = Fake::new();
    fake.put(DEPLOYMENTS, object("a", "x", "true"));
    beside(&fake, async |fake| {
        fake.until("the service", |fake| there(fake).is_some())
            .await;
        let watches = fake.watches();
        fake.fault(On::verb("watch").times(3), Fault::Status(503));
        fake.drop_watches();
        fake.remove(SERVICES, "n", "x-dapr");
        fake.compact();
        let began = Instant::now();
        fake.until("it again", |fake| there(fake).is_some()).await;
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{:?}",
            began.elapsed()
        );
        fake.until("watches", |fake| fake.watches() == watches)
            .await;
        let mut broken = there(fake).expect("a service");
        broken["spec"]["ports"] = json!([]);
        fake.put(SERVICES, broken);
        let ports =
            |fake: &Fake| there(fake).is_some_and(|it| it["spec"]["ports"][3] != Value::Null);
        fake.until("its ports", ports).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_service_stays_while_one_of_its_workloads_does() {
    let fake = Fake::new();
    fake.put(DEPLOYMENTS, object("blue", "x", "true"));
    beside(&fake, async |fake| {
        fake.until("blue", |fake| owners(fake) == ["blue*"]).await;
        fake.put(DEPLOYMENTS, object("green", "x", "true"));
        fake.until("both", |fake| owners(fake) == ["blue*", "green"])
            .await;
        fake.remove(DEPLOYMENTS, "n", "blue");
        fake.until("green", |fake| owners(fake) == ["green*"]).await;
        let selector = there(fake).expect("a service")["spec"]["selector"].clone();
        assert_eq!(selector, json!({"app": "green"}));
        // It is calm: they do not take it from each other.
        let seen = fake.seen().len();
        tokio::time::sleep(Duration::from_secs(60)).await;
        let writes = fake.seen().split_off(seen);
        let is_write = |verb: &str| matches!(verb, "update" | "patch");
        assert!(!writes.iter().any(|seen| is_write(&seen.verb)));
    })
    .await;
}

/// What a real API server refuses to apply, as the fields of before stay: the operator has created the Service.
#[tokio::test(start_paused = true)]
async fn a_service_follows_where_applying_would_make_an_invalid_one() {
    let fake = Fake::new();
    fake.put(DEPLOYMENTS, object("blue", "x", "true"));
    beside(&fake, async |fake| {
        fake.until("blue", |fake| owners(fake) == ["blue*"]).await;
        for port in [9091, 9092] {
            let mut blue = object("blue", "x", "true");
            blue["spec"]["template"]["metadata"]["annotations"]["dapr.io/metrics-port"] =
                json!(port.to_string());
            fake.put(DEPLOYMENTS, blue);
            let ports = |fake: &Fake| there(fake).expect("a service")["spec"]["ports"].clone();
            fake.until("the port", |fake| ports(fake)[3]["port"] == port)
                .await;
            assert_eq!(ports(fake).as_array().map(Vec::len), Some(4));
        }
        fake.put(DEPLOYMENTS, object("green", "x", "true"));
        fake.until("both", |fake| owners(fake) == ["blue*", "green"])
            .await;
        fake.put(DEPLOYMENTS, object("blue", "x", "false"));
        fake.until("green", |fake| owners(fake) == ["green*"]).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_service_of_that_name_is_left_alone() {
    let fake = Fake::new();
    let foreign = json!({
        "metadata": {"name": "x-dapr", "namespace": "n", "labels": {"app": "mine"}},
        "spec": {"selector": {"app": "mine"}},
    });
    fake.put(SERVICES, foreign.clone());
    fake.put(DEPLOYMENTS, object("a", "x", "true"));
    beside(&fake, async |fake| {
        tokio::time::sleep(Duration::from_secs(60)).await;
        let there = there(fake).expect("a service");
        assert_eq!(there["spec"], foreign["spec"]);
        assert_eq!(there["metadata"]["labels"], foreign["metadata"]["labels"]);
        fake.remove(SERVICES, "n", "x-dapr");
        fake.until("ours", |fake| owners(fake) == ["a*"]).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_service_of_another_build_is_taken_over() {
    let fake = Fake::new();
    fake.put(DEPLOYMENTS, object("a", "x", "true"));
    fake.put(
        SERVICES,
        json!({
            "metadata": {
                "name": "x-dapr", "namespace": "n", "labels": {"dapr.io/enabled": "true"},
                "annotations": {"dapr.io/app-id": "x", "prometheus.io/port": "1"},
                "ownerReferences": [
                    {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a", "uid": "uid-a", "controller": true},
                ],
            },
            "spec": {"clusterIP": "None", "selector": {"app": "old"}, "sessionAffinity": "None"},
        }),
    );
    beside(&fake, async |fake| {
        let selector = |fake: &Fake| there(fake).map(|it| it["spec"]["selector"]["app"].clone());
        fake.until("ours", |fake| selector(fake) == Some(json!("a")))
            .await;
        let service = there(fake).expect("a service");
        assert_eq!(
            service["metadata"]["annotations"]["prometheus.io/port"],
            "9090"
        );
        assert_eq!(service["spec"]["sessionAffinity"], "None");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn fields_of_others_stay_theirs_and_ours_are_taken_back() {
    for may_apply in [true, false] {
        let fake = Fake::new();
        if !may_apply {
            fake.fault(On::verb("patch"), Fault::Status(403));
        }
        fake.put(DEPLOYMENTS, object("a", "x", "true"));
        beside(&fake, async |fake| {
            fake.until("the service", |fake| there(fake).is_some())
                .await;
            let mut edited = there(fake).expect("a service");
            edited["spec"]["selector"]["app"] = json!("theirs");
            edited["metadata"]["annotations"]["team"] = json!("theirs");
            fake.put(SERVICES, edited);
            let selector =
                |fake: &Fake| there(fake).expect("a service")["spec"]["selector"].clone();
            fake.until("ours", |fake| selector(fake) == json!({"app": "a"}))
                .await;
            let service = there(fake).expect("a service");
            assert_eq!(service["metadata"]["annotations"]["team"], "theirs");
            let managers = |field: &str| fake.managers(SERVICES, "n", "x-dapr", field);
            assert_eq!(managers("spec.selector.app"), ["operator"]);
            assert_eq!(managers("metadata.annotations.team"), ["somebody"]);
        })
        .await;
    }
}
