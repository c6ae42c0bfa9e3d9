//! The official Rust SDK against our sidecar: clients must not notice whose sidecar it is.

use std::collections::HashMap;

use dapr::appcallback::{AppCallbackService, Handler, TopicEventRequest, TopicEventResponse};
use dapr::client::ClientOptions;
use dapr::dapr::proto::common::v1::StateItem;
use dapr::dapr::proto::runtime::v1::app_callback_server::AppCallbackServer;
use e2e::app::Callbacks;
use e2e::serve::serve;
use e2e::{App, Daprd, wait};
use tokio::sync::mpsc;
use tonic::{Response, Status};

use crate::resources::{PUBSUB, STATE};

type Client = dapr::Client<dapr::client::TonicClientWithAuth>;

async fn client(daprd: &Daprd) -> Client {
    let address = format!("http://127.0.0.1:{}", daprd.grpc_port());
    dapr::Client::connect_with_address(address)
        .await
        .expect("the sidecar is ready")
}

#[tokio::test]
async fn state() {
    let daprd = Daprd::builder("app").resources(STATE).start().await;
    let mut client = client(&daprd).await;
    client
        .save_state("statestore", "k", b"value".to_vec(), None, None, None)
        .await
        .expect("saved");
    let state = client
        .get_state("statestore", "k", None)
        .await
        .expect("read");
    assert_eq!(state.data, b"value");
    client
        .delete_state("statestore", "k", None)
        .await
        .expect("deleted");
    assert!(
        client
            .get_state("statestore", "k", None)
            .await
            .expect("read")
            .data
            .is_empty()
    );
    let items = [("a", b"1".to_vec()), ("b", b"2".to_vec())].map(StateItem::from);
    client
        .save_bulk_states("statestore", Vec::from(items))
        .await
        .expect("saved");
    assert_eq!(
        client
            .get_state("statestore", "b", None)
            .await
            .expect("read")
            .data,
        b"2"
    );
    daprd.stop().await;
}

#[tokio::test]
async fn metadata_with_a_token() {
    let daprd = Daprd::builder("app")
        .env("DAPR_API_TOKEN", "secret")
        .start()
        .await;
    let address = format!("http://127.0.0.1:{}", daprd.grpc_port());
    let options = ClientOptions::new()
        .with_address(address)
        .with_api_token("secret");
    let mut with = dapr::Client::from_options(options)
        .await
        .expect("the sidecar is ready");
    with.set_metadata("color", "blue").await.expect("set");
    let metadata = with.get_metadata().await.expect("read");
    assert_eq!(metadata.id, "app");
    assert_eq!(
        metadata.extended_metadata.get("color").map(String::as_str),
        Some("blue")
    );
    client(&daprd)
        .await
        .get_metadata()
        .await
        .expect_err("the token is missing");
    daprd.stop().await;
}

struct Forward(mpsc::Sender<TopicEventRequest>);

#[async_trait::async_trait]
impl dapr::appcallback::HandlerMethod for Forward {
    async fn handler(
        &self,
        request: TopicEventRequest,
    ) -> Result<Response<TopicEventResponse>, Status> {
        self.0
            .send(request)
            .await
            .map_err(|_| Status::internal("the test is over"))?;
        Ok(Response::new(TopicEventResponse::default()))
    }
}

#[tokio::test]
async fn publish_and_subscribe() {
    let (sender, mut events) = mpsc::channel(4);
    let mut service = AppCallbackService::new();
    service.add_handler(Handler {
        pub_sub_name: "pubsub".into(),
        topic: "orders".into(),
        handler: Box::new(Forward(sender)),
    });
    let path = "/dapr.proto.runtime.v1.AppCallback/{*method}";
    let app = serve(axum::Router::new().route_service(path, AppCallbackServer::new(service))).await;
    let builder = Daprd::builder("app")
        .resources(PUBSUB)
        .app_port(app.port())
        .flag("app-protocol", "grpc");
    let daprd = builder.start().await;
    daprd.subscribed("orders").await;

    let metadata = HashMap::from([("cloudevent.type".to_owned(), "made".to_owned())]);
    let mut client = client(&daprd).await;
    client
        .publish_event(
            "pubsub",
            "orders",
            "application/json",
            br#"{"id":7}"#.to_vec(),
            Some(metadata),
        )
        .await
        .expect("published");
    let event = wait::within("the event", wait::DEADLINE, events.recv())
        .await
        .expect("the app is there");
    assert_eq!(event.data, br#"{"id":7}"#);
    assert_eq!(
        (event.r#type.as_str(), event.source.as_str()),
        ("made", "app")
    );
    assert_eq!(
        (event.topic.as_str(), event.pubsub_name.as_str()),
        ("orders", "pubsub")
    );
    daprd.stop().await;
}

#[tokio::test]
async fn invoke() {
    // This SDK says nothing of HTTP in its calls, so only an app over gRPC can take them.
    let app = App::builder().callbacks(Callbacks::default()).start().await;
    let daprd = Daprd::builder("app").grpc_app(&app).start().await;
    let data = prost_types::Any {
        type_url: String::new(),
        value: b"hello".to_vec(),
    };
    let mut client = client(&daprd).await;
    let reply = client
        .invoke_service("app", "echo", Some(data))
        .await
        .expect("called");
    assert_eq!(reply.data.expect("a body").value, b"hello");
    daprd.stop().await;
}
