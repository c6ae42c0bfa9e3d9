//! Bindings: outputs over both APIs, and a clock that calls apps of both kinds.

use std::collections::HashMap;

use bytes::Bytes;
use e2e::app::{Answer, Callbacks};
use e2e::process::Signal;
use e2e::{App, Daprd, wait};
use http::Method;
use proto::runtime::v1::{BindingEventResponse, InvokeBindingRequest};
use serde_json::{Value, json};
use tokio::sync::watch;
use tonic::Code;

use crate::resources::component;

/// An output to an app that answers as it is told.
fn endpoint(app: &App) -> String {
    let url = format!("http://127.0.0.1:{}", app.port());
    component("endpoint", "bindings.http", &[("url", &url)])
}

fn clock(schedule: &str, more: &[(&str, &str)]) -> String {
    let fields = [&[("schedule", schedule)], more].concat();
    component("clock", "bindings.cron", &fields)
}

fn ask(operation: &str, metadata: &[(&str, &str)]) -> Value {
    let metadata: HashMap<_, _> = metadata.iter().copied().collect();
    json!({"operation": operation, "data": {"b": 1, "a": "<"}, "metadata": metadata})
}

const ENDPOINT: &str = "/v1.0/bindings/endpoint";

#[tokio::test]
async fn an_endpoint_is_called_and_its_answer_comes_with_headers() {
    let there = App::builder()
        .route("/ok", Answer::bytes("answer").header("x-own", "1"))
        .route("/bad", Answer::bytes("problem").with_status(404))
        .start()
        .await;
    let daprd = Daprd::builder("app").resources(&endpoint(&there));
    let daprd = daprd.start().await;
    let http = daprd.http();
    let reply = http.post(ENDPOINT, &ask("post", &[("path", "/ok")])).await;
    let reply = reply.expect_status(200);
    assert_eq!(reply.text(), "answer");
    assert_eq!(reply.header("metadata.statuscode"), "200");
    assert_eq!(reply.header("metadata.x-own"), "1");
    let calls = there.called("/ok", 1).await;
    assert_eq!(calls[0].body, r#"{"a":"\u003c","b":1}"#);
    assert_eq!(calls[0].method, Method::POST);

    let reply = http.post(ENDPOINT, &ask("get", &[("path", "bad")])).await;
    let reply = reply.expect_error(500, "ERR_INVOKE_OUTPUT_BINDING");
    assert_eq!(reply.header("metadata.statuscode"), "404");
    let text = "error invoking output binding endpoint: received status code 404";
    assert_eq!(reply.json()["message"], text);
    let lenient = [("path", "bad"), ("errorIfNot2XX", "false")];
    let reply = http.post(ENDPOINT, &ask("get", &lenient)).await;
    assert_eq!(reply.expect_status(200).text(), "problem");

    let mut grpc = daprd.grpc();
    let request = |operation: &str, path: &str| InvokeBindingRequest {
        name: "endpoint".to_owned(),
        data: Bytes::from_static(b"data"),
        metadata: [("path".to_owned(), path.to_owned())].into(),
        operation: operation.to_owned(),
    };
    let answer = grpc.invoke_binding(request("put", "ok")).await.unwrap();
    assert_eq!(answer.metadata().get("metadata.statuscode").unwrap(), "200");
    let answer = answer.into_inner();
    assert_eq!(
        (&*answer.data, &*answer.metadata["X-Own"]),
        (&b"answer"[..], "1")
    );
    let error = grpc
        .invoke_binding(request("get", "bad"))
        .await
        .unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Internal, text));
    assert_eq!(error.metadata().get("metadata.statuscode").unwrap(), "404");
    daprd.stop().await;
}

#[tokio::test]
async fn what_cannot_be_invoked_is_told() {
    let there = App::builder().start().await;
    let daprd = Daprd::builder("app").resources(&endpoint(&there));
    let daprd = daprd.start().await;
    let http = daprd.http();
    for (name, operation, text) in [
        ("endpoint", "", "operation field is missing from request"),
        ("none", "get", "couldn't find output binding none"),
        (
            "endpoint",
            "list",
            "binding endpoint does not support operation list. supported operations:\
             create get head post put patch delete options trace",
        ),
    ] {
        let path = format!("/v1.0/bindings/{name}");
        let reply = http.post(&path, &ask(operation, &[])).await;
        let reply = reply.expect_error(500, "ERR_INVOKE_OUTPUT_BINDING");
        let text = format!("error invoking output binding {name}: {text}");
        assert_eq!(reply.json()["message"], text);
    }
    let malformed = http.request(Method::POST, ENDPOINT).body("{").send().await;
    malformed.expect_error(400, "ERR_MALFORMED_REQUEST");
    daprd.stop().await;
}

#[tokio::test]
async fn files_are_kept_below_their_folder() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("files");
    let fields = [("rootPath", root.to_str().unwrap())];
    let files = component("files", "bindings.localstorage", &fields);
    let daprd = Daprd::builder("app").resources(&files).start().await;
    let http = daprd.http();
    let path = "/v1.0/bindings/files";
    let name = [("fileName", "../a.txt")];
    let mut create = ask("create", &name);
    create["data"] = "text!".into();
    let reply = http.post(path, &create).await.expect_status(200);
    assert_eq!(reply.json(), json!({"fileName": "a.txt"}));
    assert_eq!(
        std::fs::read_to_string(root.join("a.txt")).unwrap(),
        "text!"
    );
    let reply = http.post(path, &ask("get", &name)).await;
    assert_eq!(reply.expect_status(200).text(), "text!");
    let reply = http.post(path, &ask("delete", &name)).await;
    reply.expect_status(204);
    let capabilities = daprd.metadata().await["components"][0]["capabilities"].clone();
    assert_eq!(capabilities, json!(["OUTPUT_BINDING"]));
    daprd.stop().await;
}

#[tokio::test]
async fn a_clock_calls_an_http_app_which_saves_state_and_calls_outputs() {
    let there = App::builder().route("/", Answer::status(200)).start().await;
    let answer = json!({
        "storeName": "statestore",
        "state": [{"key": "tick", "value": 1}],
        "to": ["endpoint"],
        "data": {"b": 2, "a": 1},
    });
    let app = App::builder()
        .route("OPTIONS /ticks", Answer::status(405))
        .route("POST /ticks", Answer::json(&answer))
        .start()
        .await;
    let resources = [
        clock("@every 100ms", &[("route", "/ticks")]),
        endpoint(&there),
        component("statestore", "state.in-memory", &[]),
    ];
    let daprd = Daprd::builder("app")
        .resources(&resources.join("---\n"))
        .env("APP_API_TOKEN", "secret")
        .app(&app)
        .start()
        .await;
    let calls = app.called("/ticks", 2).await;
    assert_eq!(calls[0].method, Method::OPTIONS);
    assert_eq!(calls[0].header("dapr-api-token"), "secret");
    let event = &calls[1];
    assert_eq!(event.method, Method::POST);
    assert_eq!(event.header("timezone"), "Local");
    assert!(!event.header("readtimeutc").is_empty());
    assert_eq!(event.header("dapr-api-token"), "secret");
    let called = there.called("/", 1).await;
    assert_eq!(called[0].body, r#"{"a":1,"b":2}"#);
    wait::eventually("the state to be saved", wait::DEADLINE, || async {
        let saved = daprd.http().get("/v1.0/state/statestore/tick").await;
        saved.status == 200 && saved.text() == "1"
    })
    .await;
    let metrics = daprd.metrics().get("/").await.text();
    let success = |line: &&str| line.contains("success=\"true\"");
    for name in ["input_binding", "output_binding"] {
        let name = format!("dapr_component_{name}_count");
        let mut lines = metrics.lines().filter(|line| line.starts_with(&name));
        assert!(lines.any(|line| success(&line)), "{name}");
    }
    daprd.stop().await;
}

#[tokio::test]
async fn an_app_that_does_not_ask_for_a_binding_is_left_alone() {
    let app = App::builder()
        .route("OPTIONS /clock", Answer::status(404))
        .start()
        .await;
    let daprd = Daprd::builder("app").resources(&clock("@every 50ms", &[]));
    let daprd = daprd.app(&app).start().await;
    daprd
        .logged("app has not subscribed to binding clock.")
        .await;
    let posts = app.calls("/clock").into_iter();
    assert_eq!(posts.filter(|call| call.method == Method::POST).count(), 0);
    daprd.stop().await;
}

#[tokio::test]
async fn an_app_that_does_not_answer_in_time_is_asked_again() {
    let (ready, waits) = watch::channel(false);
    let app = App::builder()
        .respond("OPTIONS /clock", move |_| {
            let mut waits = waits.clone();
            async move {
                let _ = waits.wait_for(|ready| *ready).await;
                Answer::status(200)
            }
        })
        .route("POST /clock", Answer::status(200))
        .start()
        .await;
    let daprd = Daprd::builder("app").resources(&clock("@every 50ms", &[]));
    let daprd = daprd.flag("app-binding-options-timeout", "200ms");
    let daprd = daprd.app(&app).start().await;
    daprd.logged("error reading from input binding clock").await;
    ready.send_replace(true);
    wait::eventually("an event", wait::DEADLINE, || async {
        app.calls("/clock")
            .iter()
            .any(|call| call.method == Method::POST)
    })
    .await;
    daprd.stop().await;
}

#[tokio::test]
async fn events_pause_with_the_apps_health_and_end_with_the_sidecar() {
    let (healthy, health) = watch::channel(true);
    let (release, held) = watch::channel(false);
    let app = App::builder()
        .respond("POST /clock", move |_| {
            let mut held = held.clone();
            async move {
                let _ = held.wait_for(|released| *released).await;
                Answer::status(200)
            }
        })
        .health(health)
        .start()
        .await;
    let explicit = [("direction", "input")];
    let daprd = Daprd::builder("app").resources(&clock("@every 20ms", &explicit));
    let daprd = daprd.app(&app).app_health_checks().start().await;
    app.called("/clock", 1).await;
    release.send_replace(true);
    healthy.send_replace(false);
    daprd.logged("the app is not healthy").await;
    // From one look at the app's health to the next nothing comes.
    let looks = app.calls("/healthz").len();
    app.called("/healthz", looks + 1).await;
    let before = app.calls("/clock").len();
    app.called("/healthz", looks + 2).await;
    assert_eq!(app.calls("/clock").len(), before);
    healthy.send_replace(true);
    app.called("/clock", before + 1).await;
    daprd.stop().await;
}

/// An app whose clock handler goes on until `release` says otherwise, and which takes events of `orders` meanwhile.
fn slow(held: watch::Receiver<bool>) -> e2e::app::Builder {
    let subscriptions = json!([{"pubsubname": "pubsub", "topic": "orders", "route": "/orders"}]);
    App::builder()
        .respond("POST /clock", move |_| {
            let mut held = held.clone();
            async move {
                let _ = held.wait_for(|released| *released).await;
                Answer::status(200)
            }
        })
        .subscriptions(&subscriptions)
        .route("/orders", Answer::status(200))
        .route("POST /other", Answer::status(200))
}

#[tokio::test]
async fn an_event_that_takes_long_holds_up_nothing_else() {
    let (healthy, health) = watch::channel(true);
    let (release, held) = watch::channel(false);
    let app = slow(held).health(health).start().await;
    let explicit = [("direction", "input")];
    let pubsub = component("pubsub", "pubsub.in-memory", &[]);
    let daprd = Daprd::builder("app").resources(&clock("@every 20ms", &explicit));
    let daprd = daprd.resources(&pubsub);
    let daprd = daprd.app(&app).app_health_checks().start().await;
    app.called("/clock", 1).await;
    healthy.send_replace(false);
    daprd.logged("the app is not healthy").await;
    healthy.send_replace(true);
    // What is published while nobody subscribes is gone, so it is published until somebody does.
    let (http, event) = (daprd.http(), json!(1));
    wait::eventually("an event of the topic", wait::DEADLINE, || async {
        let published = http.post("/v1.0/publish/pubsub/orders", &event).await;
        published.expect_status(204);
        !app.calls("/orders").is_empty()
    })
    .await;
    // Nor the other bindings, however often this one changes.
    daprd.write_resource("0.yaml", &clock("@every 30ms", &explicit));
    let other = [("schedule", "@every 20ms"), ("direction", "input")];
    daprd.write_resource("other.yaml", &component("other", "bindings.cron", &other));
    app.called("/other", 1).await;
    release.send_replace(true);
    daprd.stop().await;
}

#[tokio::test]
async fn an_event_that_never_ends_is_broken_off_by_a_restart() {
    let (_release, held) = watch::channel(false);
    let app = slow(held).start().await;
    let explicit = [("direction", "input")];
    let daprd = Daprd::builder("app").resources(&clock("@every 20ms", &explicit));
    let daprd = daprd.flag("dapr-graceful-shutdown-seconds", "1");
    let daprd = daprd.app(&app).start().await;
    app.called("/clock", 1).await;
    let marker = "/v1.0/metadata/marker";
    daprd.http().put(marker, "set").await.expect_status(204);
    daprd.signal(Signal::Hangup).await;
    daprd
        .metadata_until("a fresh runtime", |metadata| {
            metadata["extended"]["marker"].is_null()
        })
        .await;
    let left = "components are not closed after";
    assert!(!daprd.log().contains(left), "{}", daprd.log());
    // The event of this life does not end either, and stopping is not what is looked at.
    daprd.kill().await;
}

#[tokio::test]
async fn an_event_under_way_ends_before_the_sidecar() {
    let (release, held) = watch::channel(false);
    let (done, finished) = watch::channel(false);
    let app = App::builder()
        .respond("POST /clock", move |_| {
            let (mut held, done) = (held.clone(), done.clone());
            async move {
                let _ = held.wait_for(|released| *released).await;
                // Not reached where the sidecar has broken the call off: the call is dropped with its connection.
                done.send_replace(true);
                Answer::status(200)
            }
        })
        .start()
        .await;
    let explicit = [("direction", "input")];
    let daprd = Daprd::builder("app").resources(&clock("@every 20ms", &explicit));
    let mut daprd = daprd.app(&app).start().await;
    app.called("/clock", 1).await;
    daprd.signal(Signal::Terminate).await;
    daprd.logged("dapr shutting down.").await;
    assert!(!*finished.borrow());
    release.send_replace(true);
    assert_eq!(daprd.process().exit_code(wait::DEADLINE).await, 0);
    assert!(*finished.borrow());
}

#[tokio::test]
async fn a_clock_calls_a_grpc_app() {
    let callbacks = Callbacks::default().binding(
        "clock",
        BindingEventResponse {
            to: vec!["endpoint".to_owned()],
            data: Bytes::from_static(b"{\"a\": 1}"),
            ..BindingEventResponse::default()
        },
    );
    let there = App::builder().route("/", Answer::status(200)).start().await;
    let app = App::builder().callbacks(callbacks.clone()).start().await;
    let resources = [clock("@every 100ms", &[]), endpoint(&there)].join("---\n");
    let daprd = Daprd::builder("app").resources(&resources);
    let daprd = daprd.grpc_app(&app).start().await;
    let events = callbacks.binding_events(2).await;
    assert_eq!(events[0].name, "clock");
    assert_eq!(events[0].metadata["timeZone"], "Local");
    let called = there.called("/", 1).await;
    assert_eq!(called[0].body, r#"{"a":1}"#);
    daprd.stop().await;
}
