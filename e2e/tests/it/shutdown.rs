//! How a sidecar ends (contract 9.4; process behaviour 4.1).

use std::time::Duration;

use e2e::app::Answer;
use e2e::process::Signal;
use e2e::{App, Daprd, Placement, Sentry, wait};
use http::Method;
use serde_json::json;
use tokio::{net::TcpListener, sync::watch};

use crate::resources::{PUBSUB, STATE, component, orders};

const END: Duration = Duration::from_secs(15);

/// A sidecar that waits for no call longer than a second when it ends.
async fn impatient(app: &App) -> Daprd {
    Daprd::builder("app")
        .app(app)
        .flag("dapr-graceful-shutdown-seconds", "1")
        .start()
        .await
}

/// An app whose `/slow` answers only when the test opens the gate.
async fn gated() -> (App, watch::Sender<bool>) {
    let (gate, opened) = watch::channel(false);
    let app = App::builder()
        .respond("/slow", move |_| {
            let mut opened = opened.clone();
            async move {
                opened.wait_for(|open| *open).await.ok();
                Answer::bytes("done")
            }
        })
        .start()
        .await;
    (app, gate)
}

#[tokio::test]
async fn signals_end_it_with_code_0() {
    for signal in [Signal::Interrupt, Signal::Terminate] {
        let mut daprd = Daprd::builder("app")
            .resources(STATE)
            .resources(PUBSUB)
            .start()
            .await;
        daprd.signal(signal).await;
        assert_eq!(daprd.process().exit_code(END).await, 0, "{signal:?}");
        assert!(
            daprd.log().contains("Daprd shutdown gracefully"),
            "{}",
            daprd.log()
        );
    }
}

#[tokio::test]
async fn the_api_ends_it() {
    let _alone = wait::alone().await;
    let mut daprd = Daprd::builder("app").start().await;
    daprd
        .http()
        .request(Method::POST, "/v1.0/shutdown")
        .send()
        .await
        .expect_status(204);
    assert_eq!(daprd.process().exit_code(END).await, 0);
    assert!(
        daprd.log().contains("Shutdown requested via API"),
        "{}",
        daprd.log()
    );

    let mut daprd = Daprd::builder("app").start().await;
    daprd
        .grpc()
        .shutdown(proto::runtime::v1::ShutdownRequest {})
        .await
        .expect("accepted");
    assert_eq!(daprd.process().exit_code(END).await, 0);
}

#[tokio::test]
async fn force_ends_it_with_code_1() {
    let mut daprd = Daprd::builder("app").start().await;
    let request = daprd
        .http()
        .request(Method::POST, "/v1.0/shutdown")
        .header("dapr-force-shutdown", "true");
    request.attempt().await.ok(); // it may be gone before the answer
    assert_eq!(daprd.process().exit_code(END).await, 1);
    let line = "Force shutdown requested, exiting immediately without graceful shutdown";
    assert!(daprd.log().contains(line), "{}", daprd.log());
}

#[tokio::test]
async fn calls_in_flight_are_finished() {
    let (app, gate) = gated().await;
    let mut daprd = Daprd::builder("app").app(&app).start().await;
    let client = daprd.http();
    let call = client
        .request(Method::GET, "/v1.0/invoke/app/method/slow")
        .send();
    let end = async {
        app.called("/slow", 1).await;
        daprd.signal(Signal::Interrupt).await;
        // New connections are refused while the old call goes on.
        daprd.closed().await;
        gate.send_replace(true);
    };
    let (reply, ()) = futures::join!(call, end);
    assert_eq!(reply.expect_status(200).text(), "done");
    assert_eq!(daprd.process().exit_code(END).await, 0);
}

#[tokio::test]
async fn a_call_that_never_ends_cannot_hold_it() {
    let (app, _gate) = gated().await;
    let mut daprd = impatient(&app).await;
    let client = daprd.http();
    let call = client
        .request(Method::GET, "/v1.0/invoke/app/method/slow")
        .attempt();
    let end = async {
        app.called("/slow", 1).await;
        daprd.signal(Signal::Interrupt).await;
        daprd.process().exit_code(END).await
    };
    let (reply, code) = futures::join!(call, end);
    assert_eq!((reply.is_err(), code), (true, 1));
    let line = "Graceful shutdown timeout exceeded, forcing shutdown";
    assert!(daprd.log().contains(line), "{}", daprd.log());
}

#[tokio::test]
async fn a_call_that_never_ends_cannot_hold_up_a_restart() {
    let (app, _gate) = gated().await;
    let daprd = impatient(&app).await;
    let client = daprd.http();
    let call = client
        .request(Method::GET, "/v1.0/invoke/app/method/slow")
        .attempt();
    let restart = async {
        app.called("/slow", 1).await;
        // As a changed Resiliency does.
        let resiliency = "apiVersion: dapr.io/v1alpha1\nkind: Resiliency\nmetadata:\n  name: new\n";
        daprd.write_resource("new.yaml", resiliency);
        daprd
            .metadata_until("the next life", |metadata| {
                metadata["resiliencies"][0]["name"] == "new"
            })
            .await;
    };
    let (reply, ()) = futures::join!(call, restart);
    assert!(reply.is_err(), "it was broken off");
    assert!(
        daprd.log().contains("they are broken off for the restart"),
        "{}",
        daprd.log()
    );
    daprd.stop().await;
}

#[tokio::test]
async fn force_waits_for_no_call() {
    let (app, _gate) = gated().await;
    let mut daprd = Daprd::builder("app")
        .app(&app)
        .flag("dapr-graceful-shutdown-seconds", "300")
        .start()
        .await;
    let client = daprd.http();
    let call = client
        .request(Method::GET, "/v1.0/invoke/app/method/slow")
        .attempt();
    let end = async {
        app.called("/slow", 1).await;
        let force = daprd
            .http()
            .request(Method::POST, "/v1.0/shutdown")
            .header("dapr-force-shutdown", "true");
        force.attempt().await.ok();
        daprd.process().exit_code(END).await
    };
    let (reply, code) = futures::join!(call, end);
    assert_eq!((reply.is_err(), code), (true, 1));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (app, _gate) = gated().await;
    let mut daprd = Daprd::builder("app")
        .app(&app)
        .flag("dapr-graceful-shutdown-seconds", "300")
        .start()
        .await;
    let client = daprd.http();
    let call = client
        .request(Method::GET, "/v1.0/invoke/app/method/slow")
        .attempt();
    let end = async {
        app.called("/slow", 1).await;
        daprd.signal(Signal::Interrupt).await;
        daprd.closed().await;
        daprd.signal(Signal::Interrupt).await;
        daprd.process().exit_code(END).await
    };
    let (_, code) = futures::join!(call, end);
    assert_eq!(code, 1);
}

/// A subscribed app whose health the test decides on, and a sidecar that would block its shutdown for three minutes.
async fn blocking(period: &str) -> (App, watch::Sender<bool>, Daprd) {
    let (health, told) = watch::channel(true);
    let app = App::builder()
        .subscriptions(&orders())
        .route("/orders", Answer::status(200))
        .health(told)
        .start()
        .await;
    let daprd = Daprd::builder("app")
        .resources(PUBSUB)
        .resources(STATE)
        .app(&app)
        .flag("dapr-block-shutdown-duration", period)
        .app_health_checks()
        .start()
        .await;
    daprd.subscribed("orders").await;
    (app, health, daprd)
}

async fn publish(daprd: &Daprd) {
    let client = daprd.http();
    let event = json!({"n": 1});
    client
        .post("/v1.0/publish/pubsub/orders", &event)
        .await
        .expect_status(204);
}

#[tokio::test]
async fn a_blocked_shutdown_serves_on_until_the_app_is_away() {
    let (app, health, mut daprd) = blocking("180s").await;
    publish(&daprd).await;
    app.called("/orders", 1).await;
    daprd.signal(Signal::Interrupt).await;
    daprd
        .logged("Blocking graceful shutdown for 3m0s or until app reports unhealthy...")
        .await;
    // The app goes on being asked for its health, but is sent nothing that is published.
    publish(&daprd).await;
    let probes = app.calls("/healthz").len();
    app.called("/healthz", probes + 2).await;
    daprd
        .http()
        .post("/v1.0/state/statestore", &json!([{"key": "a", "value": 1}]))
        .await
        .expect_status(204);
    assert_eq!(app.calls("/orders").len(), 1);
    health.send_replace(false);
    assert_eq!(daprd.process().exit_code(END).await, 0);
    for line in [
        "App reported unhealthy, entering shutdown...",
        "Daprd shutdown gracefully",
    ] {
        assert!(daprd.log().contains(line), "{}", daprd.log());
    }
}

#[tokio::test]
async fn a_blocked_shutdown_ends_by_itself() {
    let (_app, _health, mut daprd) = blocking("2s").await;
    daprd.signal(Signal::Interrupt).await;
    daprd
        .logged("Blocking graceful shutdown for 2s or until app reports unhealthy...")
        .await;
    daprd.http().get("/v1.0/metadata").await.expect_status(200);
    assert_eq!(daprd.process().exit_code(END).await, 0);
    assert!(
        daprd
            .log()
            .contains("Block shutdown period expired, entering shutdown..."),
        "{}",
        daprd.log()
    );
}

#[tokio::test]
async fn the_api_does_not_wait_for_the_platform() {
    let (_app, _health, mut daprd) = blocking("180s").await;
    daprd
        .http()
        .request(Method::POST, "/v1.0/shutdown")
        .send()
        .await
        .expect_status(204);
    assert_eq!(daprd.process().exit_code(END).await, 0);
}

#[tokio::test]
async fn a_delivery_in_flight_is_finished_while_it_blocks() {
    let (gate, opened) = watch::channel(false);
    let app = App::builder()
        .subscriptions(&orders())
        .respond("/orders", move |_| {
            let mut opened = opened.clone();
            async move {
                opened.wait_for(|open| *open).await.ok();
                Answer::status(200)
            }
        })
        .start()
        .await;
    let mut daprd = Daprd::builder("app")
        .resources(PUBSUB)
        .app(&app)
        .flag("dapr-block-shutdown-duration", "3s")
        .start()
        .await;
    daprd.subscribed("orders").await;
    publish(&daprd).await;
    app.called("/orders", 1).await;
    daprd.signal(Signal::Interrupt).await;
    daprd.logged("Blocking graceful shutdown for 3s").await;
    gate.send_replace(true);
    let delivered = "dapr_component_pubsub_ingress_count";
    wait::eventually("the delivery to be counted", wait::DEADLINE, || async {
        let page = daprd.metrics().get("/metrics").await.text();
        let mut lines = page.lines();
        lines.any(|line| line.starts_with(delivered) && line.contains("process_status=\"success\""))
    })
    .await;
    assert_eq!(daprd.process().exit_code(END).await, 0);
}

#[tokio::test]
async fn before_it_is_ready() {
    let mut daprd = Daprd::builder("app").app_port(App::reserve_port()).spawn();
    daprd
        .logged("waiting for application to listen on port")
        .await;
    daprd.signal(Signal::Interrupt).await;
    assert_eq!(daprd.process().exit_code(END).await, 0);
}

#[tokio::test]
async fn the_control_plane_ends_with_code_0() {
    let sentry = Sentry::start().await;
    let placement = Placement::builder().sentry(&sentry).start().await;
    let daprd = Daprd::builder("app")
        .sentry(&sentry)
        .placement(&placement)
        .start()
        .await;
    // With a sidecar connected, so that streams are open.
    placement.stop().await;
    sentry.stop().await;
    daprd.stop().await;
}

#[tokio::test]
async fn a_component_that_does_not_open_does_not_hold_it() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("bound").to_string();
    let mut daprd = Daprd::builder("app").start().await;
    let store = component("store", "state.redis", &[("redisHost", &address)]);
    let patient = store.replace("spec:\n", "spec:\n  initTimeout: 10m\n");
    assert_ne!(store, patient);
    daprd.write_resource("store.yaml", &patient);
    let opening = silent.accept().await.expect("it is opened");
    daprd.signal(Signal::Terminate).await;
    assert_eq!(daprd.process().exit_code(END).await, 0, "{}", daprd.log());
    drop(opening);
}
