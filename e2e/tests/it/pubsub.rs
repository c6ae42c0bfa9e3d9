//! Publishing and subscribing (contract 2.2, 2.4, 2.9, 9.7).

use e2e::app::{Answer, Callbacks};
use e2e::{App, Daprd, golden, wait};
use http::Method;
use proto::runtime::v1::dapr_client::DaprClient;
use proto::runtime::v1::subscribe_topic_events_request_alpha1::SubscribeTopicEventsRequestType as FromApp;
use proto::runtime::v1::subscribe_topic_events_response_alpha1::SubscribeTopicEventsResponseType as ToApp;
use proto::runtime::v1::topic_event_response::TopicEventResponseStatus;
use proto::runtime::v1::{
    GetMetadataRequest, PublishEventRequest, SubscribeTopicEventsRequestAlpha1,
    SubscribeTopicEventsRequestInitialAlpha1, SubscribeTopicEventsRequestProcessedAlpha1,
    TopicEventResponse,
};
use serde_json::{Value, json};
use tonic::Code;

use crate::resources::{PUBSUB, component};

const PUBLISH: &str = "/v1.0/publish/pubsub/orders";

/// An app that takes `orders` at `/orders`, with a sidecar.
async fn subscriber(subscription: Value) -> (App, Daprd) {
    let app = App::builder()
        .subscriptions(&json!([subscription]))
        .route("/orders", Answer::status(200))
        .start()
        .await;
    let daprd = Daprd::builder("app")
        .resources(PUBSUB)
        .app(&app)
        .start()
        .await;
    daprd.subscribed("orders").await;
    (app, daprd)
}

fn orders() -> Value {
    json!({"pubsubname": "pubsub", "topic": "orders", "route": "/orders"})
}

#[tokio::test]
async fn an_event_as_apps_know_it() {
    let (app, daprd) = subscriber(orders()).await;
    daprd
        .http()
        .post(PUBLISH, &json!({"id": 7}))
        .await
        .expect_status(204);
    let call = &app.called("/orders", 1).await[0];
    assert_eq!(call.method, Method::POST);
    assert_eq!(call.header("content-type"), "application/cloudevents+json");
    golden::compare("cloud_event", &call.json());
    daprd.stop().await;
}

#[tokio::test]
async fn content_types_decide_the_form_of_data() {
    let (app, daprd) = subscriber(orders()).await;
    let publish = |kind: &'static str, body: &'static [u8]| {
        let http = daprd.http();
        async move {
            http.request(Method::POST, PUBLISH)
                .header("content-type", kind)
                .body(body)
                .send()
                .await
                .expect_status(204);
        }
    };
    publish("text/plain", b"hello").await;
    let event = app.called("/orders", 1).await[0].json();
    assert_eq!(
        (&event["data"], &event["datacontenttype"]),
        (&json!("hello"), &json!("text/plain"))
    );
    publish("application/octet-stream", &[0, 255]).await;
    let event = app.called("/orders", 2).await[1].json();
    assert_eq!(
        (&event["data_base64"], &event["data"]),
        (&json!("AP8="), &Value::Null)
    );
    publish(
        "application/cloudevents+json",
        br#"{"specversion":"1.0","id":"mine","source":"me","type":"t","data":1}"#,
    )
    .await;
    let event = app.called("/orders", 3).await[2].json();
    assert_eq!(
        (&event["id"], &event["source"], &event["data"]),
        (&json!("mine"), &json!("me"), &json!(1))
    );
    assert_eq!(
        (&event["topic"], &event["pubsubname"]),
        (&json!("orders"), &json!("pubsub"))
    );
    daprd.stop().await;
}

#[tokio::test]
async fn metadata_overrides_attributes() {
    let (app, daprd) = subscriber(orders()).await;
    let path = format!(
        "{PUBLISH}?metadata.cloudevent.id=a&metadata.cloudevent.type=made&metadata.ttlInSeconds=60"
    );
    daprd.http().post(&path, &json!(1)).await.expect_status(204);
    let event = app.called("/orders", 1).await[0].json();
    assert_eq!(
        (&event["id"], &event["type"]),
        (&json!("a"), &json!("made"))
    );
    assert!(event["expiration"].is_string(), "{event}");
    daprd.stop().await;
}

#[tokio::test]
async fn raw_payloads() {
    let mut subscription = orders();
    subscription["metadata"] = json!({"rawPayload": "true"});
    let (app, daprd) = subscriber(subscription).await;
    let path = format!("{PUBLISH}?metadata.rawPayload=true");
    daprd
        .http()
        .request(Method::POST, &path)
        .body("raw")
        .send()
        .await
        .expect_status(204);
    let event = app.called("/orders", 1).await[0].json();
    assert_eq!(event["data_base64"], json!("cmF3"), "{event}");
    // Raw over HTTP, it carries no trace, not even an empty one.
    assert_eq!(event.get("traceid"), None, "{event}");
    let call = &app.calls("/orders")[0];
    assert!(
        !call.headers.contains_key("traceparent"),
        "{:?}",
        call.headers
    );
    daprd.stop().await;
}

#[tokio::test]
async fn a_trace_arrives_as_it_was_given() {
    let (app, daprd) = subscriber(orders()).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02";
    let publish = daprd.http().request(Method::POST, PUBLISH);
    let publish = publish.header("traceparent", trace).body("x");
    publish.send().await.expect_status(204);
    let call = &app.called("/orders", 1).await[0];
    assert_eq!(call.header("traceparent"), trace);
    assert_eq!(call.json()["traceparent"], trace);
    daprd.stop().await;
}

#[tokio::test]
async fn bulk_entries_have_to_be_what_they_say() {
    let (app, daprd) = subscriber(orders()).await;
    let path = "/v1.0/publish/bulk/pubsub/orders";
    let entry = json!([{"entryId": "1", "event": 5, "contentType": "text/plain"}]);
    let reply = daprd.http().post(path, &entry).await;
    let reply = reply.expect_error(400, "ERR_PUBSUB_EVENTS_SER").json();
    assert_eq!(
        reply["message"],
        "error when marshalling cloud event envelope for topic orders pubsub pubsub: \
         error: mismatch between contentType and event"
    );
    let reply = daprd.http().post(path, &json!({})).await;
    let reply = reply.expect_error(400, "ERR_PUBSUB_EVENTS_SER").json();
    assert_eq!(reply["details"][1]["metadata"], json!({"appID": "app"}));
    assert!(app.calls("/orders").is_empty());
    daprd.stop().await;
}

#[tokio::test]
async fn dropped_and_unknown_go_to_the_dead_letters() {
    let app = App::builder()
        .subscriptions(&json!([
            {"pubsubname": "pubsub", "topic": "drop", "route": "/drop", "deadLetterTopic": "dead"},
            {"pubsubname": "pubsub", "topic": "fail", "route": "/fail", "deadLetterTopic": "dead"},
            {"pubsubname": "pubsub", "topic": "dead", "route": "/dead"},
        ]))
        .route("/drop", Answer::json(&json!({"status": "DROP"})))
        .route("/fail", Answer::status(500))
        .route("/dead", Answer::json(&json!({"status": "SUCCESS"})))
        .start()
        .await;
    let daprd = Daprd::builder("app")
        .resources(PUBSUB)
        .app(&app)
        .start()
        .await;
    daprd.subscribed("dead").await;
    for (index, topic) in ["drop", "fail"].into_iter().enumerate() {
        daprd
            .http()
            .post(&format!("/v1.0/publish/pubsub/{topic}"), &json!(topic))
            .await
            .expect_status(204);
        let letter = app.called("/dead", index + 1).await[index].json();
        assert_eq!(letter["data"], json!(topic));
    }
    daprd.stop().await;
}

const ROUTES: &str = r#"
apiVersion: dapr.io/v2alpha1
kind: Subscription
metadata:
  name: orders
spec:
  pubsubname: pubsub
  topic: orders
  routes:
    rules:
    - match: event.type == "widget"
      path: /widgets
    - match: event.data.size > 10
      path: /large
    default: /other
scopes: [app]
"#;

#[tokio::test]
async fn declarative_routes() {
    let app = App::builder()
        .route("/widgets", Answer::status(200))
        .route("/large", Answer::status(200))
        .route("/other", Answer::status(200))
        .start()
        .await;
    let daprd = Daprd::builder("app")
        .resources(PUBSUB)
        .resources(ROUTES)
        .app(&app)
        .start()
        .await;
    daprd.subscribed("orders").await;
    let http = daprd.http();
    http.post(
        &format!("{PUBLISH}?metadata.cloudevent.type=widget"),
        &json!({"size": 20}),
    )
    .await
    .expect_status(204);
    http.post(PUBLISH, &json!({"size": 11}))
        .await
        .expect_status(204);
    http.post(PUBLISH, &json!({"size": 9}))
        .await
        .expect_status(204);
    assert_eq!(
        app.called("/widgets", 1).await[0].json()["data"],
        json!({"size": 20})
    );
    assert_eq!(
        app.called("/large", 1).await[0].json()["data"],
        json!({"size": 11})
    );
    assert_eq!(
        app.called("/other", 1).await[0].json()["data"],
        json!({"size": 9})
    );
    daprd.stop().await;
}

#[tokio::test]
async fn bulk_publish() {
    let (app, daprd) = subscriber(orders()).await;
    let entry = |id: &str, event: Value| json!({"entryId": id, "event": event, "contentType": "application/json"});
    for prefix in ["/v1.0", "/v1.0-alpha1"] {
        let path = format!("{prefix}/publish/bulk/pubsub/orders");
        let body = json!([entry("1", json!({"n": 1})), entry("2", json!({"n": 2}))]);
        daprd.http().post(&path, &body).await.expect_status(204);
    }
    assert_eq!(app.called("/orders", 4).await.len(), 4);
    let twice = json!([entry("1", json!(1)), entry("1", json!(2))]);
    let reply = daprd
        .http()
        .post("/v1.0/publish/bulk/pubsub/orders", &twice)
        .await;
    reply.expect_error(400, "ERR_PUBSUB_EVENTS_SER");
    daprd.stop().await;
}

#[tokio::test]
async fn bulk_subscribe() {
    let app = App::builder()
        .subscriptions(&json!([{
            "pubsubname": "pubsub", "topic": "orders", "route": "/bulk",
            "bulkSubscribe": {"enabled": true, "maxMessagesCount": 10, "maxAwaitDurationMs": 100},
        }]))
        .respond("/bulk", |call| async move {
            let entries = call.json()["entries"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let statuses: Vec<_> = entries
                .iter()
                .map(|entry| json!({"entryId": entry["entryId"], "status": "SUCCESS"}))
                .collect();
            Answer::json(&json!({"statuses": statuses}))
        })
        .start()
        .await;
    let daprd = Daprd::builder("app")
        .resources(PUBSUB)
        .app(&app)
        .start()
        .await;
    daprd.subscribed("orders").await;
    daprd
        .http()
        .post(PUBLISH, &json!({"n": 1}))
        .await
        .expect_status(204);
    let body = app.called("/bulk", 1).await[0].json();
    assert_eq!(
        body["entries"][0]["event"]["data"],
        json!({"n": 1}),
        "{body}"
    );
    daprd.stop().await;
}

#[tokio::test]
async fn a_grpc_app() {
    let callbacks = Callbacks::default()
        .subscribe("pubsub", "orders")
        .statuses(&[TopicEventResponseStatus::Drop]);
    let app = App::builder().callbacks(callbacks.clone()).start().await;
    let daprd = Daprd::builder("app")
        .resources(PUBSUB)
        .grpc_app(&app)
        .start()
        .await;
    daprd.subscribed("orders").await;
    for data in ["dropped", "kept"] {
        let request = PublishEventRequest {
            pubsub_name: "pubsub".into(),
            topic: "orders".into(),
            data: data.into(),
            data_content_type: "text/plain".into(),
            ..Default::default()
        };
        daprd
            .grpc()
            .publish_event(request)
            .await
            .expect("published");
    }
    let mut events = callbacks.events(2).await;
    events.sort_by(|a, b| a.data.cmp(&b.data));
    let event = &events[1];
    assert_eq!(
        (event.data.as_ref(), event.data_content_type.as_str()),
        (&b"kept"[..], "text/plain")
    );
    assert_eq!(
        (event.source.as_str(), event.r#type.as_str()),
        ("app", "com.dapr.event.sent")
    );
    assert!(event.extensions.is_some());
    daprd.stop().await;
}

#[tokio::test]
async fn a_stream_that_says_nothing_does_not_hold_up_the_shutdown() {
    let daprd = Daprd::builder("app").resources(PUBSUB).start().await;
    let (_silent, receiver) = tokio::sync::mpsc::channel::<SubscribeTopicEventsRequestAlpha1>(1);
    let mut grpc: DaprClient<_> = daprd.grpc();
    let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut later = grpc.clone();
    let mut call = std::pin::pin!(grpc.subscribe_topic_events_alpha1(requests));
    // On one connection what is answered has come after the stream.
    tokio::select! {
        biased;
        answer = &mut call => panic!("nobody has asked for anything: {answer:?}"),
        metadata = later.get_metadata(GetMetadataRequest {}) => metadata.expect("metadata"),
    };
    let (answer, ()) = tokio::join!(call, daprd.stop());
    assert!(answer.is_err(), "the stream has ended");
}

#[tokio::test]
async fn a_subscription_over_a_stream() {
    let daprd = Daprd::builder("app").resources(PUBSUB).start().await;
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let send = |kind| {
        let request = SubscribeTopicEventsRequestAlpha1 {
            subscribe_topic_events_request_type: Some(kind),
        };
        let sender = sender.clone();
        async move { sender.send(request).await.expect("the stream is open") }
    };
    let initial = SubscribeTopicEventsRequestInitialAlpha1 {
        pubsub_name: "pubsub".into(),
        topic: "orders".into(),
        ..Default::default()
    };
    send(FromApp::InitialRequest(initial)).await;
    let mut grpc: DaprClient<_> = daprd.grpc();
    let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut stream = grpc
        .subscribe_topic_events_alpha1(requests)
        .await
        .expect("opened")
        .into_inner();
    let first = wait::within("the first message", wait::DEADLINE, stream.message())
        .await
        .expect("no error");
    let kind = first.and_then(|message| message.subscribe_topic_events_response_type);
    assert!(matches!(kind, Some(ToApp::InitialResponse(_))), "{kind:?}");

    for number in 1..=2 {
        daprd
            .http()
            .post(PUBLISH, &json!(number))
            .await
            .expect_status(204);
        let message = wait::within("an event", wait::DEADLINE, stream.message())
            .await
            .expect("no error");
        let Some(ToApp::EventMessage(event)) =
            message.and_then(|m| m.subscribe_topic_events_response_type)
        else {
            panic!("no event");
        };
        assert_eq!(event.data, number.to_string());
        send(FromApp::EventProcessed(
            SubscribeTopicEventsRequestProcessedAlpha1 {
                id: event.id,
                status: Some(TopicEventResponse {
                    status: TopicEventResponseStatus::Success.into(),
                }),
            },
        ))
        .await;
    }
    drop(stream);
    daprd.stop().await;
}

#[tokio::test]
async fn errors_as_clients_know_them() {
    let _alone = wait::alone().await;
    let scoped = component(
        "scoped",
        "pubsub.in-memory",
        &[("publishingScopes", "app=other")],
    );
    let daprd = Daprd::builder("app")
        .resources(PUBSUB)
        .resources(&scoped)
        .start()
        .await;
    let http = daprd.http();
    let headers = &["content-type"];
    golden::check(
        "pubsub_not_found",
        &http.post("/v1.0/publish/nobody/orders", &json!(1)).await,
        headers,
    );
    golden::check(
        "pubsub_forbidden",
        &http.post("/v1.0/publish/scoped/orders", &json!(1)).await,
        headers,
    );
    http.post("/v1.0/publish/pubsub/", &json!(1))
        .await
        .expect_error(404, "ERR_DIRECT_INVOKE"); // without a topic it is no route of publishing
    let request = PublishEventRequest {
        pubsub_name: "nobody".into(),
        topic: "t".into(),
        ..Default::default()
    };
    let error = daprd
        .grpc()
        .publish_event(request)
        .await
        .expect_err("no such pub/sub");
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    let request = PublishEventRequest {
        pubsub_name: "pubsub".into(),
        ..Default::default()
    };
    let error = daprd
        .grpc()
        .publish_event(request)
        .await
        .expect_err("no topic");
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    daprd.stop().await;

    let daprd = Daprd::builder("app").start().await;
    let reply = daprd.http().post(PUBLISH, &json!(1)).await;
    reply.expect_error(404, "ERR_PUBSUB_NOT_FOUND");
    daprd.stop().await;
}
