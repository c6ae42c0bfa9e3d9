//! The API over a scripted cluster: lists, one resource, changes and their secrets.

use std::pin::pin;

use futures::StreamExt;
use kube::runtime::watcher::Event;
use kubernetes_fake::{Answer, Fake};
use proto::operator::v1::operator_server::Operator as _;
use proto::operator::v1::{ListComponentsRequest, ListSubscriptionsRequest};
use serde_json::{Value, json};
use tonic::{Code, Request};

use super::*;

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

fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
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
    let refused = operator.list(Kind::Component, "shop", None).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unavailable);
    informer.apply(Event::InitDone);
    let list = operator.list(Kind::Component, "shop", None).await.unwrap();
    assert_eq!(list.len(), 1);
}

#[tokio::test]
async fn lists_are_scoped_and_have_their_secrets() {
    let (operator, fake) = operator();
    let informer = operator.informer(Kind::Component);
    informer.apply(Event::Apply(component("a", &[], Some("s"))));
    informer.apply(Event::Apply(component("b", &["cart"], None)));
    informer.apply(Event::Apply(component("c", &["other"], Some("missing"))));
    let cart = id("spiffe://public/ns/shop/cart");
    let list = operator
        .list(Kind::Component, "shop", Some(&cart))
        .await
        .unwrap();
    let values: Vec<_> = list
        .iter()
        .map(|json| parsed(json)["spec"]["metadata"][0]["value"].clone())
        .collect();
    assert_eq!(values, [json!("YW5u"), json!("plain")]);
    assert_eq!(fake.lines(), ["GET /api/v1/namespaces/shop/secrets/s"]);
    assert!(
        operator
            .list(Kind::Component, "elsewhere", None)
            .await
            .unwrap()
            .is_empty()
    );
    let error = operator
        .list(Kind::Component, "shop", None)
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
        .find(Kind::Configuration, "shop", "late")
        .await
        .unwrap();
    assert_eq!(parsed(&json)["metadata"]["name"], "late");
    assert_eq!(parsed(&json)["metadata"].get("uid"), None);
    let error = operator
        .find(Kind::Configuration, "shop", "never")
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unknown);
}

#[tokio::test(start_paused = true)]
async fn changes_arrive_until_the_operator_stops() {
    let (operator, _) = operator();
    let informer = operator.informer(Kind::Component);
    informer.apply(Event::Apply(component("before", &[], None)));
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    let cart = id("spiffe://public/ns/shop/cart");
    let mut changes = pin!(operator.changes(Kind::Component, &cart, None).unwrap());
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
    let refused = operator
        .changes(Kind::Component, &cart, None)
        .err()
        .unwrap();
    assert_eq!(refused.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_ends_the_stream() {
    let (operator, _) = operator();
    let cart = id("spiffe://public/ns/shop/cart");
    let mut changes = pin!(operator.changes(Kind::Component, &cart, None).unwrap());
    let informer = operator.informer(Kind::Component);
    informer.apply(Event::Apply(component("a", &[], Some("missing"))));
    let error = changes.next().await.unwrap().err().unwrap();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(changes.next().await.is_none());
}

#[tokio::test]
async fn only_the_assigned_configuration_is_streamed() {
    let (operator, _) = operator();
    let cart = id("spiffe://public/ns/shop/cart");
    let informer = operator.informer(Kind::Configuration);
    let mut mine = pin!(
        operator
            .changes(Kind::Configuration, &cart, Some(Some("mine".to_owned())))
            .unwrap()
    );
    let mut none = pin!(
        operator
            .changes(Kind::Configuration, &cart, Some(None))
            .unwrap()
    );
    for name in ["other", "mine"] {
        let raw = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": {}});
        informer.apply(Event::Apply(serde_json::from_value(raw).unwrap()));
    }
    let update = mine.next().await.unwrap().unwrap();
    assert_eq!(parsed(&update.json)["metadata"]["name"], "mine");
    informer.close();
    assert!(none.next().await.is_none());
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
