//! Actors of the official SDKs for Python, JavaScript, Java, Go and Rust on our sidecar, unchanged: activation, state, timers, reminders, and
//! calls that come back to where they began.

use e2e::sdk::{Language, Scenario};
use e2e::{App, Daprd, Placement, Scheduler};

use crate::resources::component;

/// Runs a scenario as the app of a sidecar, with all that actors need.
async fn runs(language: Language, file: &str, mode: &[&str], protocol: &str) {
    let (placement, scheduler) =
        tokio::join!(Placement::builder().start(), Scheduler::builder().start());
    let port = App::reserve_port();
    let store = component("store", "state.in-memory", &[("actorStateStore", "true")]);
    let daprd = Daprd::builder("counters")
        .app_port(port)
        .flag("app-protocol", protocol)
        .placement(&placement)
        .flag("scheduler-host-address", &scheduler.address())
        .resources(&store)
        .spawn();
    let mode = mode.iter().map(|word| (*word).to_owned());
    let args: Vec<String> = mode.chain([port.to_string()]).collect();
    let mut scenario = Scenario::start(language, file, &args, &daprd);
    scenario.passes().await;
    daprd.stop().await;
}

#[tokio::test]
async fn python_over_http() {
    runs(Language::Python, "actors.py", &["http"], "http").await;
}

#[tokio::test]
async fn python_over_a_stream() {
    runs(Language::Python, "actors.py", &["stream"], "grpc").await;
}

#[tokio::test]
async fn javascript() {
    runs(Language::JavaScript, "actors.js", &[], "http").await;
}

#[tokio::test]
async fn java() {
    runs(Language::Java, "actors/Actors", &[], "http").await;
}

#[tokio::test]
async fn go_over_http() {
    runs(Language::Go, "actors", &["http"], "http").await;
}

#[tokio::test]
async fn go_over_a_stream() {
    runs(Language::Go, "actors", &["stream"], "grpc").await;
}

#[tokio::test]
async fn rust() {
    runs(Language::Rust, "actors", &[], "http").await;
}
