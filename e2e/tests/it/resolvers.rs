//! Sidecars that find each other by a SQLite file, and by Consul, for which an app of ours answers as its agent would.

use e2e::app::Answer;
use e2e::{App, Daprd};
use serde_json::json;

use crate::resources::configuration;

#[tokio::test]
async fn by_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("names.db");
    let names = configuration(&format!(
        "  nameResolution:
    component: sqlite
    version: v1
    configuration:
      connectionString: {}",
        file.display()
    ));
    let app = App::builder()
        .route("/m", Answer::bytes("found"))
        .start()
        .await;
    let callee = Daprd::builder("resolved")
        .config(&names)
        .app(&app)
        .start()
        .await;
    let caller = Daprd::builder("caller").config(&names).start().await;
    let reply = caller.http().get("/v1.0/invoke/resolved/method/m").await;
    assert_eq!(reply.expect_status(200).text(), "found");
    let reply = caller.http().get("/v1.0/invoke/nobody/method/m").await;
    let reply = reply.expect_error(500, "ERR_DIRECT_INVOKE");
    assert!(reply.text().contains("couldn't find service: nobody"));
    callee.stop().await;
    caller.stop().await;
}

/// What names sidecars by an agent on this port.
pub fn consul(port: u16) -> String {
    configuration(&format!(
        "  nameResolution:
    component: consul
    configuration:
      client: {{address: \"127.0.0.1:{port}\"}}"
    ))
}

/// An agent that knows one service, at a port of this machine.
pub async fn agent(service: &str, port: u16) -> App {
    let found = json!([{
        "Node": {"Address": "127.0.0.1"},
        "Service": {"Address": "", "Meta": {"DAPR_PORT": port.to_string()}},
    }]);
    App::builder()
        .route("/v1/agent/self", Answer::json(&json!({})))
        .route(
            &format!("/v1/health/service/{service}"),
            Answer::json(&found),
        )
        .start()
        .await
}

#[tokio::test]
async fn by_consul() {
    let app = App::builder()
        .route("/m", Answer::bytes("found"))
        .start()
        .await;
    let callee = Daprd::builder("resolved").app(&app).start().await;
    let agent = agent("resolved", callee.internal_port()).await;
    let caller = Daprd::builder("caller")
        .config(&consul(agent.port()))
        .start()
        .await;
    let path = "/v1/health/service/resolved";
    for _ in 0..5 {
        let reply = caller.http().get("/v1.0/invoke/resolved/method/m").await;
        assert_eq!(reply.expect_status(200).text(), "found");
    }
    let asked = agent.calls(path);
    assert_eq!(asked[0].query, "passing=1&cached");
    assert!(asked.len() < 5, "the agent is not asked for each call");
    callee.stop().await;
    caller.stop().await;
}
