//! The watchdog on the fake API server.

use kubernetes_fake::{Fake, Fault, On};
use prometheus::{Encoder as _, Registry, TextEncoder};
use serde_json::Value;
use telemetry::MetricOptions;

use super::*;

const PODS: &str = "/api/v1/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/deployments";

fn pod(name: &str, enabled: &str, owner: Option<(&str, &str)>, container: &str) -> Value {
    let owners = owner.map(|(api_version, kind)| {
        json!([{"apiVersion": api_version, "kind": kind, "name": "o", "uid": format!("o-{kind}"), "controller": true}])
    });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "n", "ownerReferences": owners,
            "annotations": {"dapr.io/enabled": enabled},
        },
        "spec": {"containers": [{"name": container}]},
    })
}

const REPLICA_SET: Option<(&str, &str)> = Some(("apps/v1", "ReplicaSet"));

fn cluster() -> Fake {
    let fake = Fake::new();
    fake.put(DEPLOYMENTS, json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "injector", "namespace": "dapr-system", "labels": {"app": "dapr-sidecar-injector"}},
        "status": {"readyReplicas": 1},
    }));
    fake
}

fn options(fake: &Fake) -> Options {
    options_in(fake, &Registry::new())
}

fn options_in(fake: &Fake, registry: &Registry) -> Options {
    Options {
        cluster: Cluster::new(kubernetes::client::over(fake.service()), ""),
        namespace: "dapr-system".to_owned(),
        interval: WatchInterval::Once,
        restarts_per_minute: 20,
        may_label: true,
        meter: Meter::new(registry, MetricOptions::default()).expect("a meter"),
        instance: "operator-0".to_owned(),
    }
}

fn events(fake: &Fake) -> Vec<(String, String)> {
    let created = fake.seen().into_iter().filter(|seen| {
        seen.verb == "create" && seen.path == "/apis/events.k8s.io/v1/namespaces/n/events"
    });
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let told = |body: Value| {
        assert_eq!(body["reason"], "DaprSidecarMissing");
        assert_eq!(body["regarding"]["kind"], "Pod");
        (text(&body["regarding"]["name"]), text(&body["note"]))
    };
    created.map(|seen| told(seen.body)).collect()
}

fn printed(registry: &Registry) -> String {
    let mut text = Vec::new();
    let encoded = TextEncoder::new().encode(&registry.gather(), &mut text);
    encoded.expect("printable");
    String::from_utf8(text).expect("text")
}

fn is_there(fake: &Fake, name: &str) -> bool {
    fake.object(PODS, "n", name).is_some()
}

#[tokio::test(start_paused = true)]
async fn only_pods_that_come_back_with_a_sidecar_are_evicted() {
    let fake = cluster();
    fake.put(PODS, pod("lacking", "true", REPLICA_SET, "app"));
    fake.put(PODS, pod("truthy", "yes", REPLICA_SET, "app"));
    fake.put(PODS, pod("ownerless", "true", None, "app"));
    fake.put(
        PODS,
        pod("owned", "true", Some(("tekton.dev/v1", "TaskRun")), "app"),
    );
    fake.put(PODS, pod("well", "true", REPLICA_SET, "daprd"));
    let mut memory = Memory::new(&options(&fake));
    assert!(round(&options(&fake), &mut memory).await);
    let left: Vec<_> = ["lacking", "truthy", "ownerless", "owned", "well"]
        .into_iter()
        .filter(|name| is_there(&fake, name))
        .collect();
    assert_eq!(left, ["truthy", "ownerless", "owned", "well"]);
    assert!(
        fake.seen().iter().all(|seen| seen.verb != "delete"),
        "evicted, not deleted"
    );
    let well = fake.object(PODS, "n", "well").expect("there");
    assert_eq!(
        well["metadata"]["labels"][annotations::WATCHDOG_PATCHED],
        "true"
    );
}

#[tokio::test(start_paused = true)]
async fn a_disruption_budget_holds_and_so_does_a_pod_of_the_same_name() {
    let fake = cluster();
    fake.put(PODS, pod("a", "true", REPLICA_SET, "app"));
    fake.fault(On::verb("create").of("pods").times(1), Fault::Status(429));
    let mut memory = Memory::new(&options(&fake));
    assert!(round(&options(&fake), &mut memory).await);
    assert!(is_there(&fake, "a"));
    let stale = Suspect {
        namespace: "n".to_owned(),
        name: "a".to_owned(),
        uid: "another".to_owned(),
        owner: Some("o".to_owned()),
    };
    examine(&options(&fake), &stale, &mut memory).await;
    assert!(is_there(&fake, "a"));
    assert!(round(&options(&fake), &mut memory).await);
    assert!(!is_there(&fake, "a"));
}

/// A pod of the same owner that has a sidecar and is ready.
fn better(name: &str) -> Value {
    let mut pod = pod(name, "true", REPLICA_SET, "daprd");
    pod["metadata"]["labels"] = json!({annotations::INJECTED: "true"});
    pod["status"] = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    pod
}

#[tokio::test(start_paused = true)]
async fn the_pods_of_a_workload_go_one_after_the_other_as_better_ones_come() {
    let fake = cluster();
    fake.put(PODS, better("there-before"));
    let names = ["a", "b", "c"];
    for name in names {
        fake.put(PODS, pod(name, "true", REPLICA_SET, "app"));
    }
    let stop = CancellationToken::new();
    let left = |fake: &Fake| names.iter().filter(|name| is_there(fake, name)).count();
    let script = async {
        for count in (0..names.len()).rev() {
            fake.until("one goes", |fake| left(fake) == count).await;
            let mut coming = better(&format!("better-{count}"));
            let ready = coming["status"].take();
            fake.put(PODS, coming.clone());
            tokio::time::sleep(LOOK * 3).await;
            assert_eq!(left(&fake), count, "it is not ready yet");
            coming["status"] = ready;
            fake.put(PODS, coming);
        }
        stop.cancel();
    };
    tokio::join!(run(options(&fake), stop.clone()), script);
}

#[tokio::test(start_paused = true)]
async fn where_the_new_pod_has_no_sidecar_either_nothing_is_evicted_any_more() {
    let fake = cluster();
    let replicas = 10;
    let count = |fake: &Fake| {
        let seen = fake.seen();
        seen.iter()
            .filter(|it| it.path.ends_with("/eviction"))
            .count()
    };
    for index in 0..replicas {
        fake.put(PODS, pod(&format!("a-{index}"), "true", REPLICA_SET, "app"));
    }
    let stop = CancellationToken::new();
    let options = Options {
        interval: WatchInterval::Every(Duration::from_secs(600)),
        ..options(&fake)
    };
    let script = async {
        fake.until("one goes", |fake| count(fake) == 1).await;
        // a selector of the webhook leaves it out
        fake.put(PODS, pod("a-again", "true", REPLICA_SET, "app"));
        tokio::time::sleep(Duration::from_secs(3 * 60 * 60)).await;
        assert_eq!(count(&fake), 1);
        stop.cancel();
    };
    tokio::join!(run(options.clone(), stop.clone()), script);
}

#[tokio::test(start_paused = true)]
async fn nothing_goes_while_no_injector_runs() {
    let fake = cluster();
    fake.remove(DEPLOYMENTS, "dapr-system", "injector");
    fake.put(PODS, pod("a", "true", REPLICA_SET, "app"));
    assert!(!round(&options(&fake), &mut Memory::new(&options(&fake))).await);
    assert!(is_there(&fake, "a"));
}

#[tokio::test(start_paused = true)]
async fn every_pod_without_a_sidecar_is_named_once_and_counted() {
    let (fake, registry) = (cluster(), Registry::new());
    let options = options_in(&fake, &registry);
    let mut memory = Memory::new(&options);
    let count = |outcome: &str| {
        let text = printed(&registry);
        let start = format!("dapr_operator_pods_without_sidecar{{outcome=\"{outcome}\"}} ");
        let line = text.lines().find(|line| line.starts_with(&start));
        line.expect("a line")[start.len()..].to_owned()
    };
    assert_eq!(count("evicted"), "0", "shown before there is any");
    fake.put(PODS, pod("lacking", "true", REPLICA_SET, "app"));
    fake.put(PODS, pod("ownerless", "true", None, "app"));
    fake.put(PODS, pod("well", "true", None, "daprd"));
    let mut ended = pod("ended", "true", Some(("batch/v1", "Job")), "app");
    ended["status"] = json!({"phase": "Succeeded"});
    fake.put(PODS, ended);
    for _ in 0..2 {
        assert!(round(&options, &mut memory).await);
    }
    let told = events(&fake);
    let names: Vec<&str> = told.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["lacking", "ownerless"], "{told:?}");
    assert!(told[0].1.contains("is evicted") && told[1].1.contains("no controller"));
    assert!(is_there(&fake, "ended"), "no sidecar would change it");
    assert_eq!(
        (count("evicted").as_str(), count("no_controller").as_str()),
        ("0", "1")
    );
    assert!(printed(&registry).contains("dapr_operator_pods_evicted_total 1\n"));
    // what becomes of it changes
    fake.put(PODS, better("better"));
    assert!(round(&options, &mut memory).await);
    fake.put(PODS, pod("lacking-2", "true", REPLICA_SET, "app"));
    fake.fault(On::verb("create").of("pods").times(1), Fault::Status(429));
    assert!(round(&options, &mut memory).await);
    let told = events(&fake);
    assert!(told[2].1.contains("disruption budget"), "{told:?}");
    assert_eq!(count("disruption_budget"), "1");
}

#[tokio::test(start_paused = true)]
async fn a_watchdog_that_may_not_create_events_works_all_the_same() {
    let fake = cluster();
    fake.put(PODS, pod("a", "true", REPLICA_SET, "app"));
    fake.fault(On::all().of("events"), Fault::Status(403));
    let options = options(&fake);
    assert!(round(&options, &mut Memory::new(&options)).await);
    assert!(!is_there(&fake, "a"));
}

#[test]
fn sidecars_are_found_by_their_name() {
    let pod = |list: &str, name: &str| {
        let mut pod = json!({"metadata": {}, "spec": {"containers": [{"name": "app"}]}});
        pod["spec"][list] = json!([{"name": "app"}, {"name": name}]);
        serde_json::from_value::<Pod>(pod).expect("a pod")
    };
    assert!(has_sidecar(&pod("containers", "daprd")));
    assert!(has_sidecar(&pod("initContainers", "daprd")));
    assert!(!has_sidecar(&pod("containers", "other")));
    assert!(!has_sidecar(&Pod::default()));
}

#[test]
fn restarts_are_spread_over_the_minute() {
    assert_eq!(pause(20), Duration::from_secs(3));
    assert_eq!(pause(0), Duration::ZERO);
    assert_eq!(pause(-1), Duration::ZERO);
}
