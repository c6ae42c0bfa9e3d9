//! What a worker asks for, action by action, and the events that this becomes.

use proto::durabletask::{
    ChildWorkflowInstanceCreatedEvent, CompleteWorkflowAction, CreateChildWorkflowAction,
    CreateDetachedWorkflowAction, CreateTimerAction, DetachedWorkflowInstanceCreatedEvent,
    EventSentEvent, ExecutionCompletedEvent, ExecutionStartedEvent, ExecutionTerminatedEvent,
    HistoryEvent, OrchestrationStatus as Status, ScheduleTaskAction, TaskRouter,
    TaskScheduledEvent, TerminateWorkflowAction, TimerCreatedEvent, WorkflowAction,
    WorkflowInstance, WorkflowStartedEvent, backend::v1::CreateWorkflowInstanceRequest,
    create_timer_action::Origin as Asked, history_event::EventType, timer_created_event::Origin,
    workflow_action::WorkflowActionType as Action,
};

use super::{
    effects, event,
    fold::Fold,
    resolution, stall,
    turn::{Letter, Place, Refused, Turn},
};
use crate::tracing;

/// What an action means to those after it.
#[derive(Debug, PartialEq, Eq)]
pub enum Applied {
    GoesOn,
    /// The workflow begins anew; what comes after is nobody's any more.
    Anew,
}

/// Applies one action.
///
/// # Errors
/// [`Refused::Malformed`].
pub fn apply(
    turn: &mut Turn,
    action: WorkflowAction,
    place: &mut Place<'_>,
) -> Result<Applied, Refused> {
    let WorkflowAction {
        id,
        router,
        workflow_action_type,
    } = action;
    let router = TaskRouter {
        source_app_id: place.app_id.to_owned(),
        ..router.unwrap_or_default()
    };
    let kind = workflow_action_type.ok_or(Refused::Malformed("an action of an unknown kind"))?;
    let event = match kind {
        Action::CompleteWorkflow(action) => return Ok(complete(turn, id, action, router, place)),
        Action::ScheduleTask(action) => schedule(turn, action, place),
        Action::CreateTimer(action) => timer(action),
        Action::CreateChildWorkflow(action) => child(turn, id, action),
        Action::CreateDetachedWorkflow(action) => detached(turn, action, &router, place)?,
        Action::SendEvent(action) => EventType::EventSent(EventSentEvent {
            instance_id: action.instance.unwrap_or_default().instance_id,
            name: action.name,
            input: action.data,
        }),
        Action::TerminateWorkflow(action) => {
            terminate(turn, action, router, place);
            return Ok(Applied::GoesOn);
        }
        Action::WorkflowVersionNotAvailable(_) => {
            turn.stalled = Some(stall::version_not_available(turn.past()));
            return Ok(Applied::GoesOn);
        }
    };
    let event = event::of_action(id, place.now, event, Some(router));
    let awaited = resolution::awaited(&event);
    if awaited.is_none_or(|it| !turn.early.contains(&it)) {
        turn.push(event);
    }
    Ok(Applied::GoesOn)
}

impl Turn {
    pub(super) fn push(&mut self, event: HistoryEvent) {
        if self.fold.add(&event) {
            self.fresh.push(event);
        }
    }
}

fn complete(
    turn: &mut Turn,
    id: i32,
    action: CompleteWorkflowAction,
    router: TaskRouter,
    place: &mut Place<'_>,
) -> Applied {
    // The first end counts.
    if turn.fold.is_completed() {
        return Applied::GoesOn;
    }
    if action.workflow_status() == Status::ContinuedAsNew {
        begin_anew(turn, action, router, place);
        return Applied::Anew;
    }
    let completed = EventType::ExecutionCompleted(ExecutionCompletedEvent {
        workflow_status: action.workflow_status,
        result: action.result,
        failure_details: action.failure_details,
    });
    turn.push(event::of_action(id, place.now, completed, Some(router)));
    Applied::GoesOn
}

/// The same workflow with another input, without its history, but with the events that it has not looked at.
fn begin_anew(
    turn: &mut Turn,
    action: CompleteWorkflowAction,
    router: TaskRouter,
    place: &mut Place<'_>,
) {
    let scope = turn.incoming.as_ref().map(|incoming| incoming.scope());
    if let Some(scope) = scope {
        let events = turn.past().iter().chain(&turn.fresh);
        let next = effects::propagated(
            events,
            scope,
            turn.incoming.as_ref(),
            place.app_id,
            &turn.instance,
        );
        turn.incoming = next.or(turn.incoming.take());
    }
    turn.say_spans(Some(Status::ContinuedAsNew), place);
    let before = turn.fold.start.clone().unwrap_or_default();
    turn.fold = Fold::default();
    turn.fresh.clear();
    turn.early.clear();
    // What was asked for before is nobody's any more.
    turn.letters.clear();
    turn.stalled = None;
    let begun = EventType::WorkflowStarted(WorkflowStartedEvent::default());
    turn.push(event::of_action(
        event::NO_ID,
        place.now,
        begun,
        Some(router.clone()),
    ));
    let mut started = ExecutionStartedEvent {
        name: before.name,
        parent_instance: before.parent_instance,
        input: action.result,
        workflow_instance: Some(WorkflowInstance {
            instance_id: turn.instance.clone(),
            execution_id: Some((place.new_id)()),
        }),
        // A trace of its own: one for ever would grow for ever.
        parent_trace_context: before
            .parent_trace_context
            .and_then(|_| tracing::root(place.new_id)),
        ..ExecutionStartedEvent::default()
    };
    if place.traced {
        tracing::identify(&mut started, place.new_id);
    }
    let started = EventType::ExecutionStarted(started);
    turn.push(event::of_action(
        event::NO_ID,
        place.now,
        started,
        Some(router),
    ));
    for event in action.carryover_events {
        // What is resolved was asked for by the run before.
        if resolution::of(&event).is_none() {
            turn.push(event);
        }
    }
}

fn schedule(turn: &Turn, action: ScheduleTaskAction, place: &mut Place<'_>) -> EventType {
    // Not all workers give one, and without it nobody could tell the completion from one of an earlier run.
    let task_execution_id = match action.task_execution_id.is_empty() {
        true => (place.new_id)(),
        false => action.task_execution_id,
    };
    EventType::TaskScheduled(TaskScheduledEvent {
        name: action.name,
        version: action.version,
        input: action.input,
        parent_trace_context: turn.trace(),
        task_execution_id,
        rerun_parent_instance_info: None,
        history_propagation_scope: action.history_propagation_scope,
    })
}

fn timer(action: CreateTimerAction) -> EventType {
    EventType::TimerCreated(TimerCreatedEvent {
        fire_at: action.fire_at,
        name: action.name,
        rerun_parent_instance_info: None,
        origin: action.origin.map(|origin| match origin {
            Asked::CreateTimer(it) => Origin::CreateTimer(it),
            Asked::ExternalEvent(it) => Origin::ExternalEvent(it),
            Asked::ActivityRetry(it) => Origin::ActivityRetry(it),
            Asked::ChildWorkflowRetry(it) => Origin::ChildWorkflowRetry(it),
        }),
    })
}

fn child(turn: &Turn, id: i32, action: CreateChildWorkflowAction) -> EventType {
    let instance_id = match action.instance_id.as_str() {
        "" => child_id(&turn.instance, id),
        _ => action.instance_id,
    };
    EventType::ChildWorkflowInstanceCreated(ChildWorkflowInstanceCreatedEvent {
        instance_id,
        name: action.name,
        version: action.version,
        input: action.input,
        parent_trace_context: turn.trace(),
        rerun_parent_instance_info: None,
        history_propagation_scope: action.history_propagation_scope,
        retry_parent_instance_info: action.retry_parent_instance_info,
    })
}

/// The id of a child that was given none: the same each time the action is replayed.
pub fn child_id(parent: &str, action: i32) -> String {
    format!("{parent}:{:04x}", action.cast_unsigned() & 0xffff)
}

fn detached(
    turn: &mut Turn,
    action: CreateDetachedWorkflowAction,
    router: &TaskRouter,
    place: &mut Place<'_>,
) -> Result<EventType, Refused> {
    if action.instance_id.is_empty() {
        return Err(Refused::Malformed("a detached workflow without an id"));
    }
    let instance = action.instance_id.clone();
    let execution_id = action.execution_id.filter(|id| !id.is_empty());
    let started = EventType::ExecutionStarted(ExecutionStartedEvent {
        name: action.name,
        input: action.input,
        scheduled_start_timestamp: action.scheduled_start_timestamp,
        tags: action.tags,
        workflow_instance: Some(WorkflowInstance {
            instance_id: instance.clone(),
            execution_id: execution_id.or_else(|| Some((place.new_id)())),
        }),
        parent_trace_context: action.parent_trace_context.or_else(|| turn.trace()),
        ..ExecutionStartedEvent::default()
    });
    // Nothing in it leads back to who began it.
    let target = event::target(Some(router)).map(|target| TaskRouter {
        source_app_id: String::new(),
        target_app_id: Some(target.to_owned()),
        target_app_namespace: router.target_app_namespace.clone(),
    });
    let start = event::of_action(event::NO_ID, place.now, started, target);
    turn.letters.push(Letter::Detached {
        request: Box::new(CreateWorkflowInstanceRequest {
            start_event: Some(start),
            ..CreateWorkflowInstanceRequest::default()
        }),
        instance: instance.clone(),
    });
    let created = DetachedWorkflowInstanceCreatedEvent {
        instance_id: instance,
    };
    Ok(EventType::DetachedWorkflowInstanceCreated(created))
}

fn terminate(
    turn: &mut Turn,
    action: TerminateWorkflowAction,
    router: TaskRouter,
    place: &Place<'_>,
) {
    let kind = EventType::ExecutionTerminated(ExecutionTerminatedEvent {
        input: action.reason,
        recurse: action.recurse,
    });
    turn.letters.push(Letter::Event {
        event: Box::new(event::of_action(
            event::NO_ID,
            place.now,
            kind,
            Some(router),
        )),
        instance: action.instance_id,
    });
}

/// Ends a workflow that was terminated and goes on all the same. What it asked for meanwhile is not done.
pub fn force_end(turn: &mut Turn, result: Option<String>, place: &mut Place<'_>) {
    turn.fresh
        .retain(|event| resolution::awaited(event).is_none());
    let completed = EventType::ExecutionCompleted(ExecutionCompletedEvent {
        workflow_status: Status::Terminated.into(),
        result,
        failure_details: None,
    });
    let router = event::from(place.app_id);
    turn.push(event::of_action(
        event::NO_ID,
        place.now,
        completed,
        Some(router),
    ));
}
