//! Where references stand, and what becomes of them.

use k8s_openapi::ByteString;
use serde_json::json;

use super::*;

fn secret() -> Secret {
    let data = [("user", "ann"), ("s", "whole")]
        .map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec())));
    Secret::of(data.into())
}

fn resolved(kind: Kind, mut object: Value) -> Result<Value, Error> {
    for reference in references(kind, &object) {
        put(kind, "it", &mut object, &reference, &secret())?;
    }
    Ok(object)
}

#[test]
fn components_get_base64_of_their_secrets() {
    let object = json!({"spec": {"metadata": [
        {"name": "a", "secretKeyRef": {"name": "s", "key": "user"}},
        {"name": "b", "secretKeyRef": {"name": "s"}},
        {"name": "c", "secretKeyRef": {"name": "s", "key": "nothing"}, "value": "kept"},
        {"name": "d", "value": "plain"},
        {"name": "e", "secretKeyRef": {"name": "", "key": ""}, "value": "plain"},
    ]}});
    let object = resolved(Kind::Component, object).unwrap();
    let values: Vec<_> = (0..5)
        .map(|index| object["spec"]["metadata"][index]["value"].clone())
        .collect();
    assert_eq!(
        values,
        [
            json!("YW5u"),
            json!("d2hvbGU="),
            json!("kept"),
            json!("plain"),
            json!("plain")
        ]
    );
}

#[test]
fn other_secret_stores_are_left_to_the_sidecar() {
    let component = |store: &str| json!({"auth": {"secretStore": store}, "spec": {"metadata": [{"secretKeyRef": {"name": "s", "key": "user"}}]}});
    for (store, count) in [("", 1), ("kubernetes", 1), ("vault", 0)] {
        assert_eq!(
            references(Kind::Component, &component(store)).len(),
            count,
            "{store}"
        );
    }
}

#[test]
fn endpoints_and_servers_have_their_own_places() {
    let endpoint = json!({"spec": {
        "headers": [{"name": "h", "secretKeyRef": {"name": "s", "key": "nothing"}}],
        "clientTLS": {"rootCA": {"secretKeyRef": {"name": "s", "key": "user"}}, "certificate": {"value": "x"}},
    }});
    let endpoint = resolved(Kind::HttpEndpoint, endpoint).unwrap();
    assert_eq!(endpoint["spec"]["headers"][0]["value"], Value::Null);
    assert_eq!(endpoint["spec"]["clientTLS"]["rootCA"]["value"], "YW5u");
    let server = json!({"spec": {"endpoint": {"stdio": {"env": [{"secretKeyRef": {"name": "s", "key": "user"}}]}}}});
    let server = resolved(Kind::McpServer, server).unwrap();
    assert_eq!(
        server["spec"]["endpoint"]["stdio"]["env"][0]["value"],
        "YW5u"
    );
    let other = json!({"spec": {"endpoint": {"sse": {
        "auth": {"secretStore": "vault"}, "headers": [{"secretKeyRef": {"name": "s", "key": "user"}}],
    }}}});
    assert!(references(Kind::McpServer, &other).is_empty());
}

#[test]
fn trace_headers_of_configurations_get_plain_text() {
    let header = |key: &str| json!({"spec": {"tracing": {"otel": {"headers": [{"name": "h", "secretKeyRef": {"name": "s", "key": key}}]}}}});
    let object = resolved(Kind::Configuration, header("user")).unwrap();
    assert_eq!(
        object.pointer("/spec/tracing/otel/headers/0/value"),
        Some(&json!("ann"))
    );
    let error = resolved(Kind::Configuration, header("nothing")).unwrap_err();
    assert!(matches!(error, Error::MissingKey { .. }), "{error}");
    let reference = references(Kind::Configuration, &header("")).remove(0);
    let error = no_key("it".to_owned(), &header(""), reference);
    assert_eq!(
        error.to_string(),
        "header h of it refers to secret s without a key"
    );
}
