//! What happens at the start: limits that programs set for themselves, and what a sidecar asks its app for, and when
//! (contract 2.4, 2.5).

use e2e::app::Answer;
use e2e::{App, Daprd, Placement, wait};
use serde_json::json;
use tokio::sync::watch;

use crate::resources::{PUBSUB, orders};

#[tokio::test]
async fn what_is_switched_off_is_not_asked() {
    let app = App::builder().subscriptions(&orders()).start().await;
    let daprd = Daprd::builder("app")
        .resources(PUBSUB)
        .app(&app)
        .flag("disable-init-endpoints", "config,subscribe")
        .start()
        .await;
    for line in [
        "Skipping programmatic dapr configuration loading",
        "Skipping programmatic subscription loading",
    ] {
        daprd.logged(line).await;
    }
    assert!(app.calls("/dapr/config").is_empty());
    assert!(app.calls("/dapr/subscribe").is_empty());
    daprd.stop().await;
}

#[tokio::test]
async fn an_app_that_is_healthy_late_is_asked_then() {
    let (health, told) = watch::channel(false);
    let app = App::builder()
        .subscriptions(&orders())
        .route("/orders", Answer::status(200))
        .health(told)
        .start()
        .await;
    let daprd = Daprd::builder("app")
        .resources(PUBSUB)
        .app(&app)
        .app_health_checks()
        .start()
        .await;
    app.called("/healthz", 2).await;
    assert!(app.calls("/dapr/config").is_empty());
    assert!(app.calls("/dapr/subscribe").is_empty());
    let publish = || async {
        let event = json!({"n": 1});
        let reply = daprd
            .http()
            .post("/v1.0/publish/pubsub/orders", &event)
            .await;
        reply.expect_status(204);
    };
    publish().await;

    health.send_replace(true);
    daprd.subscribed("orders").await;
    assert_eq!(app.called("/dapr/config", 1).await.len(), 1);
    wait::eventually("a delivery", wait::DEADLINE, || async {
        publish().await;
        !app.calls("/orders").is_empty()
    })
    .await;

    health.send_replace(false);
    daprd.logged("nothing is taken in for it").await;
    daprd.logged("the app is unhealthy").await;
    wait::eventually("invocations to be refused", wait::DEADLINE, || async {
        daprd.http().get("/v1.0/invoke/app/method/x").await.status == 500
    })
    .await;
    let before = app.calls("/orders").len();
    publish().await;
    let probes = app.calls("/healthz").len();
    app.called("/healthz", probes + 2).await;
    assert_eq!(app.calls("/orders").len(), before);
    assert_eq!(app.calls("/dapr/subscribe").len(), 1);
    daprd.stop().await;
}

#[tokio::test]
async fn ready_means_that_the_app_is_there_and_its_subscriptions_are_open() {
    let port = App::reserve_port();
    let mut daprd = Daprd::builder("app")
        .resources(PUBSUB)
        .app_port(port)
        .spawn();
    daprd
        .logged("waiting for application to listen on port")
        .await;
    wait::eventually("calls to be possible", wait::DEADLINE, || async {
        let asked = daprd
            .http()
            .request(http::Method::GET, "/v1.0/healthz/outbound");
        let reply = asked.attempt().await;
        reply.is_ok_and(|reply| reply.status == 204)
    })
    .await;
    daprd.http().get("/v1.0/healthz").await.expect_status(500);

    let app = App::builder()
        .port(port)
        .subscriptions(&orders())
        .route("/orders", Answer::status(200))
        .start()
        .await;
    daprd.ready().await;
    let event = json!({"n": 1});
    let reply = daprd
        .http()
        .post("/v1.0/publish/pubsub/orders", &event)
        .await;
    reply.expect_status(204);
    app.called("/orders", 1).await;
    daprd.stop().await;
}

/// Shells and container engines start programs with a soft limit far below the hard one.
#[tokio::test]
async fn the_limit_of_open_files_is_raised() {
    let mut placement = Placement::builder().start().await;
    let mut daprd = Daprd::builder("app").start().await;
    for process in [placement.process(), daprd.process()] {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id()));
        let limits = limits.expect("the kernel tells");
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let words: Vec<&str> = line.expect("one line").split_whitespace().collect();
        assert_eq!(words[3], words[4], "soft and hard");
    }
    daprd.stop().await;
    placement.stop().await;
}
