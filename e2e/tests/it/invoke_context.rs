//! What goes along with a call: its trace, also where there is none, and baggage.

use e2e::app::Answer;
use e2e::{App, Daprd};
use http::Method;
use proto::common::v1::{HttpExtension, InvokeRequest, http_extension::Verb};
use proto::runtime::v1::{GetMetadataRequest, GetStateRequest, InvokeServiceRequest};
use serde_json::json;
use tonic::{Code, Request, metadata::MetadataMap};

use crate::resources::component;

const NO_TRACE: &str = "00-00000000000000000000000000000000-0000000000000000-00";

async fn app() -> App {
    App::builder()
        .route("/m", Answer::status(200))
        .route("/bound", Answer::status(200))
        .start()
        .await
}

fn call() -> InvokeServiceRequest {
    InvokeServiceRequest {
        id: "app".into(),
        message: Some(InvokeRequest {
            method: "m".into(),
            http_extension: Some(HttpExtension {
                verb: Verb::Get.into(),
                querystring: String::new(),
            }),
            ..InvokeRequest::default()
        }),
    }
}

#[tokio::test]
async fn a_call_without_a_trace_says_so() {
    let app = app().await;
    let url = format!("http://127.0.0.1:{}/bound", app.port());
    let binding = component("bound", "bindings.http", &[("url", &url)]);
    let daprd = Daprd::builder("app")
        .app(&app)
        .resources(&binding)
        .start()
        .await;
    daprd
        .http()
        .get("/v1.0/invoke/app/method/m")
        .await
        .expect_status(200);
    daprd.grpc().invoke_service(call()).await.expect("called");
    let operation = json!({"operation": "get"}).to_string();
    let bound = daprd
        .http()
        .request(Method::POST, "/v1.0/bindings/bound")
        .body(operation);
    bound.send().await.expect_status(200);
    for path in ["/m", "/bound"] {
        for call in app.calls(path) {
            assert_eq!(call.header("traceparent"), NO_TRACE, "{path}");
        }
    }
    // Zeros that come in are no trace, either.
    let traced = format!("00-{}-{}-01", "1".repeat(32), "2".repeat(16));
    for (sent, arrives) in [(NO_TRACE, NO_TRACE), (&traced, &traced)] {
        let request = daprd
            .http()
            .request(Method::GET, "/v1.0/invoke/app/method/m");
        request
            .header("traceparent", sent)
            .send()
            .await
            .expect_status(200);
        let calls = app.calls("/m");
        assert_eq!(calls.last().expect("a call").header("traceparent"), arrives);
    }
    daprd.stop().await;
}

const TRACED: &str = "
apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata:
  name: traced
spec:
  tracing:
    samplingRate: '1'
";

/// An answer says which trace its call is in.
#[tokio::test]
async fn answers_over_grpc_say_their_trace() {
    let app = app().await;
    let daprd = Daprd::builder("app").app(&app).config(TRACED).start().await;
    let traced = format!("00-{}-{}-01", "1".repeat(32), "2".repeat(16));
    let parent = || traced.parse().expect("ASCII");
    let mut request = Request::new(GetMetadataRequest {});
    request.metadata_mut().insert("traceparent", parent());
    let answer = daprd.grpc().get_metadata(request).await.expect("answered");
    let told = |metadata: &MetadataMap| {
        let told = metadata.get_bin("grpc-trace-bin")?;
        Some(told.to_bytes().expect("base64").to_vec())
    };
    let context = told(answer.metadata()).expect("a trace");
    assert_eq!(context.len(), 29);
    assert_eq!(context[2..18], [0x11; 16], "the caller's trace");
    assert_ne!(context[19..27], [0x22; 8], "a span of its own");
    let mut request = Request::new(GetStateRequest::default());
    request.metadata_mut().insert("traceparent", parent());
    let refused = daprd.grpc().get_state(request).await.expect_err("no store");
    assert!(told(refused.metadata()).is_some(), "{refused:?}");
    let mut request = Request::new(call());
    request.metadata_mut().insert("traceparent", parent());
    let answer = daprd.grpc().invoke_service(request).await.expect("called");
    let context = told(answer.metadata()).expect("a trace");
    assert_eq!(context[2..18], [0x11; 16]);
    assert!(answer.metadata().contains_key("traceparent"));
    daprd.stop().await;
}

#[tokio::test]
async fn baggage_goes_there_and_comes_back() {
    let app = app().await;
    let daprd = Daprd::builder("app").app(&app).start().await;
    let get = |baggage: &str| {
        let request = daprd
            .http()
            .request(Method::GET, "/v1.0/invoke/app/method/m");
        request.header("baggage", baggage).send()
    };
    let reply = get("a=1,b=%20").await.expect_status(200);
    assert_eq!(reply.header("baggage"), "a=1,b=%20");
    assert_eq!(app.calls("/m")[0].header("baggage"), "a=1,b=%20");
    let reply = get("none").await.expect_error(400, "ERR_MALFORMED_REQUEST");
    let text = reply.text();
    assert_eq!(text.matches("invalid baggage header").count(), 1, "{text}");

    let send = async |baggage: &str| {
        let mut request = Request::new(call());
        let value = baggage.parse().expect("ASCII");
        request.metadata_mut().insert("baggage", value);
        daprd.grpc().invoke_service(request).await
    };
    let reply = send("a=1").await.expect("called");
    assert_eq!(
        reply.metadata().get("baggage").expect("it comes back"),
        "a=1"
    );
    let error = send("none").await.expect_err("it is none");
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(
        error.message().starts_with("invalid baggage header"),
        "{error}"
    );
    assert_eq!(app.calls("/m").len(), 2);
    daprd.stop().await;
}
