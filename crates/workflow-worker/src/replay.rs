//! A workflow as a function that is run anew over its history at every turn: what has happened is there at once, and at the first
//! thing that has not the function is left where it is.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    rc::Rc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::{FutureExt, future::LocalBoxFuture};
use proto::durabletask::{
    CompleteWorkflowAction, CreateChildWorkflowAction, CreateTimerAction, EventRaisedEvent,
    HistoryEvent, HistoryPropagationScope, OrchestrationStatus, ScheduleTaskAction,
    TaskFailureDetails, TaskRouter, WorkflowAction, WorkflowRequest, WorkflowResponse,
    history_event::EventType, workflow_action::WorkflowActionType,
};

/// What a workflow or an activity comes to: a text, or why it failed.
pub type Outcome = Result<String, String>;

/// A workflow.
pub type Function = fn(Workflow) -> LocalBoxFuture<'static, Outcome>;

/// Where a workflow has something done, and what it shows there of its history: in its own app, and nothing, where it does not say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place<'a> {
    /// The app; its own, if empty.
    pub app_id: &'a str,
    pub shows: HistoryPropagationScope,
}

impl Place<'_> {
    fn scope(self) -> Option<i32> {
        let shows = self.shows != HistoryPropagationScope::None;
        shows.then_some(self.shows.into())
    }

    fn router(self) -> Option<TaskRouter> {
        let router = || TaskRouter {
            target_app_id: Some(self.app_id.to_owned()),
            ..TaskRouter::default()
        };
        (!self.app_id.is_empty()).then(router)
    }
}

/// What a workflow sees of itself. Clones share it.
#[derive(Clone)]
pub struct Workflow(Rc<RefCell<Turn>>);

#[derive(Default)]
struct Turn {
    input: String,
    now: Option<prost_types::Timestamp>,
    next: i32,
    scheduled: BTreeSet<i32>,
    done: BTreeMap<i32, Outcome>,
    events: BTreeMap<String, Vec<String>>,
    taken: BTreeMap<String, usize>,
    actions: BTreeMap<i32, WorkflowAction>,
    again: Option<String>,
}

impl Workflow {
    /// Its input.
    pub fn input(&self) -> String {
        self.0.borrow().input.clone()
    }

    /// Has an activity done.
    pub async fn activity(&self, name: &str, input: &str) -> Outcome {
        self.activity_at(Place::default(), name, input).await
    }

    /// Has an activity done somewhere.
    pub async fn activity_at(&self, place: Place<'_>, name: &str, input: &str) -> Outcome {
        let action = ScheduleTaskAction {
            name: name.to_owned(),
            input: Some(input.to_owned()),
            history_propagation_scope: place.scope(),
            ..ScheduleTaskAction::default()
        };
        let id = self.schedule(WorkflowActionType::ScheduleTask(action), place);
        self.outcome(id).await
    }

    /// Runs a workflow of its own. An id is made where none is given.
    pub async fn child(&self, name: &str, id: &str, input: &str) -> Outcome {
        self.child_at(Place::default(), name, id, input).await
    }

    /// Runs a workflow of its own somewhere. An id is made where none is given.
    pub async fn child_at(&self, place: Place<'_>, name: &str, id: &str, input: &str) -> Outcome {
        let action = CreateChildWorkflowAction {
            instance_id: id.to_owned(),
            name: name.to_owned(),
            input: Some(input.to_owned()),
            history_propagation_scope: place.scope(),
            ..CreateChildWorkflowAction::default()
        };
        let id = self.schedule(WorkflowActionType::CreateChildWorkflow(action), place);
        self.outcome(id).await
    }

    /// Sleeps.
    pub async fn sleep(&self, period: Duration) {
        let now = self.0.borrow().now.unwrap_or_default();
        let nanos = i64::from(now.nanos) + i64::from(period.subsec_nanos());
        let fire_at = prost_types::Timestamp {
            seconds: now.seconds + period.as_secs() as i64 + nanos / 1_000_000_000,
            nanos: (nanos % 1_000_000_000) as i32,
        };
        let action = CreateTimerAction {
            fire_at: Some(fire_at),
            ..CreateTimerAction::default()
        };
        let id = self.schedule(WorkflowActionType::CreateTimer(action), Place::default());
        // Timers do not fail.
        let _ = self.outcome(id).await;
    }

    /// Waits for the next event of a name.
    pub async fn event(&self, name: &str) -> String {
        let got = {
            let mut turn = self.0.borrow_mut();
            let taken = turn.taken.entry(name.to_owned()).or_default();
            *taken += 1;
            let at = *taken - 1;
            let events = turn.events.get(name);
            events.and_then(|events| events.get(at)).cloned()
        };
        match got {
            Some(data) => data,
            None => std::future::pending().await,
        }
    }

    /// Begins anew with another input; events that nobody took go along.
    pub async fn again(&self, input: &str) -> Outcome {
        self.0.borrow_mut().again = Some(input.to_owned());
        Ok(String::new())
    }

    fn schedule(&self, kind: WorkflowActionType, place: Place<'_>) -> i32 {
        let mut turn = self.0.borrow_mut();
        let id = turn.next;
        turn.next += 1;
        if !turn.scheduled.contains(&id) {
            let router = place.router();
            let action = WorkflowAction {
                router,
                ..action(id, kind)
            };
            turn.actions.insert(id, action);
        }
        id
    }

    async fn outcome(&self, id: i32) -> Outcome {
        let outcome = self.0.borrow().done.get(&id).cloned();
        match outcome {
            Some(outcome) => outcome,
            None => std::future::pending().await,
        }
    }
}

/// Runs one turn of a workflow; `find` knows the functions.
pub fn turn(
    request: &WorkflowRequest,
    find: impl Fn(&str) -> Option<Function>,
) -> WorkflowResponse {
    let history = request.past_events.iter().chain(&request.new_events);
    let (mut turn, mut name, mut terminated) = (Turn::default(), String::new(), None);
    let mut held: Option<Vec<&HistoryEvent>> = None;
    for event in history {
        match (&event.event_type, &mut held) {
            (Some(EventType::ExecutionSuspended(_)), None) => held = Some(Vec::new()),
            (Some(EventType::ExecutionResumed(_)), Some(_)) => {
                let held = held.take().into_iter().flatten();
                held.for_each(|event| turn.apply(event));
            }
            (Some(EventType::ExecutionTerminated(end)), _) => terminated = Some(end.input.clone()),
            (_, Some(held)) => held.push(event),
            (Some(EventType::ExecutionStarted(started)), None) => {
                name.clone_from(&started.name);
                turn.apply(event);
            }
            _ => turn.apply(event),
        }
    }
    let mut response = WorkflowResponse {
        instance_id: request.instance_id.clone(),
        ..WorkflowResponse::default()
    };
    if let Some(output) = terminated {
        let end = complete(OrchestrationStatus::Terminated, output);
        response.actions.push(action(turn.next, end));
        return response;
    }
    if held.is_some() {
        return response;
    }
    let Some(function) = find(&name) else {
        let problem = format!("no workflow is called {name}");
        response.actions.push(action(0, failure(problem)));
        return response;
    };
    let workflow = Workflow(Rc::new(RefCell::new(turn)));
    let ended = pin!(function(workflow.clone())).now_or_never();
    let mut turn = workflow.0.borrow_mut();
    let last = turn.next;
    let actions = std::mem::take(&mut turn.actions);
    response.actions = actions.into_values().collect();
    let end = match (ended, turn.again.take()) {
        (None, _) => return response,
        (Some(_), Some(input)) => turn.begin_again(input),
        (Some(Ok(output)), None) => complete(OrchestrationStatus::Completed, Some(output)),
        (Some(Err(problem)), None) => failure(problem),
    };
    response.actions.push(action(last, end));
    response
}

impl Turn {
    fn apply(&mut self, event: &HistoryEvent) {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let failed = |failure: &Option<TaskFailureDetails>| {
            let failure = failure.as_ref();
            Err(failure
                .map(|it| it.error_message.clone())
                .unwrap_or_default())
        };
        let Some(kind) = &event.event_type else {
            return;
        };
        match kind {
            EventType::WorkflowStarted(_) => self.now = event.timestamp,
            EventType::ExecutionStarted(it) => self.input = text(&it.input),
            EventType::TaskScheduled(_)
            | EventType::ChildWorkflowInstanceCreated(_)
            | EventType::TimerCreated(_) => {
                self.scheduled.insert(event.event_id);
            }
            EventType::TaskCompleted(it) => {
                self.done.insert(it.task_scheduled_id, Ok(text(&it.result)));
            }
            EventType::TaskFailed(it) => {
                let outcome = failed(&it.failure_details);
                self.done.insert(it.task_scheduled_id, outcome);
            }
            EventType::ChildWorkflowInstanceCompleted(it) => {
                self.done.insert(it.task_scheduled_id, Ok(text(&it.result)));
            }
            EventType::ChildWorkflowInstanceFailed(it) => {
                let outcome = failed(&it.failure_details);
                self.done.insert(it.task_scheduled_id, outcome);
            }
            EventType::TimerFired(it) => {
                self.done.insert(it.timer_id, Ok(String::new()));
            }
            EventType::EventRaised(it) => {
                let events = self.events.entry(it.name.clone()).or_default();
                events.push(text(&it.input));
            }
            _ => {}
        }
    }

    fn begin_again(&mut self, input: String) -> WorkflowActionType {
        let mut carried = Vec::new();
        for (name, events) in &self.events {
            let taken = self.taken.get(name).copied().unwrap_or_default();
            carried.extend(events.iter().skip(taken).map(|data| HistoryEvent {
                event_id: -1,
                timestamp: Some(now()),
                event_type: Some(EventType::EventRaised(EventRaisedEvent {
                    name: name.clone(),
                    input: Some(data.clone()),
                })),
                router: None,
            }));
        }
        WorkflowActionType::CompleteWorkflow(CompleteWorkflowAction {
            workflow_status: OrchestrationStatus::ContinuedAsNew.into(),
            result: Some(input),
            carryover_events: carried,
            ..CompleteWorkflowAction::default()
        })
    }
}

fn now() -> prost_types::Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.expect("the clock is past 1970");
    prost_types::Timestamp {
        seconds: since.as_secs() as i64,
        nanos: since.subsec_nanos() as i32,
    }
}

fn action(id: i32, kind: WorkflowActionType) -> WorkflowAction {
    WorkflowAction {
        id,
        workflow_action_type: Some(kind),
        ..WorkflowAction::default()
    }
}

fn complete(status: OrchestrationStatus, result: Option<String>) -> WorkflowActionType {
    WorkflowActionType::CompleteWorkflow(CompleteWorkflowAction {
        workflow_status: status.into(),
        result,
        ..CompleteWorkflowAction::default()
    })
}

fn failure(problem: String) -> WorkflowActionType {
    WorkflowActionType::CompleteWorkflow(CompleteWorkflowAction {
        workflow_status: OrchestrationStatus::Failed.into(),
        failure_details: Some(TaskFailureDetails {
            error_type: "Failed".to_owned(),
            error_message: problem,
            ..TaskFailureDetails::default()
        }),
        ..CompleteWorkflowAction::default()
    })
}
