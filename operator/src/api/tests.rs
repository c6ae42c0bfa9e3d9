//! The API over a scripted cluster: lists, one resource, changes and their secrets.

use std::pin::pin;

use futures::{FutureExt, Stream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PartialObjectMeta;
use kube::runtime::watcher::Event;
use kubernetes_fake::{Answer, Fake};
use proto::operator::v1::operator_server::Operator as _;
use proto::operator::v1::{ListComponentsRequest, ListSubscriptionsRequest};
use serde_json::{Value, json};
use tonic::{Code, Request};

use super::changes::Update;
use super::*;
use crate::resources::EventType;

fn fake() -> Fake {
    Fake::scripted(|seen| {
        Some(match seen.path.as_str() {
            "/api/v1/namespaces/shop/secrets/s" => Answer::object(
                json!({"metadata": {"name": "s", "namespace": "shop"}, "data": {"k": "YW5u"}}),
            ),
            "/apis/dapr.io/v1alpha1/namespaces/shop/configurations/late" => Answer::object(
                json!({"metadata": {"name": "late", "namespace": "shop", "uid": "u"}, "spec": {}}),
            ),
            _ => Answer::status(404),
        })
    })
}

/// An operator that knows nothing yet.
fn starting(fake: &Fake) -> Operator {
    let cluster = Cluster::new(fake.client(), "");
    Operator::new(cluster, Kind::ALL.map(Informer::new), Pods::new())
}

fn operator() -> (Operator, Fake) {
    let fake = fake();
    let operator = starting(&fake);
    for informer in &operator.shared.informers {
        informer.apply(Event::Init);
        informer.apply(Event::InitDone);
    }
    (operator, fake)
}

fn component(name: &str, scopes: &[&str], secret: Option<&str>) -> entry::Raw {
    let mut pair = json!({"name": "password", "value": "plain"});
    if let Some(secret) = secret {
        pair["secretKeyRef"] = json!({"name": secret, "key": "k"});
    }
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"type": "state.redis", "metadata": [pair]},
        "scopes": scopes,
    }))
    .unwrap()
}

fn caller(namespace: &str, app_id: &str) -> Caller {
    Caller {
        namespace: namespace.to_owned(),
        app_id: app_id.to_owned(),
        connection: Some("10.0.0.1:1".parse().unwrap()),
        versioned: false,
    }
}

fn parsed(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap()
}

#[tokio::test]
async fn an_operator_that_starts_lists_nothing_rather_than_too_little() {
    let operator = starting(&fake());
    let informer = operator.informer(Kind::Component);
    informer.apply(Event::Init);
    informer.apply(Event::InitApply(component("a", &[], None)));
    let refused = operator
        .list(Kind::Component, &caller("shop", "cart"))
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::Unavailable);
    informer.apply(Event::InitDone);
    let list = operator
        .list(Kind::Component, &caller("shop", "cart"))
        .await
        .unwrap();
    assert_eq!(list.len(), 1);
}

#[tokio::test]
async fn lists_are_scoped_and_have_their_secrets() {
    let (operator, fake) = operator();
    let informer = operator.informer(Kind::Component);
    informer.apply(Event::Apply(component("a", &[], Some("s"))));
    informer.apply(Event::Apply(component("b", &["cart"], None)));
    informer.apply(Event::Apply(component("c", &["other"], Some("missing"))));
    let cart = caller("shop", "cart");
    let list = operator.list(Kind::Component, &cart).await.unwrap();
    let values: Vec<_> = list
        .iter()
        .map(|json| parsed(json)["spec"]["metadata"][0]["value"].clone())
        .collect();
    assert_eq!(values, [json!("YW5u"), json!("plain")]);
    assert_eq!(fake.lines(), ["GET /api/v1/namespaces/shop/secrets/s"]);
    assert!(
        operator
            .list(Kind::Component, &caller("elsewhere", "cart"))
            .await
            .unwrap()
            .is_empty()
    );
    let error = operator
        .list(Kind::Component, &caller("shop", "other"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unknown);
    assert!(
        error.message().contains("secret shop/missing"),
        "{}",
        error.message()
    );
}

#[tokio::test]
async fn what_the_watch_has_not_seen_is_asked_for() {
    let (operator, _) = operator();
    let json = operator
        .find(Kind::Configuration, &caller("shop", "cart"), "late")
        .await
        .unwrap();
    assert_eq!(parsed(&json)["metadata"]["name"], "late");
    assert_eq!(parsed(&json)["metadata"].get("uid"), None);
    let error = operator
        .find(Kind::Configuration, &caller("shop", "cart"), "never")
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unknown);
}

#[tokio::test]
async fn what_is_no_name_is_not_asked_for() {
    let (operator, fake) = operator();
    let cart = caller("shop", "cart");
    let watch = "?watch=true&timeoutSeconds=18446744073709551615&x=";
    for name in [watch, "a/../../../../../v1/secrets", "", ".."] {
        for kind in [Kind::Configuration, Kind::Resiliency] {
            let refused = operator.find(kind, &cart, name).await;
            assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument, "{name}");
        }
        if !name.is_empty() {
            let informer = operator.informer(Kind::Component);
            informer.apply(Event::Apply(component("a", &[], Some(name))));
            let refused = operator.list(Kind::Component, &cart).await.unwrap_err();
            assert!(refused.message().contains("no name"), "{refused:?}");
        }
    }
    assert_eq!(fake.lines(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn changes_arrive_until_the_operator_stops() {
    let (operator, _) = operator();
    let informer = operator.informer(Kind::Component);
    informer.apply(Event::Apply(component("before", &[], None)));
    tokio::time::advance(Duration::from_secs(1)).await;
    let cart = caller("shop", "cart");
    let mut changes = pin!(operator.changes(Kind::Component, &cart).unwrap());
    informer.apply(Event::Apply(component("a", &[], Some("s"))));
    informer.apply(Event::Apply(component("a", &["other"], Some("missing"))));
    informer.apply(Event::Apply(component("a", &["cart"], None)));
    let mut got = Vec::new();
    for _ in 0..3 {
        let update = changes.next().await.unwrap().unwrap();
        let value = parsed(&update.json)["spec"]["metadata"][0]["value"].clone();
        got.push((update.kind, value));
    }
    assert_eq!(
        got,
        [
            (EventType::Created, json!("YW5u")),
            (EventType::Deleted, json!("plain")),
            (EventType::Created, json!("plain")),
        ]
    );
    informer.close();
    assert!(changes.next().await.is_none());
    let refused = operator.changes(Kind::Component, &cart).err().unwrap();
    assert_eq!(refused.code(), Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_cannot_be_read_holds_up_nothing_else_and_is_asked_for_again() {
    const SECRETS: &str = "/api/v1/secrets";
    let fake = Fake::new();
    let operator = starting(&fake);
    for informer in &operator.shared.informers {
        informer.apply(Event::Init);
        informer.apply(Event::InitDone);
    }
    let cart = caller("shop", "cart");
    let mut changes = pin!(operator.changes(Kind::Component, &cart).unwrap());
    let informer = operator.informer(Kind::Component);
    for name in ["gone", "late"] {
        informer.apply(Event::Apply(component(name, &[], Some(name))));
    }
    informer.apply(Event::Apply(component("other", &[], None)));
    let mut next = async || {
        let update = changes.next().await.unwrap().unwrap();
        let name = parsed(&update.json)["metadata"]["name"].clone();
        (update.kind, name.as_str().unwrap().to_owned())
    };
    assert_eq!(next().await, (EventType::Created, "other".to_owned()));
    let began = tokio::time::Instant::now();
    let metadata = json!({"name": "late", "namespace": "shop"});
    fake.put(
        SECRETS,
        json!({"metadata": metadata, "data": {"k": "YW5u"}}),
    );
    assert_eq!(next().await, (EventType::Created, "late".to_owned()));
    assert!(began.elapsed() < Duration::from_secs(5));
    // A change of what has not been told yet is told, and its end does not need the secret.
    informer.apply(Event::Apply(component("gone", &["cart"], Some("gone"))));
    let silent = tokio::time::timeout(Duration::from_secs(600), next());
    assert!(silent.await.is_err());
    let tries = fake
        .lines()
        .iter()
        .filter(|line| line.ends_with("/gone"))
        .count();
    assert!((10..40).contains(&tries), "{tries}");
    informer.apply(Event::Delete(component("gone", &["cart"], None)));
    assert_eq!(next().await, (EventType::Deleted, "gone".to_owned()));
}

/// A pod of the app cart, and the Configuration that it asks for.
fn pod(name: &str, configuration: &str) -> PartialObjectMeta<Pod> {
    let annotations = json!({
        "dapr.io/enabled": "true", "dapr.io/app-id": "cart", "dapr.io/config": configuration,
    });
    let metadata = json!({"name": name, "namespace": "shop", "annotations": annotations});
    serde_json::from_value(json!({"metadata": metadata})).unwrap()
}

fn configuration(name: &str, count: u64) -> entry::Raw {
    let metadata = json!({"name": name, "namespace": "shop", "resourceVersion": count.to_string()});
    serde_json::from_value(json!({"metadata": metadata, "spec": {"count": count}})).unwrap()
}

async fn next(changes: &mut (impl Stream<Item = Result<Update, Status>> + Unpin)) -> (String, u64) {
    let update = changes.next().await.unwrap().unwrap();
    let object = parsed(&update.json);
    let name = object["metadata"]["name"].as_str().unwrap();
    (name.to_owned(), object["spec"]["count"].as_u64().unwrap())
}

#[tokio::test]
async fn only_the_assigned_configuration_is_streamed_also_if_its_pod_comes_later() {
    let (operator, _) = operator();
    let pods = &operator.shared.pods;
    let informer = operator.informer(Kind::Configuration);
    let changes = operator.changes(Kind::Configuration, &caller("shop", "cart"));
    let mut mine = pin!(changes.unwrap());
    let other = operator.changes(Kind::Configuration, &caller("shop", "other"));
    let mut none = pin!(other.unwrap());
    informer.apply(Event::Apply(configuration("other", 1)));
    informer.apply(Event::Apply(configuration("mine", 2)));
    assert!(mine.next().now_or_never().is_none(), "nothing is assigned");
    pods.apply(Event::Apply(pod("b", "mine")));
    assert_eq!(next(&mut mine).await, ("mine".to_owned(), 2));
    informer.apply(Event::Apply(configuration("other", 3)));
    informer.apply(Event::Apply(configuration("mine", 4)));
    assert_eq!(next(&mut mine).await, ("mine".to_owned(), 4));
    pods.apply(Event::Apply(pod("a", "other")));
    assert_eq!(
        next(&mut mine).await,
        ("other".to_owned(), 3),
        "it was passed over before"
    );
    pods.apply(Event::Apply(pod("a", "still")));
    assert!(mine.next().now_or_never().is_none());
    informer.close();
    assert!(mine.next().await.is_none() && none.next().await.is_none());
}

#[tokio::test]
async fn what_changes_between_a_list_and_its_stream_is_streamed() {
    let (operator, _) = operator();
    let cart = caller("shop", "cart");
    let informer = operator.informer(Kind::Component);
    assert!(
        operator
            .list(Kind::Component, &cart)
            .await
            .unwrap()
            .is_empty()
    );
    informer.apply(Event::Apply(component("a", &[], None)));
    let mut changes = pin!(operator.changes(Kind::Component, &cart).unwrap());
    let update = changes.next().now_or_never().expect("at once");
    assert_eq!(update.unwrap().unwrap().kind, EventType::Created);
    let configurations = operator.informer(Kind::Configuration);
    configurations.apply(Event::Apply(configuration("mine", 1)));
    operator.shared.pods.apply(Event::Apply(pod("a", "mine")));
    operator
        .find(Kind::Configuration, &cart, "mine")
        .await
        .unwrap();
    configurations.apply(Event::Apply(configuration("mine", 2)));
    let mut changes = pin!(operator.changes(Kind::Configuration, &cart).unwrap());
    assert_eq!(next(&mut changes).await, ("mine".to_owned(), 2));
}

#[tokio::test]
async fn versions_are_for_those_who_ask() {
    let (operator, _) = operator();
    let informer = operator.informer(Kind::Configuration);
    informer.apply(Event::Apply(configuration("mine", 7)));
    let version = async |versioned| {
        let caller = Caller {
            versioned,
            ..caller("shop", "cart")
        };
        let list = operator.list(Kind::Configuration, &caller).await.unwrap();
        parsed(&list[0])["metadata"]["resourceVersion"].clone()
    };
    assert_eq!(
        (version(false).await, version(true).await),
        (Value::Null, json!("7"))
    );
    let informer = operator.informer(Kind::Component);
    let caller = Caller {
        versioned: true,
        ..caller("shop", "cart")
    };
    let mut changes = pin!(operator.changes(Kind::Component, &caller).unwrap());
    let mut raw = json!({"metadata": {"name": "a", "namespace": "shop", "resourceVersion": "8"}});
    informer.apply(Event::Apply(serde_json::from_value(raw.clone()).unwrap()));
    raw["metadata"]["resourceVersion"] = json!("9");
    informer.apply(Event::Delete(serde_json::from_value(raw).unwrap()));
    for kind in [EventType::Created, EventType::Deleted] {
        let update = changes.next().await.unwrap().unwrap();
        let version = parsed(&update.json)["metadata"]["resourceVersion"].clone();
        assert_eq!((update.kind, version), (kind, json!("8")));
    }
}

#[tokio::test]
async fn callers_without_identity_are_refused() {
    let (operator, _) = operator();
    let request = ListComponentsRequest {
        namespace: "shop".to_owned(),
    };
    let error = operator
        .list_components(Request::new(request))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    let error = operator
        .list_subscriptions(Request::new(()))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    let request = ListSubscriptionsRequest::default();
    let error = operator
        .list_subscriptions_v2(Request::new(request))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
}
