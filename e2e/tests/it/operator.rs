//! The operator before an API server that goes away, forgets and refuses.

use std::time::Duration;

use e2e::cluster::object;
use e2e::{Cluster, Operator, Sentry, wait};
use kubernetes_fake::{Fault, On};
use proto::operator::v1::operator_client::OperatorClient;
use proto::operator::v1::{ComponentUpdateRequest, ListComponentsRequest};
use serde_json::{Value, json};
use tonic::transport::Channel;

const COMPONENTS: &str = "/apis/dapr.io/v1alpha1/components";

/// Reads are tried again after up to 30 s.
const SLOW: Duration = Duration::from_secs(60);

async fn cluster(sentry: &Sentry) -> Cluster {
    let cluster = Cluster::start().await;
    cluster.put_configuration(sentry, true);
    cluster
}

fn put(cluster: &Cluster, name: &str) {
    let spec = json!({"type": "state.in-memory", "version": "v1", "metadata": []});
    cluster
        .fake()
        .put(COMPONENTS, object("Component", "shop", name, spec));
}

fn name(component: &[u8]) -> String {
    let component: Value = serde_json::from_slice(component).expect("components are JSON");
    component["metadata"]["name"]
        .as_str()
        .expect("a component has a name")
        .to_owned()
}

async fn listed(client: &OperatorClient<Channel>) -> Vec<String> {
    try_listed(client).await.expect("a list")
}

async fn try_listed(client: &OperatorClient<Channel>) -> Result<Vec<String>, tonic::Status> {
    let request = ListComponentsRequest {
        namespace: "shop".to_owned(),
    };
    let list = client.clone().list_components(request).await?.into_inner();
    Ok(list.components.iter().map(|one| name(one)).collect())
}

async fn until_listed(client: &OperatorClient<Channel>, expected: &[&str], deadline: Duration) {
    let what = format!("the components {expected:?}");
    wait::eventually(&what, deadline, || async {
        try_listed(client)
            .await
            .is_ok_and(|names| names == expected)
    })
    .await;
}

#[tokio::test]
async fn it_lists_and_streams_what_sidecars_ask_for() {
    let sentry = Sentry::start().await;
    let cluster = cluster(&sentry).await;
    put(&cluster, "a");
    let operator = Operator::builder(&sentry).start(&cluster).await;
    let mut client = OperatorClient::new(operator.channel(&sentry, "shop", "cart"));
    until_listed(&client, &["a"], SLOW).await;
    let request = ComponentUpdateRequest {
        namespace: "shop".to_owned(),
    };
    let stream = client.component_update(request).await;
    let mut stream = stream.expect("a stream").into_inner();
    put(&cluster, "b");
    let event = wait::within("an event", wait::DEADLINE, stream.message()).await;
    let event = event.expect("no error").expect("no end");
    assert_eq!(name(&event.component), "b");
    let foreign = OperatorClient::new(operator.channel(&sentry, "other", "cart"));
    let request = ListComponentsRequest {
        namespace: "shop".to_owned(),
    };
    let denied = foreign.clone().list_components(request).await;
    assert_eq!(
        denied.expect_err("denied").code(),
        tonic::Code::PermissionDenied
    );
    operator.stop().await;
}

#[tokio::test]
async fn watches_that_break_or_are_too_old_go_on() {
    let sentry = Sentry::start().await;
    let cluster = cluster(&sentry).await;
    let operator = Operator::builder(&sentry).start(&cluster).await;
    let client = OperatorClient::new(operator.channel(&sentry, "shop", "cart"));
    let fake = cluster.fake();
    fake.drop_watches();
    put(&cluster, "a");
    until_listed(&client, &["a"], wait::DEADLINE).await;
    fake.fault(On::verb("watch").of("components").times(2), Fault::Break);
    fake.drop_watches();
    put(&cluster, "b");
    fake.remove(COMPONENTS, "shop", "a");
    fake.compact();
    until_listed(&client, &["b"], SLOW).await;
    fake.fault(
        On::verb("watch").of("components").times(3),
        Fault::Status(429),
    );
    fake.drop_watches();
    put(&cluster, "c");
    until_listed(&client, &["b", "c"], SLOW).await;
    operator.stop().await;
}

#[tokio::test]
async fn an_api_server_that_is_down_leaves_what_is_known() {
    let sentry = Sentry::start().await;
    let mut cluster = cluster(&sentry).await;
    put(&cluster, "a");
    let operator = Operator::builder(&sentry).start(&cluster).await;
    let client = OperatorClient::new(operator.channel(&sentry, "shop", "cart"));
    // It is healthy a moment before it listens.
    until_listed(&client, &["a"], SLOW).await;
    cluster.go_down().await;
    assert_eq!(listed(&client).await, ["a"]);
    operator.health().get("/healthz").await.expect_status(200);
    put(&cluster, "b");
    cluster.come_back().await;
    until_listed(&client, &["a", "b"], SLOW).await;
    operator.stop().await;
}
