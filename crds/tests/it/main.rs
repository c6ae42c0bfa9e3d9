//! The examples of `examples/<plural>/`: every `accept-*` must fit the printed schema and parse into the
//! types, every `refuse-*` must break the schema. A cluster suite puts the same files to a real API server.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod structural;
mod yaml;

use std::path::{Path, PathBuf};

use crds::{
    Component, Configuration, HttpEndpoint, Kind, McpServer, Resiliency, Subscription,
    WorkflowAccessPolicy, definitions, files, subscription::v1alpha1,
};
use serde_json::Value;

fn examples() -> Vec<(PathBuf, Value)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut found = Vec::new();
    for kind in std::fs::read_dir(root).unwrap() {
        for file in std::fs::read_dir(kind.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path, serde_saphyr::from_str(&text).unwrap()));
        }
    }
    found.sort_by(|left, right| left.0.cmp(&right.0));
    found
}

fn is_accepted(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(
        name.starts_with("accept-") || name.starts_with("refuse-"),
        "{name}"
    );
    name.starts_with("accept-")
}

/// The schema that the printed definitions hold for an object, found by its folder and version.
fn schema_for(path: &Path, object: &Value) -> Value {
    let plural = path
        .parent()
        .unwrap()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap();
    let definition = definitions::all()
        .into_iter()
        .find(|it| it.plural == plural)
        .unwrap();
    assert_eq!(
        definition.json["spec"]["names"]["kind"],
        object["kind"],
        "{}",
        path.display()
    );
    let versions = definition.json["spec"]["versions"]
        .as_array()
        .unwrap()
        .clone();
    let wanted = object["apiVersion"]
        .as_str()
        .unwrap()
        .strip_prefix("dapr.io/")
        .unwrap();
    let version = versions
        .into_iter()
        .find(|it| it["name"] == wanted)
        .unwrap();
    version["schema"]["openAPIV3Schema"].clone()
}

#[test]
fn examples_fit_or_break_the_schemas() {
    let mut accepted = 0;
    let mut refused = 0;
    for (path, object) in examples() {
        let violations = structural::violations(&object, &schema_for(&path, &object));
        if is_accepted(&path) {
            accepted += 1;
            assert!(violations.is_empty(), "{}: {violations:?}", path.display());
        } else {
            refused += 1;
            assert!(!violations.is_empty(), "{} fits the schema", path.display());
        }
    }
    assert!(accepted > 20 && refused > 40, "{accepted} {refused}");
}

/// Reads an object, writes it, reads it again: nothing may be lost on the way.
fn round_trip<K: Kind>(object: &Value) {
    let read: K = serde_json::from_value(object.clone()).unwrap();
    let written = serde_json::to_value(&read).unwrap();
    assert_eq!(serde_json::from_value::<K>(written.clone()).unwrap(), read);
    assert_kept(object, &written, "");
}

/// Everything that was given and that the schema knows is written again. Empty maps and lists,
/// switches that are off and nulls mean the same as nothing, and the examples' strangers are named `invented`.
fn assert_kept(given: &Value, written: &Value, path: &str) {
    match given {
        Value::Object(map) => {
            for (key, value) in map.iter().filter(|(key, _)| *key != "invented") {
                let empty = match value {
                    Value::Object(map) => map.is_empty(),
                    Value::Array(items) => items.is_empty(),
                    other => other.is_null() || *other == Value::Bool(false),
                };
                match written.get(key) {
                    Some(there) => assert_kept(value, there, &format!("{path}.{key}")),
                    None => assert!(empty, "{path}.{key} is lost"),
                }
            }
        }
        Value::Array(items) => {
            let there = written.as_array().unwrap();
            assert_eq!(items.len(), there.len(), "{path}");
            for (index, item) in items.iter().enumerate() {
                assert_kept(item, &there[index], &format!("{path}[{index}]"));
            }
        }
        scalar => assert_eq!(scalar, written, "{path}"),
    }
}

#[test]
fn accepted_examples_pass_through_the_types() {
    for (path, object) in examples().into_iter().filter(|(path, _)| is_accepted(path)) {
        let text = std::fs::read_to_string(&path).unwrap();
        let file = path.display().to_string();
        if object["kind"] == Configuration::KIND {
            round_trip::<Configuration>(&object);
            files::configuration([(file.as_str(), text.as_str())], |_| None, |_| {}).unwrap();
            continue;
        }
        match (
            object["kind"].as_str().unwrap(),
            object["apiVersion"].as_str().unwrap(),
        ) {
            (Component::KIND, _) => round_trip::<Component>(&object),
            (Subscription::KIND, Subscription::API_VERSION) => round_trip::<Subscription>(&object),
            (Subscription::KIND, _) => round_trip::<v1alpha1::Subscription>(&object),
            (Resiliency::KIND, _) => round_trip::<Resiliency>(&object),
            (HttpEndpoint::KIND, _) => round_trip::<HttpEndpoint>(&object),
            (McpServer::KIND, _) => round_trip::<McpServer>(&object),
            (WorkflowAccessPolicy::KIND, _) => round_trip::<WorkflowAccessPolicy>(&object),
            other => panic!("{other:?}"),
        }
        assert_eq!(
            files::from_documents(&file, &text).unwrap().len(),
            1,
            "{file}"
        );
    }
}

/// What Go programs send: absent lists as `null`, absent strings as `""`, absent structs with zero values.
#[test]
fn objects_of_go_writers_parse() {
    let component = r#"{"kind":"Component","apiVersion":"dapr.io/v1alpha1","metadata":{"name":"s","namespace":"n","creationTimestamp":null},
        "spec":{"type":"state.redis","version":"v1","ignoreErrors":false,"initTimeout":"","metadata":[
        {"name":"a","value":"b","secretKeyRef":{"name":"","key":""}},{"name":"c","value":null,"secretKeyRef":{"name":"s","key":""}}]},
        "auth":{"secretStore":""}}"#;
    let read: Component = serde_json::from_str(component).unwrap();
    assert_eq!(read.secret_store(), None);
    assert_eq!(read.spec.init_timeout, None);
    assert_eq!(read.spec.metadata[0].secret_key_ref, None);
    assert_eq!(
        read.spec.metadata[1]
            .secret_key_ref
            .as_ref()
            .unwrap()
            .field(),
        "s"
    );

    let empty: Component =
        serde_json::from_str(r#"{"spec":{"metadata":null},"scopes":null}"#).unwrap();
    assert_eq!(empty, Component::default());
    let endpoint = r#"{"metadata":{"name":"e"},"spec":{"baseUrl":"u","headers":null,
        "clientTLS":{"rootCA":null,"certificate":null,"privateKey":null,"renegotiation":null}},"auth":{"secretStore":"x"}}"#;
    let read: HttpEndpoint = serde_json::from_str(endpoint).unwrap();
    assert_eq!(read.secret_store(), Some("x"));
    assert_eq!(read.spec.client_tls.unwrap().renegotiation, None);
    let subscription = r#"{"metadata":{"name":"s"},"spec":{"pubsubname":"p","topic":"t","routes":{},"bulkSubscribe":{"enabled":false}}}"#;
    let read: Subscription = serde_json::from_str(subscription).unwrap();
    assert_eq!(read.spec.bulk_subscribe.unwrap().max_messages_count, None);
    let resiliency = r#"{"spec":{"policies":{},"targets":{"components":{"c":{"inbound":{},"outbound":{"retry":"r"}}}}}}"#;
    let read: Resiliency = serde_json::from_str(resiliency).unwrap();
    assert_eq!(
        read.spec.targets.components["c"]
            .outbound
            .as_ref()
            .unwrap()
            .retry
            .as_deref(),
        Some("r")
    );
}
