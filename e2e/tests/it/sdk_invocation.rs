//! Apps of the official SDKs that call another app and are called by it, each beside a sidecar of its own.

use e2e::app::Answer;
use e2e::sdk::{Language, Scenario};
use e2e::{App, Daprd, wait};
use http::Method;

use crate::resources::configuration;

async fn runs(language: Language, file: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let names = configuration(&format!(
        "  nameResolution:
    component: sqlite
    version: v1
    configuration:
      connectionString: {}",
        folder.path().join("names.db").display()
    ));
    let other = App::builder()
        .respond("/echo", |call| async move {
            let kind = call.header("content-type").to_owned();
            Answer::bytes(call.body).header("content-type", &kind)
        })
        .start()
        .await;
    let beside = Daprd::builder("other").config(&names).app(&other);
    let port = App::reserve_port();
    let daprd = Daprd::builder("app").config(&names).app_port(port).spawn();
    let args = [port.to_string(), "other".to_owned()];
    let mut scenario = Scenario::start(language, file, &args, &daprd);
    let beside = beside.start().await;
    let calls = async {
        wait::eventually("an answer of the app", wait::DEADLINE * 3, || async {
            let request = beside
                .http()
                .request(Method::POST, "/v1.0/invoke/app/method/echo");
            let reply = request.body("of another").attempt().await;
            reply.is_ok_and(|reply| reply.status == 200 && reply.body == b"of another"[..])
        })
        .await;
    };
    tokio::join!(scenario.passes(), calls);
    let call = &other.calls("/echo")[0];
    assert_eq!(call.header("dapr-caller-app-id"), "app");
    daprd.stop().await;
    beside.stop().await;
}

#[tokio::test]
async fn java() {
    runs(Language::Java, "actors/Invocation").await;
}

#[tokio::test]
async fn go() {
    runs(Language::Go, "invocation").await;
}
