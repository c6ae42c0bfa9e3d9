//! One turn of a workflow that runs in the sidecar: what has come of its steps so far, and what it asks for now. Pure.

use std::collections::HashMap;

use proto::durabletask::{
    CompleteWorkflowAction, CreateChildWorkflowAction, ExecutionStartedEvent, HistoryEvent,
    OrchestrationStatus as Status, ScheduleTaskAction, TaskFailureDetails, TaskRouter,
    WorkflowAction, WorkflowRequest, history_event::EventType,
    workflow_action::WorkflowActionType as Action,
};

/// What came of a step: its output, or why it has failed.
pub type Outcome = Result<Option<String>, String>;

/// Why a workflow does not go on.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// A step is under way.
    Waiting,
    /// The workflow has failed.
    Failed(String),
}

/// The history, step by step.
#[derive(Default)]
pub struct Replay {
    /// The names of the steps that have begun, by their numbers.
    begun: HashMap<i32, String>,
    outcomes: HashMap<i32, Outcome>,
    suspended: bool,
    next: i32,
    actions: Vec<WorkflowAction>,
}

/// How the workflow of a turn was started.
pub fn started(request: &WorkflowRequest) -> Option<&ExecutionStartedEvent> {
    let mut events = request.past_events.iter().chain(&request.new_events);
    events.find_map(|event| match event.event_type.as_ref()? {
        EventType::ExecutionStarted(started) => Some(started),
        _ => None,
    })
}

impl Replay {
    pub fn new(request: WorkflowRequest) -> Self {
        let mut replay = Self::default();
        for event in request.past_events.into_iter().chain(request.new_events) {
            replay.add(event);
        }
        replay
    }

    /// Whether any step has begun.
    pub fn has_begun(&self) -> bool {
        !self.begun.is_empty()
    }

    fn add(&mut self, event: HistoryEvent) {
        let id = event.event_id;
        let message =
            |details: Option<TaskFailureDetails>| details.unwrap_or_default().error_message;
        match event.event_type {
            Some(EventType::TaskScheduled(task)) => {
                self.begun.insert(id, task.name);
            }
            Some(EventType::ChildWorkflowInstanceCreated(child)) => {
                self.begun.insert(id, child.name);
            }
            Some(EventType::TaskCompleted(done)) => {
                self.came_of(done.task_scheduled_id, Ok(done.result));
            }
            Some(EventType::TaskFailed(failed)) => {
                let message = message(failed.failure_details);
                self.came_of(failed.task_scheduled_id, Err(message));
            }
            Some(EventType::ChildWorkflowInstanceCompleted(done)) => {
                self.came_of(done.task_scheduled_id, Ok(done.result));
            }
            Some(EventType::ChildWorkflowInstanceFailed(failed)) => {
                let message = message(failed.failure_details);
                self.came_of(failed.task_scheduled_id, Err(message));
            }
            Some(EventType::ExecutionSuspended(_)) => self.suspended = true,
            Some(EventType::ExecutionResumed(_)) => self.suspended = false,
            _ => {}
        }
    }

    /// The first outcome of a step counts.
    fn came_of(&mut self, step: i32, outcome: Outcome) {
        self.outcomes.entry(step).or_insert(outcome);
    }

    /// Runs an activity.
    ///
    /// # Errors
    /// [`Stop`].
    pub fn activity(&mut self, name: String, input: Option<String>) -> Result<Outcome, Stop> {
        let action = Action::ScheduleTask(ScheduleTaskAction {
            name: name.clone(),
            input,
            ..ScheduleTaskAction::default()
        });
        self.step(&name, action, None)
    }

    /// Runs another workflow, of this app or of another one.
    ///
    /// # Errors
    /// [`Stop`].
    pub fn child(
        &mut self,
        name: &str,
        app_id: Option<&str>,
        input: String,
    ) -> Result<Outcome, Stop> {
        let action = Action::CreateChildWorkflow(CreateChildWorkflowAction {
            name: name.to_owned(),
            input: Some(input),
            ..CreateChildWorkflowAction::default()
        });
        let router = app_id.map(|app_id| TaskRouter {
            target_app_id: Some(app_id.to_owned()),
            ..TaskRouter::default()
        });
        self.step(name, action, router)
    }

    fn step(
        &mut self,
        name: &str,
        action: Action,
        router: Option<TaskRouter>,
    ) -> Result<Outcome, Stop> {
        let id = self.next;
        self.next += 1;
        match self.begun.get(&id) {
            Some(begun) if begun != name => {
                return Err(Stop::Failed(format!(
                    "step {id} was {begun} when it began and is {name} now: the hooks of the MCPServer have changed meanwhile"
                )));
            }
            Some(_) => return self.outcomes.remove(&id).ok_or(Stop::Waiting),
            None => self.actions.push(WorkflowAction {
                id,
                router,
                workflow_action_type: Some(action),
            }),
        }
        Err(Stop::Waiting)
    }

    /// What the engine is asked to do. While the workflow is suspended that is nothing.
    pub fn finish(mut self, ended: Result<String, Stop>) -> Vec<WorkflowAction> {
        if self.suspended {
            return Vec::new();
        }
        let complete = match ended {
            Err(Stop::Waiting) => return self.actions,
            Ok(output) => CompleteWorkflowAction {
                workflow_status: Status::Completed.into(),
                result: Some(output),
                ..CompleteWorkflowAction::default()
            },
            Err(Stop::Failed(message)) => CompleteWorkflowAction {
                workflow_status: Status::Failed.into(),
                failure_details: Some(failure(message)),
                ..CompleteWorkflowAction::default()
            },
        };
        self.actions.push(WorkflowAction {
            id: self.next,
            router: None,
            workflow_action_type: Some(Action::CompleteWorkflow(complete)),
        });
        self.actions
    }
}

/// As callers see what has failed.
pub fn failure(message: String) -> TaskFailureDetails {
    TaskFailureDetails {
        error_type: "MCPServerError".to_owned(),
        error_message: message,
        ..TaskFailureDetails::default()
    }
}
