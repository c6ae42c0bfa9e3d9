//! What is known, on the fake API server.

use kubernetes_fake::{Fake, Fault, On};
use serde_json::{Value, json};

use super::*;

const CONFIGURATIONS: &str = "/apis/dapr.io/v1alpha1/configurations";
const COMPONENTS: &str = "/apis/dapr.io/v1alpha1/components";

fn configuration(mtls: Value) -> Value {
    json!({"apiVersion": "dapr.io/v1alpha1", "kind": "Configuration",
           "metadata": {"name": "daprsystem", "namespace": "dapr-system"},
           "spec": {"mtls": {"enabled": mtls, "sentryAddress": "", "controlPlaneTrustDomain": ""}}})
}

fn component(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "dapr.io/v1alpha1", "kind": "Component",
           "metadata": {"name": name, "namespace": namespace,
                        "annotations": {"dapr.io/component-container": json!({"image": name}).to_string()}},
           "spec": {"type": "state.x", "version": "v1"}})
}

fn images(listers: &Listers, namespace: &str) -> Vec<String> {
    let found = listers.components(namespace, "shop").into_iter();
    found.filter_map(|container| container.image).collect()
}

/// Runs a script beside the listers.
async fn beside(fake: &Fake, script: impl AsyncFnOnce(&Listers)) {
    let listers = Listers::new(kubernetes::client::over(fake.service()), "dapr-system");
    let shutdown = CancellationToken::new();
    let part = listers.clone().run(shutdown.clone());
    let script = async {
        script(&listers).await;
        shutdown.cancel();
    };
    let (ended, ()) = tokio::join!(part, script);
    ended.expect("no error");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_may_be_watched_is_listed_once_and_followed() {
    let fake = Fake::new();
    fake.put(CONFIGURATIONS, configuration(json!(false)));
    fake.put(COMPONENTS, component("a", "x"));
    fake.put(COMPONENTS, component("ab", "y"));
    beside(&fake, async |listers| {
        listers.ready(Duration::from_secs(60)).await;
        assert!(!listers.mtls());
        assert_eq!(
            (
                images(listers, "a"),
                images(listers, "ab"),
                images(listers, "b")
            ),
            (vec!["x".into()], vec!["y".into()], vec![])
        );
        fake.until("watches", |fake| fake.watches() == 2).await;
        fake.put(COMPONENTS, component("b", "z"));
        fake.until("the change", |_| images(listers, "b") == ["z"])
            .await;
        fake.remove(CONFIGURATIONS, "dapr-system", CONFIGURATION);
        fake.until("mTLS again", |_| listers.mtls()).await;
    })
    .await;
    assert_eq!(
        fake.seen()
            .iter()
            .filter(|seen| seen.verb == "list")
            .count(),
        2
    );
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_may_not_be_watched_is_read_by_name() {
    let fake = Fake::new();
    fake.put(CONFIGURATIONS, configuration(json!(true)));
    fake.fault(On::verb("list"), Fault::Status(403));
    beside(&fake, async |listers| {
        listers.0.mtls.known().await;
        assert!(listers.mtls() && images(listers, "a").is_empty());
        fake.put(CONFIGURATIONS, configuration(json!(false)));
        fake.until("the change", |_| !listers.mtls()).await;
        // the right to watch comes later
        fake.heal();
        fake.until("watches", |fake| fake.watches() == 2).await;
        let reads = |fake: &Fake| fake.seen().iter().filter(|seen| seen.verb == "get").count();
        tokio::time::sleep(READ_PERIOD * 2).await;
        let before = reads(&fake);
        tokio::time::sleep(READ_PERIOD * 4).await;
        assert_eq!(reads(&fake), before, "no reads beside a watch");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn rights_in_one_namespace_are_enough_and_none_are_no_reason_to_wait() {
    let fake = Fake::new();
    fake.put(CONFIGURATIONS, configuration(json!(false)));
    fake.put(COMPONENTS, component("dapr-system", "own"));
    fake.put(COMPONENTS, component("a", "foreign"));
    fake.fault(On::verb("watch"), Fault::Status(403));
    fake.fault(On::verb("list").everywhere(), Fault::Status(403));
    beside(&fake, async |listers| {
        let began = tokio::time::Instant::now();
        listers.ready(Duration::from_secs(60)).await;
        assert!(began.elapsed() < Duration::from_secs(1));
        assert_eq!(images(listers, "dapr-system"), ["own"]);
        assert!(images(listers, "a").is_empty());
    })
    .await;
    fake.fault(On::all(), Fault::Status(403));
    beside(&fake, async |listers| {
        let began = tokio::time::Instant::now();
        listers.ready(Duration::from_secs(60)).await;
        assert!(began.elapsed() < Duration::from_secs(1));
        assert!(listers.mtls() && images(listers, "dapr-system").is_empty());
    })
    .await;
}

#[test]
fn native_sidecars_come_with_a_version() {
    for (major, minor, native) in [
        ("1", "28", Some(false)),
        ("1", "29", Some(true)),
        ("1", "29+", Some(true)),
        ("2", "0", Some(true)),
        ("1", "", None),
        ("", "30", None),
    ] {
        assert_eq!(has_native_sidecars(major, minor), native, "{major}.{minor}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_of_the_cluster_is_noticed() {
    let fake = Fake::new();
    fake.set_version("1", "28");
    beside(&fake, async |listers| {
        listers.ready(Duration::from_secs(60)).await;
        assert_eq!(listers.native_sidecars(), Some(false));
        fake.set_version("1", "29+");
        tokio::time::sleep(VERSION_PERIOD + Duration::from_secs(1)).await;
        assert_eq!(listers.native_sidecars(), Some(true));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_is_asked_again() {
    let fake = Fake::new();
    fake.put(CONFIGURATIONS, configuration(json!(false)));
    fake.fault(On::verb("list").times(2), Fault::Stall);
    beside(&fake, async |listers| {
        listers.ready(Duration::from_secs(600)).await;
        assert!(!listers.mtls());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_cluster_means_mtls() {
    let fake = Fake::new();
    fake.fault(On::all(), Fault::Hang);
    let listers = Listers::new(fake.client(), "dapr-system");
    listers.ready(Duration::from_secs(1)).await;
    assert!(listers.mtls());
}
