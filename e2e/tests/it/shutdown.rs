//! How a sidecar ends (contract 9.4; process behaviour 4.1).

use std::time::Duration;

use e2e::app::Answer;
use e2e::process::Signal;
use e2e::{App, Daprd, Placement, Sentry, wait};
use http::Method;
use serde_json::json;
use tokio::sync::watch;

use crate::resources::{PUBSUB, STATE};

const END: Duration = Duration::from_secs(15);

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
        wait::eventually("the port to close", wait::DEADLINE, || async {
            daprd
                .http()
                .request(Method::GET, "/v1.0/healthz")
                .attempt()
                .await
                .is_err()
        })
        .await;
        gate.send_replace(true);
    };
    let (reply, ()) = futures::join!(call, end);
    assert_eq!(reply.expect_status(200).text(), "done");
    assert_eq!(daprd.process().exit_code(END).await, 0);
}

#[tokio::test]
async fn a_call_that_never_ends_cannot_hold_it() {
    let (app, _gate) = gated().await;
    let mut daprd = Daprd::builder("app")
        .app(&app)
        .flag("dapr-graceful-shutdown-seconds", "1")
        .start()
        .await;
    let client = daprd.http();
    let call = client
        .request(Method::GET, "/v1.0/invoke/app/method/slow")
        .attempt();
    let end = async {
        app.called("/slow", 1).await;
        daprd.signal(Signal::Interrupt).await;
        daprd.process().exit_code(END).await
    };
    let (_, code) = futures::join!(call, end);
    assert!(code == 0 || code == 1, "{code}");
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
        wait::eventually("the port to close", wait::DEADLINE, || async {
            daprd
                .http()
                .request(Method::GET, "/v1.0/healthz")
                .attempt()
                .await
                .is_err()
        })
        .await;
        daprd.signal(Signal::Interrupt).await;
        daprd.process().exit_code(END).await
    };
    let (_, code) = futures::join!(call, end);
    assert_eq!(code, 1);
}

#[tokio::test]
async fn a_blocked_shutdown_serves_on() {
    let app = App::builder()
        .subscriptions(&json!([{"pubsubname": "pubsub", "topic": "orders", "route": "/orders"}]))
        .route("/orders", Answer::status(200))
        .start()
        .await;
    let mut daprd = Daprd::builder("app")
        .resources(PUBSUB)
        .app(&app)
        .flag("dapr-block-shutdown-duration", "2s")
        .start()
        .await;
    daprd.subscribed("orders").await;
    daprd.signal(Signal::Interrupt).await;
    daprd
        .logged("Blocking graceful shutdown for 2s or until app reports unhealthy...")
        .await;
    // Not healthy any more, which tells others to stay away, but serving.
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
