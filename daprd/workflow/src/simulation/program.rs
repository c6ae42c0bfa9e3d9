//! What the workers run: workflows as functions of their events, which ask for what they have not asked for yet.

use proto::durabletask::{
    ActivityRequest, ActivityResponse, CompleteWorkflowAction, CreateChildWorkflowAction,
    CreateTimerAction, HistoryEvent, OrchestrationStatus as Status, ScheduleTaskAction,
    WorkflowAction, WorkflowRequest, WorkflowResponse, history_event::EventType,
    workflow_action::WorkflowActionType as Action,
};

use crate::core::{event, resolution};
use resolution::Resolution;

/// Replays a turn.
pub fn turn(request: WorkflowRequest, token: String, now: jiff::Timestamp) -> WorkflowResponse {
    let events: Vec<HistoryEvent> = request
        .past_events
        .into_iter()
        .chain(request.new_events)
        .collect();
    let start = event::start(&events).expect("a start");
    let mut plan = Plan::new(&events, now);
    let terminated = events.iter().find_map(event::terminated);
    if let Some(terminated) = terminated {
        plan.end(Status::Terminated, terminated.input.clone());
    } else {
        match start.name.as_str() {
            "order" => order(&mut plan, start.input.as_deref().unwrap_or_default()),
            "endless" => endless(&mut plan),
            _ => {
                if plan.task(0) {
                    plan.end(Status::Completed, Some("shipped".to_owned()));
                }
            }
        }
    }
    WorkflowResponse {
        instance_id: request.instance_id,
        actions: plan.actions,
        completion_token: token,
        ..WorkflowResponse::default()
    }
}

/// Runs an activity.
pub fn activity(request: ActivityRequest, token: String) -> ActivityResponse {
    ActivityResponse {
        instance_id: request.workflow_instance.unwrap_or_default().instance_id,
        task_id: request.task_id,
        result: Some(request.name),
        failure_details: None,
        completion_token: token,
    }
}

/// One task, three at once, a timer, a child, an event, and all of it again.
fn order(plan: &mut Plan<'_>, round: &str) {
    if !plan.task(0) {
        return;
    }
    let done = [1, 2, 3].map(|id| plan.task(id));
    if done != [true; 3] || !plan.timer(4) || !plan.child(5, "ship") || plan.raised().is_empty() {
        return;
    }
    if round == "0" {
        let carried = plan.raised().split_off(1);
        plan.anew("1", carried);
    } else {
        plan.end(Status::Completed, Some(format!("done in {round}")));
    }
}

/// A task and a child that wait for an event that never comes.
fn endless(plan: &mut Plan<'_>) {
    if plan.task(0) && plan.child(1, "endless-child") {
        plan.timer(2);
    }
}

struct Plan<'e> {
    events: &'e [HistoryEvent],
    now: jiff::Timestamp,
    actions: Vec<WorkflowAction>,
}

impl<'e> Plan<'e> {
    fn new(events: &'e [HistoryEvent], now: jiff::Timestamp) -> Self {
        Self {
            events,
            now,
            actions: Vec::new(),
        }
    }

    /// Whether it is done; it is asked for where it was not yet.
    fn ask(&mut self, awaited: Resolution, id: i32, action: impl FnOnce() -> Action) -> bool {
        let mut events = self.events.iter();
        if events.any(|event| resolution::of(event) == Some(awaited)) {
            return true;
        }
        let mut events = self.events.iter();
        if !events.any(|event| resolution::awaited(event) == Some(awaited)) {
            self.push(id, action());
        }
        false
    }

    fn push(&mut self, id: i32, action: Action) {
        self.actions.push(WorkflowAction {
            id,
            router: None,
            workflow_action_type: Some(action),
        });
    }

    fn task(&mut self, id: i32) -> bool {
        self.ask(Resolution::Task(id), id, || {
            Action::ScheduleTask(ScheduleTaskAction {
                name: format!("task {id}"),
                ..ScheduleTaskAction::default()
            })
        })
    }

    fn timer(&mut self, id: i32) -> bool {
        let fire_at = crate::time::to_wire(self.now + std::time::Duration::from_millis(500));
        self.ask(Resolution::Timer(id), id, || {
            Action::CreateTimer(CreateTimerAction {
                fire_at: Some(fire_at),
                ..CreateTimerAction::default()
            })
        })
    }

    fn child(&mut self, id: i32, name: &str) -> bool {
        self.ask(Resolution::Child(id), id, || {
            Action::CreateChildWorkflow(CreateChildWorkflowAction {
                name: name.to_owned(),
                ..CreateChildWorkflowAction::default()
            })
        })
    }

    fn raised(&self) -> Vec<HistoryEvent> {
        let events = self.events.iter();
        let raised =
            |event: &&HistoryEvent| matches!(event.event_type, Some(EventType::EventRaised(_)));
        events.filter(raised).cloned().collect()
    }

    fn anew(&mut self, input: &str, carryover_events: Vec<HistoryEvent>) {
        let action = CompleteWorkflowAction {
            workflow_status: Status::ContinuedAsNew.into(),
            result: Some(input.to_owned()),
            carryover_events,
            ..CompleteWorkflowAction::default()
        };
        self.push(99, Action::CompleteWorkflow(action));
    }

    fn end(&mut self, status: Status, result: Option<String>) {
        let action = CompleteWorkflowAction {
            workflow_status: status.into(),
            result,
            ..CompleteWorkflowAction::default()
        };
        self.push(99, Action::CompleteWorkflow(action));
    }
}
