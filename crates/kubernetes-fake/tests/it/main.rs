//! The fake against the client that is used on real servers.

mod applies;

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, PartialObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt as _};
use kubernetes_fake::{Fake, Fault, On};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/configmaps";

fn map(name: &str, value: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"k": value},
        "metadata": {"name": name, "namespace": "n", "labels": {"name": name}},
    })
}

fn maps(fake: &Fake) -> Api<ConfigMap> {
    Api::namespaced(fake.client(), "n")
}

fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        other => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn objects_are_written_once_and_versions_guard_them() {
    let fake = Fake::new();
    let api = maps(&fake);
    let new: ConfigMap = serde_json::from_value(map("a", "1")).expect("a map");
    let made = api
        .create(&PostParams::default(), &new)
        .await
        .expect("made");
    let twice = api.create(&PostParams::default(), &new).await.unwrap_err();
    assert_eq!(code(&twice), 409);
    let patch = Patch::Merge(json!({"data": {"k": "2"}}));
    api.patch("a", &PatchParams::default(), &patch)
        .await
        .expect("patched");
    let late = api
        .replace("a", &PostParams::default(), &made)
        .await
        .unwrap_err();
    assert_eq!(code(&late), 409);
    assert_eq!(
        api.get("a").await.expect("there").data.expect("data")["k"],
        "2"
    );
    let found = api
        .list(&ListParams::default().labels("name!=a"))
        .await
        .expect("a list");
    assert!(found.items.is_empty());
    api.delete("a", &Default::default()).await.expect("deleted");
    assert_eq!(code(&api.get("a").await.unwrap_err()), 404);
}

#[tokio::test(start_paused = true)]
async fn a_watch_pages_streams_resumes_and_starts_anew_when_its_version_is_gone() {
    let fake = Fake::new();
    for name in ["a", "b", "c"] {
        fake.put(MAPS, map(name, "1"));
    }
    let metadata: Api<PartialObjectMeta<ConfigMap>> = Api::all(fake.client());
    let mut events = pin!(watcher(metadata, watcher::Config::default().page_size(2)));
    let mut next = async || match events.next().await.expect("no end") {
        Ok(Event::Init) => "init".to_owned(),
        Ok(Event::InitApply(it)) => format!("listed {}", it.name_any()),
        Ok(Event::InitDone) => "done".to_owned(),
        Ok(Event::Apply(it)) => format!("applied {}", it.name_any()),
        Ok(Event::Delete(it)) => format!("deleted {}", it.name_any()),
        Err(error) => format!("error {error}"),
    };
    for expected in ["init", "listed a", "listed b", "listed c", "done"] {
        assert_eq!(next().await, expected);
    }
    fake.put(MAPS, map("b", "2"));
    fake.bookmark(MAPS);
    fake.drop_watches();
    fake.remove(MAPS, "n", "a");
    assert_eq!(next().await, "applied b");
    assert_eq!(next().await, "deleted a");
    fake.inject(
        MAPS,
        "MODIFIED",
        fake.object(MAPS, "n", "b").expect("there"),
    );
    assert_eq!(next().await, "applied b");
    fake.compact();
    fake.drop_watches();
    let error = next().await;
    assert!(error.contains("too old resource version"), "{error}");
    for expected in ["init", "listed b", "listed c", "done"] {
        assert_eq!(next().await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn faults_hit_what_they_are_for_and_no_more() {
    let fake = Fake::new();
    fake.put(MAPS, map("a", "1"));
    let api = maps(&fake);
    fake.fault(
        On::verb("get").of("configmaps").times(1),
        Fault::Status(503),
    );
    assert_eq!(code(&api.get("a").await.unwrap_err()), 503);
    api.get("a").await.expect("once only");
    for fault in [Fault::Hang, Fault::Stall] {
        fake.fault(On::verb("get").times(1), fault);
        let asked = tokio::time::timeout(Duration::from_secs(3600), api.get("a")).await;
        assert!(asked.is_err(), "{fault:?} answers");
    }
    fake.fault(On::verb("patch"), Fault::Mute);
    let patch = Patch::Merge(json!({"data": {"k": "2"}}));
    let params = PatchParams::default();
    let asked = tokio::time::timeout(Duration::from_secs(1), api.patch("a", &params, &patch)).await;
    assert!(asked.is_err());
    fake.heal();
    assert_eq!(
        api.get("a").await.expect("there").data.expect("data")["k"],
        "2",
        "carried out"
    );
    fake.admit(|_, _| Err("not like this".to_owned()));
    assert_eq!(
        code(&api.patch("a", &params, &patch).await.unwrap_err()),
        403
    );
}
