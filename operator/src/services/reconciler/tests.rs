//! What is looked at, and what becomes of Services.

use super::*;
use kube::runtime::watcher::Event;
use kubernetes_fake::{Answer, Fake};
use serde_json::json;

fn raw(name: &str, app_id: &str, enabled: &str) -> Raw {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "n", "uid": "u"},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"annotations": {"dapr.io/enabled": enabled, "dapr.io/app-id": app_id}}},
        },
    }))
    .unwrap()
}

fn service(owner: &str) -> PartialObjectMeta<Service> {
    serde_json::from_value(json!({"metadata": {
        "name": "x-dapr", "namespace": "n",
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": owner, "uid": "u", "controller": true}],
    }}))
    .unwrap()
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
    let (mut state, now) = (State::default(), Instant::now());
    let kind = Kind::Deployment;
    state.workload(kind, Event::Init, now);
    state.workload(kind, Event::InitApply(raw("a", "a", "true")), now);
    state.workload(kind, Event::InitApply(raw("b", "b", "false")), now);
    state.workload(kind, Event::InitDone, now);
    assert_eq!(names(&mut state, now), ["a"]);
    state.workload(kind, Event::Apply(raw("a", "a", "true")), now);
    assert!(names(&mut state, now).is_empty());
    state.workload(kind, Event::Apply(raw("a", "other", "true")), now);
    state.workload(kind, Event::Apply(raw("b", "b", "true")), now);
    assert_eq!(names(&mut state, now), ["a", "b"]);
    state.offer_all(now);
    assert_eq!(names(&mut state, now), ["a", "b"]);
    state.workload(kind, Event::Delete(raw("b", "b", "true")), now);
    state.workload(kind, Event::Init, now);
    state.workload(kind, Event::InitDone, now);
    assert_eq!(state.workloads[&kind].iter().count(), 0);
}

#[test]
fn services_lead_to_their_workload() {
    let (mut state, now) = (State::default(), Instant::now());
    state.workload(Kind::Deployment, Event::Apply(raw("a", "a", "true")), now);
    names(&mut state, now);
    state.service(Event::Apply(service("a")), now);
    assert_eq!(names(&mut state, now), ["a"]);
    state.service(Event::Apply(service("unknown")), now);
    state.service(Event::Apply(service("a")), now);
    names(&mut state, now);
    state.service(Event::Delete(service("a")), now);
    assert_eq!(names(&mut state, now), ["a"]);
    state.service(Event::Apply(service("a")), now);
    names(&mut state, now);
    state.service(Event::Init, now);
    state.service(Event::InitDone, now);
    assert_eq!(
        names(&mut state, now),
        ["a"],
        "it went while nobody watched"
    );
    state.service(Event::Init, now);
    state.service(Event::InitDone, now);
    assert!(names(&mut state, now).is_empty());
}

fn key() -> Key {
    Key {
        kind: Kind::Deployment,
        namespace: "n".to_owned(),
        name: "a".to_owned(),
    }
}

fn options(cluster: Cluster) -> Options {
    let meter = telemetry::Meter::new(
        &prometheus::Registry::new(),
        telemetry::MetricOptions::default(),
    );
    Options {
        cluster,
        metrics: Metrics::new(&meter.unwrap()),
        mtls: true,
        rollouts: false,
        resync: DEFAULT_RESYNC,
    }
}

#[test]
fn the_service_of_an_app_that_has_two_workloads_comes_back_when_one_goes() {
    let (mut state, now) = (State::default(), Instant::now());
    let kind = Kind::Deployment;
    for name in ["blue", "green"] {
        state.workload(kind, Event::Apply(raw(name, "x", "true")), now);
    }
    state.workload(kind, Event::Apply(raw("other", "y", "true")), now);
    state.service(Event::Apply(service("blue")), now);
    names(&mut state, now);
    state.service(Event::Apply(service("green")), now);
    assert_eq!(
        names(&mut state, now),
        ["green"],
        "they do not take it from each other"
    );
    state.workload(kind, Event::Delete(raw("green", "x", "true")), now);
    // collected with its owner
    state.service(Event::Delete(service("green")), now);
    assert_eq!(names(&mut state, now), ["blue"]);
}

async fn ensured(there: Option<serde_json::Value>) -> Vec<String> {
    let fake = Fake::scripted(move |seen| {
        Some(match (seen.method.as_str(), &there) {
            ("GET", None) => Answer::status(404),
            ("GET", Some(service)) => Answer::object(service.clone()),
            _ => Answer::object(seen.body.clone()),
        })
    });
    let cluster = Cluster::new(fake.client(), "");
    let workload = raw("a", "a", "true").into_workload().unwrap();
    let key = key();
    ensure(&options(cluster), &key, &workload).await.unwrap();
    fake.seen()
        .iter()
        .map(|seen| {
            format!(
                "{} {}",
                seen.method, seen.body["metadata"]["resourceVersion"]
            )
        })
        .collect()
}

#[tokio::test]
async fn services_are_made_kept_and_mended() {
    let workload = raw("a", "a", "true").into_workload().unwrap();
    let key = key();
    let mut there = serde_json::to_value(desired::service(&key, &workload, "a", true)).unwrap();
    there["metadata"]["resourceVersion"] = json!("7");
    assert_eq!(ensured(None).await, ["GET null", "POST null"]);
    assert_eq!(ensured(Some(there.clone())).await, ["GET null"]);
    there["spec"]["ports"] = json!([]);
    assert_eq!(ensured(Some(there)).await, ["GET null", "PUT \"7\""]);
}
