//! Server-side apply, by the examples of Kubernetes' documentation.

use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kubernetes_fake::Fake;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/configmaps";

async fn apply(
    maps: &Api<ConfigMap>,
    by: &PatchParams,
    data: Value,
) -> Result<ConfigMap, kube::Error> {
    let metadata = json!({"name": "m"});
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
    maps.patch("m", by, &Patch::Apply(map)).await
}

#[tokio::test]
async fn what_others_have_said_is_a_conflict_and_what_they_added_stays() {
    let fake = Fake::new();
    let maps: Api<ConfigMap> = Api::namespaced(fake.client(), "n");
    let (ours, theirs) = (PatchParams::apply("ours"), PatchParams::apply("theirs"));
    let first = apply(&maps, &ours, json!({"a": "1", "b": "1"}));
    first.await.expect("created");
    let second = apply(&maps, &theirs, json!({"c": "1"}));
    second.await.expect("nobody else's");
    let refused = apply(&maps, &theirs, json!({"a": "2", "c": "1"}));
    let refused = refused.await.expect_err("a conflict");
    let kube::Error::Api(status) = &refused else {
        panic!("{refused}");
    };
    assert_eq!(status.code, 409);
    assert!(status.message.contains("\"ours\": .data.a"), "{status:?}");
    let forced = theirs.clone().force();
    let taken = apply(&maps, &forced, json!({"a": "2", "c": "1"}));
    taken.await.expect("forced");
    assert_eq!(fake.managers(MAPS, "n", "m", "data.a"), ["theirs"]);
    // What is said no more goes; what others say stays.
    let last = apply(&maps, &ours, json!({}));
    let last = last.await.expect("applied").data.unwrap_or_default();
    assert_eq!(json!(last), json!({"a": "2", "c": "1"}));
}

#[tokio::test]
async fn writes_of_other_kinds_have_owners_as_well() {
    let fake = Fake::new();
    fake.put(
        MAPS,
        json!({"metadata": {"name": "m", "namespace": "n"}, "data": {"a": "1", "b": "1"}}),
    );
    let maps: Api<ConfigMap> = Api::namespaced(fake.client(), "n");
    let merge = Patch::Merge(json!({"data": {"b": "2"}}));
    let editor = PatchParams {
        field_manager: Some("editor".to_owned()),
        ..PatchParams::default()
    };
    maps.patch("m", &editor, &merge).await.expect("merged");
    assert_eq!(fake.managers(MAPS, "n", "m", "data.a"), ["somebody"]);
    assert_eq!(fake.managers(MAPS, "n", "m", "data.b"), ["editor"]);
    let stale = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"c": "1"},
        "metadata": {"name": "m", "resourceVersion": "1"},
    });
    let ours = PatchParams::apply("ours").force();
    let refused = maps.patch("m", &ours, &Patch::Apply(stale)).await;
    assert!(refused.is_err(), "of another version");
}

#[tokio::test]
async fn items_of_lists_are_known_by_their_keys() {
    let fake = Fake::new();
    let services: Api<Service> = Api::namespaced(fake.client(), "n");
    let there = serde_json::from_value(json!({
        "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80, "name": "web"}]},
    }));
    let params = PostParams::default();
    let created = services.create(&params, &there.expect("a service")).await;
    created.expect("created");
    let ports = json!([{"port": 81, "name": "more"}]);
    let more = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": ports}});
    let ours = PatchParams::apply("ours");
    let applied = services.patch("s", &ours, &Patch::Apply(more)).await;
    let ports = applied.expect("applied").spec.and_then(|spec| spec.ports);
    assert_eq!(ports.map(|ports| ports.len()), Some(2));
    let none =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {}});
    let applied = services.patch("s", &ours, &Patch::Apply(none)).await;
    let ports = applied.expect("applied").spec.and_then(|spec| spec.ports);
    assert_eq!(ports.map(|ports| ports.len()), Some(1));
}
