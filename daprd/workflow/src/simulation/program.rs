//! What the workers run: workflows as functions of their events, which ask for what they have not asked for yet.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use proto::durabletask::{
    ActivityRequest, ActivityResponse, CompleteWorkflowAction, CreateChildWorkflowAction,
    CreateDetachedWorkflowAction, CreateTimerAction, GetWorkItemsRequest, HistoryEvent,
    OrchestrationStatus as Status, ScheduleTaskAction, SendEventAction, TerminateWorkflowAction,
    TimerOriginExternalEvent, WorkflowAction, WorkflowInstance, WorkflowRequest, WorkflowResponse,
    create_timer_action::Origin, history_event::EventType, work_item,
    workflow_action::WorkflowActionType as Action,
};
use tokio::time::sleep;
use values::Clock;

use super::chance::Chance;
use crate::{
    Workers,
    core::{event, resolution},
};
use resolution::Resolution;

/// A worker, which now and then leaves before it has answered.
pub async fn work(workers: Workers, chance: Arc<Chance>, clock: Arc<dyn Clock>) {
    loop {
        let mut items = workers.connect(GetWorkItemsRequest::default());
        while let Some(item) = items.next().await {
            chance.pause().await;
            if chance.strikes(3) {
                break;
            }
            let token = item.completion_token;
            match item.request {
                Some(work_item::Request::WorkflowRequest(request)) => {
                    let response = turn(request, token, clock.now());
                    let _ = workers.complete_workflow(response);
                }
                Some(work_item::Request::ActivityRequest(request)) if request.name != NEVER => {
                    let _ = workers.complete_activity(activity(request, token));
                }
                Some(work_item::Request::ActivityRequest(_)) | None => {}
            }
        }
        drop(items);
        sleep(Duration::from_millis(10)).await;
    }
}

/// Replays a turn.
fn turn(request: WorkflowRequest, token: String, now: jiff::Timestamp) -> WorkflowResponse {
    let events: Vec<HistoryEvent> = request
        .past_events
        .into_iter()
        .chain(request.new_events)
        .collect();
    let start = event::start(&events).expect("a start");
    let input = start.input.as_deref().unwrap_or_default();
    let mut plan = Plan::new(&events, now);
    let terminated = events.iter().find_map(event::terminated);
    if let Some(terminated) = terminated {
        plan.end(Status::Terminated, terminated.input.clone());
    } else {
        match start.name.as_str() {
            "order" => order(&mut plan, input),
            "endless" => endless(&mut plan),
            "tally" => tally(&mut plan, input),
            "guardian" => guardian(&mut plan),
            "herald" => herald(&mut plan, input),
            "afresh" => afresh(&mut plan, input),
            "busy" => busy(&mut plan, input),
            _ => ship(&mut plan, input),
        }
    }
    WorkflowResponse {
        instance_id: request.instance_id,
        actions: plan.actions,
        completion_token: token,
        ..WorkflowResponse::default()
    }
}

/// Runs an activity, whose result says which asking it is of.
fn activity(request: ActivityRequest, token: String) -> ActivityResponse {
    ActivityResponse {
        instance_id: request.workflow_instance.unwrap_or_default().instance_id,
        task_id: request.task_id,
        result: Some(request.task_execution_id),
        failure_details: None,
        completion_token: token,
    }
}

/// One task, three at once, a timer, a child, an event that a timer would end the waiting for, and all of it again, by the same numbers.
/// A task and a timer are left behind each time.
fn order(plan: &mut Plan<'_>, round: &str) {
    plan.task(8);
    plan.timer(7, LONG, None);
    if !plan.task(0) {
        return;
    }
    let done = [1, 2, 3].map(|id| plan.task(id));
    if done != [true; 3] || !plan.timer(4, SHORT, None) || !plan.child(5, "ship", round) {
        return;
    }
    plan.timer(6, LONG, Some("go"));
    if plan.raised().is_empty() {
        return;
    }
    let shipped = plan.result_of_child(5);
    if shipped != Some(&format!("shipped {round}")) {
        let text = format!("round {round} has heard of {shipped:?}");
        plan.end(Status::Completed, Some(text));
    } else if round == LAST_ROUND {
        plan.end(Status::Completed, Some(format!("done in {round}")));
    } else {
        let carried = plan.raised().split_off(1);
        let next = round.parse::<u32>().unwrap_or_default() + 1;
        plan.anew(&next.to_string(), carried);
    }
}

/// A task. Another one and a timer are left behind.
fn ship(plan: &mut Plan<'_>, input: &str) {
    plan.timer(1, LONG, None);
    plan.task(2);
    if plan.task(0) {
        plan.end(Status::Completed, Some(format!("shipped {input}")));
    }
}

/// A task and a child, and a timer that takes longer than anybody waits.
fn endless(plan: &mut Plan<'_>) {
    if plan.task(0) && plan.child(1, "ship", "0") {
        plan.timer(2, Duration::from_secs(3600), None);
    }
}

/// Takes one event, and begins anew with what there is then; ends with the fiftieth.
fn tally(plan: &mut Plan<'_>, so_far: &str) {
    let raised = plan.raised();
    let Some(EventType::EventRaised(first)) = raised.first().and_then(|it| it.event_type.clone())
    else {
        return;
    };
    let tally = format!("{so_far}{},", first.input.unwrap_or_default());
    match tally.matches(',').count() {
        50.. => plan.end(Status::Completed, Some(tally)),
        _ => plan.anew(&tally, raised[1..].to_vec()),
    }
}

/// A child, whose failure it hears of.
fn guardian(plan: &mut Plan<'_>) {
    if plan.child(5, "endless", "") {
        plan.end(Status::Completed, Some("heard".to_owned()));
    }
}

/// Tells a workflow to go on, and another one to end, when a timer has fired. A task is left that never ends.
fn herald(plan: &mut Plan<'_>, targets: &str) {
    plan.named_task(8, NEVER);
    plan.timer(7, Duration::from_secs(3600), None);
    if !plan.timer(4, SHORT, None) {
        return;
    }
    let mut events = plan.events.iter();
    if events.any(|event| matches!(event.event_type, Some(EventType::EventSent(_)))) {
        return;
    }
    let (told, ended) = targets.split_once(' ').unwrap_or_default();
    plan.push(
        10,
        Action::SendEvent(SendEventAction {
            instance: Some(WorkflowInstance {
                instance_id: told.to_owned(),
                execution_id: None,
            }),
            name: "go".to_owned(),
            data: Some("0".to_owned()),
        }),
    );
    plan.push(
        11,
        Action::TerminateWorkflow(TerminateWorkflowAction {
            instance_id: ended.to_owned(),
            reason: None,
            recurse: false,
        }),
    );
}

/// A child; when that has ended, a workflow of some id is begun that nobody waits for.
fn afresh(plan: &mut Plan<'_>, id: &str) {
    if !plan.child(1, "ship", "0") {
        return;
    }
    plan.push(
        2,
        Action::CreateDetachedWorkflow(CreateDetachedWorkflowAction {
            name: "ship".to_owned(),
            instance_id: id.to_owned(),
            input: Some("afresh".to_owned()),
            ..CreateDetachedWorkflowAction::default()
        }),
    );
    plan.end(Status::Completed, Some("begun".to_owned()));
}

/// So many tasks at the same time, and one that ends only where it is not told otherwise.
fn busy(plan: &mut Plan<'_>, input: &str) {
    let (tasks, name) = input.split_once(' ').unwrap_or_default();
    let tasks = 0..tasks.parse().unwrap_or_default();
    let done: Vec<bool> = tasks.map(|id| plan.named_task(id, name)).collect();
    if done.into_iter().all(|done| done) {
        plan.end(Status::Completed, Some("all".to_owned()));
    }
}

/// An activity that no worker ever answers for.
const NEVER: &str = "never";

/// How often an order begins anew, and how many events it takes.
pub const LAST_ROUND: &str = "2";
pub const EVENTS: usize = 3;

/// How long timers take: some fire while others are at work, some when all is over.
const SHORT: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(4);

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
        self.named_task(id, &format!("task {id}"))
    }

    fn named_task(&mut self, id: i32, name: &str) -> bool {
        self.ask(Resolution::Task(id), id, || {
            Action::ScheduleTask(ScheduleTaskAction {
                name: name.to_owned(),
                ..ScheduleTaskAction::default()
            })
        })
    }

    fn timer(&mut self, id: i32, period: Duration, event: Option<&str>) -> bool {
        let fire_at = crate::time::to_wire(self.now + period);
        let origin = event.map(|name| {
            Origin::ExternalEvent(TimerOriginExternalEvent {
                name: name.to_owned(),
            })
        });
        self.ask(Resolution::Timer(id), id, || {
            Action::CreateTimer(CreateTimerAction {
                fire_at: Some(fire_at),
                origin,
                ..CreateTimerAction::default()
            })
        })
    }

    fn child(&mut self, id: i32, name: &str, input: &str) -> bool {
        self.ask(Resolution::Child(id), id, || {
            Action::CreateChildWorkflow(CreateChildWorkflowAction {
                name: name.to_owned(),
                input: Some(input.to_owned()),
                ..CreateChildWorkflowAction::default()
            })
        })
    }

    fn result_of_child(&self, id: i32) -> Option<&'e String> {
        self.events
            .iter()
            .find_map(|event| match &event.event_type {
                Some(EventType::ChildWorkflowInstanceCompleted(it))
                    if it.task_scheduled_id == id =>
                {
                    it.result.as_ref()
                }
                _ => None,
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
