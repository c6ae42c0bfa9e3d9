//! Workflows of the official SDKs for Python, JavaScript, Java, Go and Rust on our sidecar, unchanged: saga with compensation, fan out,
//! an event with a timeout, a child, retries, a loop of new runs; and a sidecar that is killed half-way, and starts again.

use e2e::sdk::{Language, Scenario};
use e2e::wait;

use crate::workflow::Ground;

async fn runs(language: Language, file: &str) {
    let ground = Ground::new().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let daprd = ground.daprd("shop").start().await;
    let port = daprd.grpc_port();
    let args = [folder.path().display().to_string()];
    let mut scenario = Scenario::start(language, file, &args, &daprd);
    let half = async {
        wait::eventually("the middle", wait::DEADLINE * 3, || async {
            folder.path().join("middle").exists()
        })
        .await;
        daprd.kill().await;
        let again = ground
            .daprd("shop")
            .flag("dapr-grpc-port", &port.to_string());
        let again = again.start().await;
        std::fs::write(folder.path().join("restarted"), "").expect("the folder is ours");
        again
    };
    // A scenario that fails does not come to its middle.
    let again = tokio::select! {
        again = half => again,
        () = scenario.passes() => panic!("the scenario ended before its middle"),
    };
    scenario.passes().await;
    again.stop().await;
}

#[tokio::test]
async fn python() {
    runs(Language::Python, "workflows.py").await;
}

#[tokio::test]
async fn javascript() {
    runs(Language::JavaScript, "workflows.js").await;
}

#[tokio::test]
async fn java() {
    runs(Language::Java, "workflows/Workflows").await;
}

#[tokio::test]
async fn go() {
    runs(Language::Go, "workflows").await;
}

#[tokio::test]
async fn rust() {
    runs(Language::Rust, "workflows").await;
}
