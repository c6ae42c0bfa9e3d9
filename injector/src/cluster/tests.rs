//! The copies against a scripted API server.

use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tower_test::mock::{Handle, SendResponse};

use super::*;

type Api = Handle<Request<Body>, Response<Body>>;

fn cluster() -> (Cluster, Api) {
    let (service, api) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    (
        Cluster::new(Client::new(service, "default"), "dapr-system"),
        api,
    )
}

fn reply(to: SendResponse<Response<Body>>, status: u16, body: &Value) {
    let body = Body::from(body.to_string().into_bytes());
    to.send_response(Response::builder().status(status).body(body).unwrap());
}

fn configuration(mtls: Value) -> Value {
    json!({"apiVersion": "dapr.io/v1alpha1", "kind": "Configuration",
           "metadata": {"name": "daprsystem", "namespace": "dapr-system", "resourceVersion": "1"},
           "spec": {"mtls": {"enabled": mtls, "sentryAddress": "", "controlPlaneTrustDomain": ""}}})
}

fn component(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "dapr.io/v1alpha1", "kind": "Component",
           "metadata": {"name": name, "namespace": namespace, "resourceVersion": "1",
                        "annotations": {"dapr.io/component-container": json!({"image": name}).to_string()}},
           "spec": {"type": "state.x", "version": "v1"}})
}

fn list(kind: &str, items: &[Value]) -> Value {
    json!({"apiVersion": "dapr.io/v1alpha1", "kind": kind, "metadata": {"resourceVersion": "1"}, "items": items})
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_may_be_watched_is_listed_once() {
    let (cluster, mut api) = cluster();
    let shutdown = CancellationToken::new();
    let part = cluster.clone().run(shutdown.clone());
    let script = async {
        let mut watches = Vec::new();
        while watches.len() < 2 {
            let (request, to) = api.next_request().await.expect("a request");
            let (path, watched) = (
                request.uri().path().to_owned(),
                request.uri().query().unwrap_or("").contains("watch"),
            );
            if watched {
                watches.push(to);
            } else if path.ends_with("/configurations") {
                reply(
                    to,
                    200,
                    &list("ConfigurationList", &[configuration(json!(false))]),
                );
            } else {
                reply(
                    to,
                    200,
                    &list(
                        "ComponentList",
                        &[component("a", "x"), component("ab", "y")],
                    ),
                );
            }
        }
        cluster.ready(Duration::from_secs(60)).await;
        assert!(!cluster.mtls());
        let images = |namespace: &str| {
            let found = cluster.components(namespace, "shop").into_iter();
            found
                .filter_map(|container| container.image)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (images("a"), images("ab"), images("b")),
            (vec!["x".into()], vec!["y".into()], vec![])
        );
        shutdown.cancel();
    };
    let (ended, ()) = tokio::join!(part, script);
    ended.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_may_not_be_watched_is_read_by_name() {
    let (cluster, mut api) = cluster();
    let shutdown = CancellationToken::new();
    let part = cluster.clone().run(shutdown.clone());
    let script = async {
        let mut reads = 0;
        while reads < 2 {
            let (request, to) = api.next_request().await.expect("a request");
            if request.uri().path()
                == "/apis/dapr.io/v1alpha1/namespaces/dapr-system/configurations/daprsystem"
            {
                reads += 1;
                reply(to, 200, &configuration(json!(reads == 1)));
            } else {
                reply(
                    to,
                    403,
                    &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403,
                                       "message": "no", "reason": "Forbidden"}),
                );
            }
        }
        cluster.ready(Duration::from_secs(60)).await;
        while cluster.mtls() {
            tokio::task::yield_now().await;
        }
        assert!(cluster.components("a", "shop").is_empty());
        shutdown.cancel();
    };
    let (ended, ()) = tokio::join!(part, script);
    ended.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silent_cluster_means_mtls() {
    let (cluster, _api) = cluster();
    cluster.ready(Duration::from_secs(1)).await;
    assert!(cluster.mtls());
}

#[test]
fn a_deleted_configuration_means_mtls_again() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let _guard = runtime.enter();
    let (cluster, _api) = cluster();
    let found: Configuration = serde_json::from_value(configuration(json!(false))).unwrap();
    cluster.configuration(Event::Apply(found.clone()));
    assert!(!cluster.mtls());
    cluster.configuration(Event::Delete(found.clone()));
    assert!(cluster.mtls());
    cluster.configuration(Event::Apply(found));
    cluster.configuration(Event::Init);
    cluster.configuration(Event::InitDone);
    assert!(cluster.mtls(), "a list without it counts like a deletion");
}
