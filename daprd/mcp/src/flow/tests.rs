//! The workflows, turn by turn, against an engine that does what they ask for.

use base64::{Engine, engine::general_purpose::STANDARD};
use crds::McpServer;
use proto::durabletask::{
    ChildWorkflowInstanceCompletedEvent, ChildWorkflowInstanceCreatedEvent,
    ChildWorkflowInstanceFailedEvent, ExecutionResumedEvent, ExecutionSuspendedEvent, HistoryEvent,
    OrchestrationStatus as Status, TaskCompletedEvent, TaskFailedEvent, TaskScheduledEvent,
    WorkflowAction, WorkflowRequest, history_event::EventType,
    workflow_action::WorkflowActionType as Action,
};
use serde_json::{Value, json};

use super::*;
use crate::replay::failure;

/// What is asked for: name, app and input.
type Asked = (String, Option<String>, String);

struct Turns {
    middleware: Middleware,
    operation: Operation,
    input: Option<String>,
    history: Vec<HistoryEvent>,
}

impl Turns {
    fn new(operation: Operation, middleware: Value, input: Option<Value>) -> Self {
        let server = json!({
            "apiVersion": "dapr.io/v1alpha1", "kind": "MCPServer", "metadata": { "name": "s" },
            "spec": { "endpoint": {}, "middleware": middleware },
        });
        let server: McpServer = serde_json::from_value(server).unwrap();
        Self {
            middleware: server.spec.middleware.unwrap_or_default(),
            operation,
            input: input.map(|input| input.to_string()),
            history: Vec::new(),
        }
    }

    fn turn(&self) -> Vec<WorkflowAction> {
        let mut replay = Replay::new(WorkflowRequest {
            past_events: self.history.clone(),
            ..WorkflowRequest::default()
        });
        let input = self.input.as_deref();
        let ended = run(
            &mut replay,
            "s",
            Some(&self.middleware),
            &self.operation,
            input,
        );
        replay.finish(ended)
    }

    fn push(&mut self, id: i32, kind: EventType) {
        self.history.push(HistoryEvent {
            event_id: id,
            event_type: Some(kind),
            ..HistoryEvent::default()
        });
    }

    /// Takes the one step that is asked for, whose outcome is given.
    fn step(&mut self, outcome: Result<Value, &str>) -> Asked {
        let mut actions = self.turn();
        assert_eq!(actions.len(), 1, "{actions:?}");
        let action = actions.remove(0);
        let task_scheduled_id = action.id;
        let result = outcome.as_ref().ok().map(Value::to_string);
        let details = outcome.err().map(|text| failure(text.to_owned()));
        let (begun, done, asked) = match action.workflow_action_type {
            Some(Action::ScheduleTask(task)) => (
                EventType::TaskScheduled(TaskScheduledEvent {
                    name: task.name.clone(),
                    ..TaskScheduledEvent::default()
                }),
                match details {
                    None => EventType::TaskCompleted(TaskCompletedEvent {
                        task_scheduled_id,
                        result,
                        ..TaskCompletedEvent::default()
                    }),
                    failure_details => EventType::TaskFailed(TaskFailedEvent {
                        task_scheduled_id,
                        failure_details,
                        ..TaskFailedEvent::default()
                    }),
                },
                (task.name, None, task.input.unwrap_or_default()),
            ),
            Some(Action::CreateChildWorkflow(child)) => (
                EventType::ChildWorkflowInstanceCreated(ChildWorkflowInstanceCreatedEvent {
                    name: child.name.clone(),
                    ..ChildWorkflowInstanceCreatedEvent::default()
                }),
                match details {
                    None => EventType::ChildWorkflowInstanceCompleted(
                        ChildWorkflowInstanceCompletedEvent {
                            task_scheduled_id,
                            result,
                            ..ChildWorkflowInstanceCompletedEvent::default()
                        },
                    ),
                    failure_details => {
                        EventType::ChildWorkflowInstanceFailed(ChildWorkflowInstanceFailedEvent {
                            task_scheduled_id,
                            failure_details,
                            ..ChildWorkflowInstanceFailedEvent::default()
                        })
                    }
                },
                (
                    child.name,
                    action.router.and_then(|router| router.target_app_id),
                    child.input.unwrap_or_default(),
                ),
            ),
            other => panic!("{other:?}"),
        };
        self.push(task_scheduled_id, begun);
        assert_eq!(self.turn(), [], "nothing is asked for twice");
        self.push(-1, done);
        asked
    }

    /// How it ends: its output, or its failure.
    fn end(&self) -> Result<Value, String> {
        let mut actions = self.turn();
        assert_eq!(actions.len(), 1, "{actions:?}");
        let Some(Action::CompleteWorkflow(end)) = actions.remove(0).workflow_action_type else {
            panic!("it has not ended");
        };
        match end.workflow_status() {
            Status::Completed => Ok(serde_json::from_str(&end.result.unwrap()).unwrap()),
            Status::Failed => Err(end.failure_details.unwrap().error_message),
            other => panic!("{other:?}"),
        }
    }
}

fn call(middleware: Value, input: Option<Value>) -> Turns {
    Turns::new(Operation::CallTool("echo".to_owned()), middleware, input)
}

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_tool_is_called_with_what_was_given() {
    let input = json!({ "arguments": { "big": 12_345_678_901_234_567_890_u64 } });
    let mut engine = call(json!({}), Some(input.clone()));
    let result = json!({ "content": [] });
    let (name, _, asked) = engine.step(Ok(result.clone()));
    assert_eq!(name, "dapr.internal.mcp.s.call-tool");
    let expected = json!({ "tool_name": "echo", "arguments": input["arguments"] });
    assert_eq!(read(&asked), expected);
    assert_eq!(engine.end(), Ok(result));
}

#[test]
fn what_is_no_input_is_a_result() {
    for input in [json!("text"), json!({ "arguments": [1] })] {
        let end = call(json!({}), Some(input)).end().unwrap();
        assert_eq!(end["isError"], true, "{end}");
    }
    for input in [None, Some(json!(null)), Some(json!({ "arguments": null }))] {
        let mut engine = call(json!({}), input);
        let (.., asked) = engine.step(Ok(json!({})));
        assert_eq!(read(&asked), json!({ "tool_name": "echo" }));
    }
}

#[test]
fn hooks_run_in_order_and_those_that_may_change_what_passes() {
    let hook = |name: &str, mutate: bool| json!({ "workflow": { "workflowName": name }, "mutate": mutate });
    let mut remote = hook("check", false);
    remote["workflow"]["appID"] = json!("guard");
    let middleware = json!({
        "beforeCallTool": [remote, hook("redact", true)],
        "afterCallTool": [hook("audit", false), hook("sign", true)],
    });
    let mut engine = call(middleware, Some(json!({ "arguments": { "a": 1 } })));
    let (name, app, input) = engine.step(Ok(json!("passed over")));
    assert_eq!((name.as_str(), app.as_deref()), ("check", Some("guard")));
    let given = json!({ "name": "s", "toolName": "echo", "arguments": { "a": 1 } });
    assert_eq!(read(&input), given);
    let (name, app, _) = engine.step(Ok(json!({ "arguments": { "a": 2 } })));
    assert_eq!((name.as_str(), app), ("redact", None));
    let (_, _, input) = engine.step(Ok(json!({ "content": [1] })));
    assert_eq!(read(&input)["arguments"], json!({ "a": 2 }));
    let (name, _, input) = engine.step(Ok(json!(null)));
    assert_eq!(name, "audit");
    let result = read(&input)["result"].as_str().unwrap().to_owned();
    assert_eq!(STANDARD.decode(result).unwrap(), br#"{"content":[1]}"#);
    let signed = STANDARD.encode(r#"{"content":[2]}"#);
    let signed = signed.trim_end_matches('=');
    engine.step(Ok(json!({ "result": signed })));
    assert_eq!(engine.end(), Ok(json!({ "content": [2] })));
}

#[test]
fn a_hook_that_refuses_before_is_a_result_and_after_a_failure() {
    let hooks = json!([{ "workflow": { "workflowName": "gate" } }]);
    let mut engine = call(json!({ "beforeCallTool": hooks }), None);
    engine.step(Err("not you"));
    let end = engine.end().unwrap();
    assert_eq!(end["isError"], true);
    assert_eq!(end["content"][0]["text"], "beforeCallTool: not you");
    let mut engine = call(json!({ "afterCallTool": hooks }), None);
    engine.step(Err("the tool"));
    let (_, _, input) = engine.step(Err("not you"));
    let given = read(&input)["result"].as_str().unwrap().to_owned();
    let given = String::from_utf8(STANDARD.decode(given).unwrap()).unwrap();
    assert!(
        given.contains("the tool") && given.contains("isError"),
        "{given}"
    );
    assert!(engine.end().unwrap_err().contains("not you"));
    let all = json!({ "beforeListTools": hooks });
    let mut engine = Turns::new(Operation::ListTools, all, None);
    engine.step(Err("not you"));
    assert_eq!(
        engine.end(),
        Err("beforeListTools failed: not you".to_owned())
    );
}

#[test]
fn a_list_passes_its_hooks() {
    let hook = json!([{ "workflow": { "workflowName": "filter" }, "mutate": true }]);
    let all = json!({ "afterListTools": hook });
    let mut engine = Turns::new(Operation::ListTools, all.clone(), None);
    let (name, ..) = engine.step(Ok(json!({ "tools": [1] })));
    assert_eq!(name, "dapr.internal.mcp.s.list-tools");
    let fewer = STANDARD.encode(r#"{"tools":[]}"#);
    engine.step(Ok(json!({ "result": fewer })));
    assert_eq!(engine.end(), Ok(json!({ "tools": [] })));
    for wrong in [
        json!({ "result": "?" }),
        json!({}),
        json!({ "result": STANDARD.encode("7") }),
    ] {
        let mut engine = Turns::new(Operation::ListTools, all.clone(), None);
        engine.step(Ok(json!({ "tools": [1] })));
        engine.step(Ok(wrong));
        assert!(engine.end().unwrap_err().contains("malformed"));
    }
}

#[test]
fn a_workflow_whose_hooks_have_changed_says_so() {
    let hook = |name: &str| json!({ "beforeCallTool": [{ "workflow": { "workflowName": name } }] });
    let mut engine = call(hook("one"), None);
    engine.step(Ok(json!(null)));
    engine.middleware = call(hook("two"), None).middleware;
    assert!(engine.end().unwrap_err().contains("hooks"));
}

#[test]
fn a_suspended_workflow_asks_for_nothing() {
    let mut engine = call(json!({}), None);
    engine.push(
        -1,
        EventType::ExecutionSuspended(ExecutionSuspendedEvent::default()),
    );
    assert_eq!(engine.turn(), []);
    engine.push(
        -1,
        EventType::ExecutionResumed(ExecutionResumedEvent::default()),
    );
    assert_eq!(engine.turn().len(), 1);
}
