//! Servers from their resources to the work items of their workflows.

use std::time::Duration;

use proto::durabletask::{
    ActivityRequest, ExecutionStartedEvent, HistoryEvent, OrchestrationStatus, WorkflowRequest,
    history_event::EventType, workflow_action::WorkflowActionType as Action,
};
use serde_json::{Value, json};
use workflow::workers::{Limits, Lost};

use super::*;
use crate::fake::Fake;

fn servers(fake: &Fake, actors: bool) -> (Servers, Workers) {
    let workers = Workers::new(Limits::default());
    let servers = Servers::new(Options {
        workers: workers.clone(),
        values: Arc::new(fake.clone()),
        lent: fake.lent(),
        spawn: Arc::new(fake.clone()),
        max_message: 1 << 20,
        kubernetes: false,
        directory: PathBuf::from("/"),
        actors,
    });
    (servers, workers)
}

fn resource(ignore_errors: bool) -> McpServer {
    let mut resource = Fake::resource(
        "a",
        &json!({ "streamableHTTP": { "url": "http://server/mcp" } }),
    );
    resource.spec.ignore_errors = ignore_errors;
    resource
}

fn turn(name: &str) -> WorkflowRequest {
    WorkflowRequest {
        instance_id: "i".to_owned(),
        new_events: vec![HistoryEvent {
            event_type: Some(EventType::ExecutionStarted(ExecutionStartedEvent {
                name: name.to_owned(),
                ..ExecutionStartedEvent::default()
            })),
            ..HistoryEvent::default()
        }],
        ..WorkflowRequest::default()
    }
}

/// What the first turn of a workflow asks for: the name of an activity, or why the workflow has failed.
async fn begun(workers: &Workers, name: &str) -> Result<String, String> {
    let mut response = workers.workflow(turn(name)).await.unwrap();
    assert_eq!(response.instance_id, "i");
    match response.actions.remove(0).workflow_action_type {
        Some(Action::ScheduleTask(task)) => Ok(task.name),
        Some(Action::CompleteWorkflow(end)) => {
            assert_eq!(end.workflow_status(), OrchestrationStatus::Failed);
            Err(end.failure_details.unwrap().error_message)
        }
        other => panic!("{other:?}"),
    }
}

async fn activity(workers: &Workers, name: &str, input: Value) -> Result<Value, String> {
    let request = ActivityRequest {
        name: name.to_owned(),
        input: Some(input.to_string()),
        task_id: 3,
        ..ActivityRequest::default()
    };
    let response = workers.activity(request).await.unwrap();
    assert_eq!(response.task_id, 3);
    match response.failure_details {
        Some(details) => Err(details.error_message),
        None => Ok(serde_json::from_str(&response.result.unwrap()).unwrap()),
    }
}

const CALL: &str = "dapr.internal.mcp.a.call-tool";
const LIST: &str = "dapr.internal.mcp.a.list-tools";

#[tokio::test(start_paused = true)]
async fn tools_of_a_server_are_workflows() {
    let fake = Fake::new(&["echo", "broken"]);
    let (servers, workers) = servers(&fake, true);
    let present = workers.present();
    assert!(!*present.borrow());
    servers.apply(resource(false)).await.unwrap();
    assert!(*present.borrow());
    assert_eq!(workers.count(), 0, "none is the app's");
    assert_eq!(servers.names(), ["a"]);
    let list = begun(&workers, "dapr.internal.mcp.a.ListTools").await;
    assert_eq!(list, Ok(LIST.to_owned()));
    let call = begun(&workers, "dapr.internal.mcp.a.CallTool.echo").await;
    assert_eq!(call, Ok(CALL.to_owned()));
    for other in ["a.CallTool.none", "b.ListTools", "a"] {
        let name = format!("dapr.internal.mcp.{other}");
        let expected = format!("workflow named '{name}' is not registered");
        assert_eq!(begun(&workers, &name).await, Err(expected));
    }
    let tools = activity(&workers, LIST, json!(null)).await.unwrap();
    assert_eq!(tools["tools"][1]["name"], "broken");
    let input = json!({ "tool_name": "echo", "arguments": { "text": "hello" } });
    let result = activity(&workers, CALL, input).await.unwrap();
    assert_eq!(result, json!({ "content": ["hello"] }));
    let input = json!({ "tool_name": "echo", "arguments": { "other": 1 } });
    let result = activity(&workers, CALL, input).await.unwrap();
    assert_eq!(result["isError"], true);
    let text = result["content"][0]["text"].as_str().unwrap();
    assert!(
        text.contains("missing required argument(s)") && text.ends_with("text"),
        "{text}"
    );
    let input = json!({ "tool_name": "broken", "arguments": { "text": "" } });
    let result = activity(&workers, CALL, input).await.unwrap();
    assert!(result.to_string().contains("it is broken"), "{result}");
    servers.remove("a");
    assert!(!*present.borrow());
    assert!(activity(&workers, LIST, json!(null)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_gone_is_opened_anew() {
    let fake = Fake::new(&["echo"]);
    let (servers, workers) = servers(&fake, true);
    servers.apply(resource(false)).await.unwrap();
    fake.restart();
    let input = json!({ "tool_name": "echo", "arguments": { "text": "hello" } });
    let result = activity(&workers, CALL, input).await.unwrap();
    assert_eq!(result, json!({ "content": ["hello"] }));
    assert_eq!(fake.seen("initialize").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_broke_off_is_not_made_again() {
    for (transport, path) in [("streamableHTTP", "mcp"), ("sse", "sse")] {
        let fake = Fake::new(&["echo"]);
        let (servers, workers) = servers(&fake, true);
        let url = format!("http://server/{path}");
        let resource = Fake::resource("a", &json!({ transport: { "url": url } }));
        servers.apply(resource).await.unwrap();
        fake.break_off(1);
        let input = json!({ "tool_name": "echo", "arguments": { "text": "hello" } });
        let result = activity(&workers, CALL, input.clone()).await.unwrap();
        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(text.contains("broke off before the answer"), "{text}");
        assert_eq!(fake.seen("tools/call").len(), 1, "{transport}");
        let result = activity(&workers, CALL, input).await.unwrap();
        assert_eq!(result, json!({ "content": ["hello"] }));
        assert_eq!(fake.seen("initialize").len(), 2, "on a new connection");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_has_not_left_is_made_again() {
    let fake = Fake::new(&["echo"]);
    let (servers, workers) = servers(&fake, true);
    servers.apply(resource(false)).await.unwrap();
    fake.away(1);
    let input = json!({ "tool_name": "echo", "arguments": { "text": "hello" } });
    let result = activity(&workers, CALL, input).await.unwrap();
    assert_eq!(result, json!({ "content": ["hello"] }));
    assert_eq!(fake.seen("tools/call").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_is_tried_a_few_times() {
    let fake = Fake::new(&["echo"]);
    let (servers, workers) = servers(&fake, true);
    fake.refuse(2);
    servers.apply(resource(false)).await.unwrap();
    assert!(*workers.present().borrow());
    fake.refuse(usize::MAX);
    let error = servers
        .apply(resource(false))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("process MCPServer a error: MCPServer \"a\": failed"),
        "{error}"
    );
    assert!(error.contains("503"), "{error}");
    assert!(!*workers.present().borrow());
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_errors_are_ignored_is_tried_until_it_is_there() {
    let fake = Fake::new(&["echo"]);
    let (servers, workers) = servers(&fake, true);
    let mut present = workers.present();
    fake.refuse(20);
    servers.apply(resource(true)).await.unwrap();
    assert_eq!(servers.names(), ["a"]);
    assert!(!*present.borrow());
    let error = begun(&workers, "dapr.internal.mcp.a.ListTools")
        .await
        .unwrap_err();
    assert!(
        error.contains("is not registered") && error.contains("503"),
        "{error}"
    );
    let hours = Duration::from_secs(3600);
    let there = present.wait_for(|present| *present);
    tokio::time::timeout(hours, there).await.unwrap().unwrap();
    assert!(
        begun(&workers, "dapr.internal.mcp.a.ListTools")
            .await
            .is_ok()
    );
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_is_wrong_is_no_server_any_more() {
    let fake = Fake::new(&["echo"]);
    let (servers, workers) = servers(&fake, true);
    servers.apply(resource(true)).await.unwrap();
    let wrong = |ignore_errors| {
        let mut wrong = Fake::resource("a", &json!({ "sse": { "url": "ftp://a" } }));
        wrong.spec.ignore_errors = ignore_errors;
        wrong
    };
    servers.apply(wrong(true)).await.unwrap();
    assert!(servers.names().is_empty());
    assert!(!*workers.present().borrow());
    let error = servers.apply(wrong(false)).await.unwrap_err().to_string();
    let expected = "process MCPServer a error: MCPServer \"a\" failed security validation:";
    assert!(error.starts_with(expected), "{error}");
}

#[tokio::test(start_paused = true)]
async fn without_actors_servers_are_listed_only() {
    let fake = Fake::new(&["echo"]);
    let (servers, workers) = servers(&fake, false);
    servers.apply(resource(false)).await.unwrap();
    assert_eq!(servers.names(), ["a"]);
    assert!(fake.seen("initialize").is_empty());
    assert!(!*workers.present().borrow());
}

#[tokio::test(start_paused = true)]
async fn what_the_end_breaks_off_has_no_result() {
    let fake = Fake::new(&["echo"]);
    let (servers, workers) = servers(&fake, true);
    servers.apply(resource(false)).await.unwrap();
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    servers.clone().run(shutdown).await;
    let request = ActivityRequest {
        name: CALL.to_owned(),
        ..ActivityRequest::default()
    };
    assert_eq!(workers.activity(request).await, Err(Lost));
    assert_eq!(fake.seen("DELETE").len(), 1, "the server hears of it");
}
