//! A server of the official Python SDK, whose tools are listed and called by workflows that its resource brings.

use e2e::{
    Daprd,
    sdk::{self, Language, Scenario},
    wait,
    worker::ended,
};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::workflow::{Ground, start};

fn resource(endpoint: &Value) -> String {
    json!({
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "MCPServer",
        "metadata": { "name": "notes" },
        "spec": { "endpoint": endpoint },
    })
    .to_string()
}

/// Runs a workflow of the server; what it comes to.
async fn run(daprd: &Daprd, workflow: &str, id: &str, input: &Value) -> Value {
    let workflow = format!("dapr.internal.mcp.notes.{workflow}");
    start(daprd, &workflow, id, &input.to_string()).await;
    let (status, output) = ended(daprd, id).await;
    assert_eq!(status, "COMPLETED", "{output:?}");
    serde_json::from_str(&output.expect("it has completed")).expect("an answer in JSON")
}

async fn serves(app_id: &str, endpoint: &Value) {
    let ground = Ground::new().await;
    let daprd = ground.daprd(app_id).resources(&resource(endpoint));
    let daprd = daprd.start().await;
    let listed = run(&daprd, "ListTools", "list", &json!({})).await;
    let tools = listed["tools"].as_array().expect("a list");
    let names: Vec<_> = tools.iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, ["add", "refuse"]);
    let arguments = json!({ "arguments": { "a": 1, "b": 2 } });
    let sum = run(&daprd, "CallTool.add", "add", &arguments).await;
    assert_eq!(sum["structuredContent"], json!({ "result": 3 }));
    assert_eq!(sum["isError"], false);
    // What a tool refuses is an answer of it.
    let arguments = json!({ "arguments": { "text": "that" } });
    let refused = run(&daprd, "CallTool.refuse", "refuse", &arguments).await;
    assert_eq!(refused["isError"], true, "{refused}");
    daprd.stop().await;
}

/// Over a port on which the server listens.
async fn serves_on_a_port(app_id: &str, transport: &str, kind: &str, path: &str) {
    let port = e2e::ports::reserve().release();
    let args = [transport.to_owned(), port.to_string()];
    let _server = Scenario::run(Language::Python, "mcp_server.py", &args, &[]);
    wait::eventually("the server listens", wait::DEADLINE * 3, || async {
        TcpStream::connect(("127.0.0.1", port)).await.is_ok()
    })
    .await;
    let url = format!("http://127.0.0.1:{port}{path}");
    serves(app_id, &json!({ kind: { "url": url } })).await;
}

#[tokio::test]
async fn over_streamable_http() {
    serves_on_a_port("mcp-http", "streamable-http", "streamableHTTP", "/mcp").await;
}

#[tokio::test]
async fn over_server_sent_events() {
    serves_on_a_port("mcp-sse", "sse", "sse", "/sse").await;
}

#[tokio::test]
async fn over_the_pipes_of_a_process() {
    let (program, script) = sdk::python("mcp_server.py");
    let args = [script.display().to_string(), "stdio".to_owned()];
    let stdio = json!({ "stdio": { "command": program, "args": args } });
    serves("mcp-stdio", &stdio).await;
}
