//! Where references stand, what becomes of them, and how long that may take.

use super::*;
use serde_json::json;

fn secret() -> Secret {
    let data = [("user", "ann"), ("s", "whole")]
        .map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec())));
    Secret {
        data: Some(data.into()),
        ..Secret::default()
    }
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

#[tokio::test(start_paused = true)]
async fn reads_that_hang_do_not_hold_up_those_of_others_for_long() {
    let fake = kubernetes_fake::Fake::scripted(|_| {
        Some(kubernetes_fake::Answer::object(
            json!({"metadata": {"name": "s"}, "data": {"k": "YW5u"}}),
        ))
    });
    let (on, fault) = (
        kubernetes_fake::On::verb("get"),
        kubernetes_fake::Fault::Hang,
    );
    fake.fault(on.times(MOST_READS), fault);
    let resolver = Resolver::new(Cluster::new(fake.client(), ""));
    let object =
        json!({"spec": {"metadata": [{"name": "a", "secretKeyRef": {"name": "s", "key": "k"}}]}});
    let entry = Entry {
        has_secrets: true,
        json: Bytes::from(object.to_string()),
        ..super::super::entry::tests::entry("a", "")
    };
    let read = || resolver.resolve(Kind::Component, &entry);
    let hanging = futures::future::join_all((0..MOST_READS).map(|_| read()));
    let both = async { tokio::join!(hanging, read()) };
    let both = tokio::time::timeout(PATIENCE * 2, both).await;
    let (hanging, last) = both.expect("in time");
    assert!(hanging.iter().all(Result::is_err) && last.is_ok());
}
