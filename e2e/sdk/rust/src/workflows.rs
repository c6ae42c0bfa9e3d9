//! A worker with the patterns that people build of workflows, and a client that starts them. In the middle the sidecar is restarted: the
//! file `middle` asks for it, `restarted` says that it is done.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dapr::workflow::{
    ActivityContext, ActivityContextExt, ActivityOptions, EventOptions, FetchOptions, Registry,
    RegistryExt, Result, RetryPolicy, RuntimeStatus, ScheduleOptions, SubWorkflowOptions,
    WorkflowClient, WorkflowContext, WorkflowContextExt, WorkflowError, WorkflowMetadata, when_all,
};
use serde::Serialize;
use serde_json::json;

use crate::{DEADLINE, Problem, eventually};

static RUNS: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

fn count(name: &str) -> usize {
    let mut runs = RUNS.lock().unwrap_or_else(PoisonError::into_inner);
    let runs = runs.entry(name.to_owned()).or_default();
    *runs += 1;
    *runs
}

fn counted(name: &str) -> usize {
    let runs = RUNS.lock().unwrap_or_else(PoisonError::into_inner);
    runs.get(name).copied().unwrap_or_default()
}

fn value(value: impl Serialize) -> Result<Option<String>> {
    Ok(Some(serde_json::to_string(&value)?))
}

async fn book(context: ActivityContext, input: Option<String>) -> Result<Option<String>> {
    let what: String = context.get_input(input.as_deref())?;
    count(&format!("book {what}"));
    if what == "car" {
        return Err(WorkflowError::Other("no car is left".to_owned()));
    }
    value(format!("booked {what}"))
}

async fn cancel(context: ActivityContext, input: Option<String>) -> Result<Option<String>> {
    let what: String = context.get_input(input.as_deref())?;
    count(&format!("cancel {what}"));
    value(format!("cancelled {what}"))
}

async fn square(context: ActivityContext, input: Option<String>) -> Result<Option<String>> {
    let number: i64 = context.get_input(input.as_deref())?;
    count("square");
    value(number * number)
}

async fn shaky(_: ActivityContext, _: Option<String>) -> Result<Option<String>> {
    if count("shaky") < 3 {
        return Err(WorkflowError::Other("not yet".to_owned()));
    }
    value("at last")
}

/// Books one after the other, and takes all back where one cannot be had.
async fn saga(context: WorkflowContext) -> Result<Option<String>> {
    let wishes: Vec<String> = context.get_input_typed()?;
    let mut done = Vec::new();
    for wish in wishes {
        match context.call_activity("book", &wish).await {
            Ok(_) => done.push(wish),
            Err(_) => {
                for other in done.iter().rev() {
                    context.call_activity("cancel", other).await?;
                }
                return value(json!({"cancelled": done}));
            }
        }
    }
    value(json!({"booked": done}))
}

async fn fan_out(context: WorkflowContext) -> Result<Option<String>> {
    let numbers: Vec<i64> = context.get_input_typed()?;
    let squares = numbers
        .iter()
        .map(|number| context.call_activity("square", number));
    let mut sum = 0;
    for square in when_all(squares.collect()).await? {
        sum += serde_json::from_str::<i64>(&square.unwrap_or_default())?;
    }
    value(sum)
}

async fn approval(context: WorkflowContext) -> Result<Option<String>> {
    let patience = Duration::from_millis(context.get_input_typed()?);
    match context
        .wait_for_external_event_typed::<String>("approved", Some(patience))
        .await
    {
        Ok(word) => value(word),
        Err(WorkflowError::Timeout) => value("too late"),
        Err(problem) => Err(problem),
    }
}

async fn family(context: WorkflowContext) -> Result<Option<String>> {
    let numbers: Vec<i64> = context.get_input_typed()?;
    let options = SubWorkflowOptions::new().with_input(numbers);
    let options = options.with_instance_id(format!("{}-child", context.instance_id()));
    let total: i64 = context
        .call_sub_workflow_with_options_typed("fan_out", options)
        .await?;
    value(total + 1)
}

async fn patient(context: WorkflowContext) -> Result<Option<String>> {
    let policy = RetryPolicy::new(5, Duration::from_millis(100));
    let options = ActivityOptions::new().with_retry_policy(policy);
    let word: String = context
        .call_activity_with_options_typed("shaky", options)
        .await?;
    value(word)
}

async fn rounds(context: WorkflowContext) -> Result<Option<String>> {
    let left: u32 = context.get_input_typed()?;
    if left > 0 {
        context.create_timer(Duration::from_millis(20)).await?;
        context.continue_as_new(left - 1, false);
        return Ok(None);
    }
    value("round and round")
}

/// Has done something and waits when its sidecar is restarted.
async fn halves(context: WorkflowContext) -> Result<Option<String>> {
    let numbers: [i64; 2] = context.get_input_typed()?;
    let before: i64 = context.call_activity_typed("square", numbers[0]).await?;
    // Before the sidecar has stored that the square is there, no turn gets here.
    count("half");
    let word: String = context.wait_for_external_event_typed("go on", None).await?;
    let after: i64 = context.call_activity_typed("square", numbers[1]).await?;
    value(format!("{before} {word} {after}"))
}

fn register(registry: &mut Registry) {
    registry.add_activity("book", book);
    registry.add_activity("cancel", cancel);
    registry.add_activity("square", square);
    registry.add_activity("shaky", shaky);
    registry.add_workflow("saga", saga);
    registry.add_workflow("fan_out", fan_out);
    registry.add_workflow("approval", approval);
    registry.add_workflow("family", family);
    registry.add_workflow("patient", patient);
    registry.add_workflow("rounds", rounds);
    registry.add_workflow("halves", halves);
}

struct User(WorkflowClient);

impl User {
    async fn start(
        &mut self,
        name: &str,
        id: Option<&str>,
        input: impl Serialize,
    ) -> Result<String> {
        let mut options = ScheduleOptions::new().with_input(input);
        if let Some(id) = id {
            options = options.with_instance_id(id);
        }
        self.0.schedule_workflow(name, options).await
    }

    async fn ended(&mut self, id: &str) -> Result<WorkflowMetadata> {
        let options = FetchOptions::new().with_fetch_payloads(true);
        self.0
            .wait_for_workflow_completion_with_options(id, options, Some(DEADLINE))
            .await
    }

    async fn is_completed(&mut self, id: &str, expected: &str) -> Result<()> {
        let end = self.ended(id).await?;
        assert_eq!(end.runtime_status, RuntimeStatus::Completed, "{end:?}");
        assert_eq!(end.serialized_output.as_deref(), Some(expected), "{end:?}");
        Ok(())
    }

    async fn comes_to(&mut self, name: &str, input: impl Serialize, expected: &str) -> Result<()> {
        let id = self.start(name, None, input).await?;
        self.is_completed(&id, expected).await
    }

    async fn patterns(&mut self) -> Result<()> {
        self.comes_to(
            "saga",
            ["flight", "hotel"],
            r#"{"booked":["flight","hotel"]}"#,
        )
        .await?;
        self.comes_to(
            "saga",
            ["train", "ship", "car"],
            r#"{"cancelled":["train","ship"]}"#,
        )
        .await?;
        assert_eq!((counted("cancel train"), counted("cancel ship")), (1, 1));
        self.comes_to("fan_out", Vec::from_iter(0..10), "285")
            .await?;
        assert_eq!(counted("square"), 10);
        self.comes_to("approval", 300, r#""too late""#).await?;
        self.start("family", Some("the-family"), [1, 2, 3]).await?;
        self.is_completed("the-family", "15").await?;
        self.is_completed("the-family-child", "14").await?;
        self.comes_to("patient", (), r#""at last""#).await?;
        self.comes_to("rounds", 5, r#""round and round""#).await?;

        let waiting = self.start("approval", None, 60_000).await?;
        let word = EventOptions::new().with_payload("by the boss");
        self.0.raise_event(&waiting, "approved", word).await?;
        self.is_completed(&waiting, r#""by the boss""#).await
    }

    async fn restart(&mut self, folder: &Path) -> std::result::Result<(), Problem> {
        let (id, squares) = ("the-long-one", counted("square"));
        self.start("halves", Some(id), [3, 4]).await?;
        eventually("the first half", async || Ok(counted("half") > 0)).await?;
        std::fs::write(folder.join("middle"), "")?;
        eventually("the restart", async || {
            Ok(folder.join("restarted").exists())
        })
        .await?;
        eventually("an event", async || {
            let word = EventOptions::new().with_payload("then");
            self.0.raise_event(id, "go on", word).await?;
            Ok(true)
        })
        .await?;
        self.is_completed(id, r#""9 then 16""#).await?;
        assert_eq!(counted("square"), squares + 2);
        Ok(())
    }

    async fn end(&mut self) -> std::result::Result<(), Problem> {
        let id = "the-last";
        self.start("approval", Some(id), 60_000).await?;
        self.0.suspend_workflow(id, "wait").await?;
        eventually("the pause", async || {
            let now = self
                .0
                .fetch_workflow_metadata(id, FetchOptions::new())
                .await?;
            Ok(now.runtime_status == RuntimeStatus::Suspended)
        })
        .await?;
        self.0.resume_workflow(id, "go on").await?;
        self.0.terminate_workflow(id).await?;
        let end = self.ended(id).await?;
        assert_eq!(end.runtime_status, RuntimeStatus::Terminated, "{end:?}");
        self.0.purge_workflow_state(id).await?;
        let none = self
            .0
            .fetch_workflow_metadata(id, FetchOptions::new())
            .await;
        assert!(none.is_err(), "it is still there: {none:?}");
        Ok(())
    }
}

pub async fn run(folder: &Path) -> std::result::Result<(), Problem> {
    let mut client = None;
    eventually("the sidecar", async || {
        client = Some(WorkflowClient::new().await?);
        Ok(true)
    })
    .await?;
    let mut client = client.expect("it was waited for");
    register(client.registry_mut());
    let worker = client.start_worker().await?;
    let mut user = User(client);
    user.patterns().await?;
    user.restart(folder).await?;
    user.end().await?;
    worker.shutdown().await?;
    Ok(())
}
