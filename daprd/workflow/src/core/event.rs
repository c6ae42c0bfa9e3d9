//! Events of a history: how they are made and what is asked of them.

use prost_types::Timestamp;
use proto::durabletask::{
    ChildWorkflowInstanceCreatedEvent, ChildWorkflowInstanceFailedEvent, ExecutionStartedEvent,
    ExecutionTerminatedEvent, HistoryEvent, TaskFailedEvent, TaskFailureDetails, TaskRouter,
    TaskScheduledEvent, TimerCreatedEvent, TimerFiredEvent, WorkflowStartedEvent,
    history_event::EventType,
};

/// The id of events that no action of the workflow caused.
pub const NO_ID: i32 = -1;

/// An event that no action caused.
pub fn plain(now: Timestamp, kind: EventType) -> HistoryEvent {
    of_action(NO_ID, now, kind, None)
}

/// The event of an action.
pub fn of_action(
    id: i32,
    now: Timestamp,
    kind: EventType,
    router: Option<TaskRouter>,
) -> HistoryEvent {
    HistoryEvent {
        event_id: id,
        timestamp: Some(now),
        router,
        event_type: Some(kind),
    }
}

/// The firing of a timer.
pub fn timer_fired(now: Timestamp, id: i32, fire_at: Option<Timestamp>) -> HistoryEvent {
    let fired = TimerFiredEvent {
        fire_at,
        timer_id: id,
    };
    plain(now, EventType::TimerFired(fired))
}

/// Says that a task has failed which no activity ran.
pub fn task_failed(
    now: Timestamp,
    scheduled: &HistoryEvent,
    app_id: &str,
    details: TaskFailureDetails,
) -> HistoryEvent {
    let task = task_scheduled(scheduled);
    let failed = TaskFailedEvent {
        task_scheduled_id: scheduled.event_id,
        failure_details: Some(details),
        task_execution_id: task
            .map(|it| it.task_execution_id.clone())
            .unwrap_or_default(),
        ..TaskFailedEvent::default()
    };
    of_action(
        NO_ID,
        now,
        EventType::TaskFailed(failed),
        Some(from(app_id)),
    )
}

/// Says that a child has failed which was never begun.
pub fn child_failed(
    now: Timestamp,
    task: i32,
    app_id: &str,
    details: TaskFailureDetails,
) -> HistoryEvent {
    let failed = ChildWorkflowInstanceFailedEvent {
        task_scheduled_id: task,
        failure_details: Some(details),
        ..ChildWorkflowInstanceFailedEvent::default()
    };
    let kind = EventType::ChildWorkflowInstanceFailed(failed);
    of_action(NO_ID, now, kind, Some(from(app_id)))
}

/// The instance that a start says it is of.
pub fn instance_id(start: &ExecutionStartedEvent) -> Option<&str> {
    let id = start.workflow_instance.as_ref()?.instance_id.as_str();
    Some(id).filter(|id| !id.is_empty())
}

/// The instance whose event is run again by this one.
pub fn rerun_of(event: &HistoryEvent) -> Option<&str> {
    let of = match event.event_type.as_ref()? {
        EventType::TaskScheduled(it) => it.rerun_parent_instance_info.as_ref(),
        EventType::TimerCreated(it) => it.rerun_parent_instance_info.as_ref(),
        EventType::ChildWorkflowInstanceCreated(it) => it.rerun_parent_instance_info.as_ref(),
        _ => None,
    };
    Some(of?.instance_id.as_str())
}

/// The first half of a text's SHA-256, or nearly: for names of what a text may not stand in.
pub fn digest(text: &str) -> String {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(text.as_bytes());
    hash.iter()
        .take(12)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A router that only names where something comes from.
pub fn from(app_id: &str) -> TaskRouter {
    TaskRouter {
        source_app_id: app_id.to_owned(),
        ..TaskRouter::default()
    }
}

/// The other app that an event is for, if it is for one.
pub fn target(router: Option<&TaskRouter>) -> Option<&str> {
    router?.target_app_id.as_deref().filter(|id| !id.is_empty())
}

macro_rules! accessors {
    ($($name:ident: $variant:ident = $type:ty;)*) => {
        $(pub fn $name(event: &HistoryEvent) -> Option<&$type> {
            match &event.event_type {
                Some(EventType::$variant(inner)) => Some(inner),
                _ => None,
            }
        })*
    };
}

accessors! {
    execution_started: ExecutionStarted = ExecutionStartedEvent;
    terminated: ExecutionTerminated = ExecutionTerminatedEvent;
    task_scheduled: TaskScheduled = TaskScheduledEvent;
    timer_created: TimerCreated = TimerCreatedEvent;
    child_created: ChildWorkflowInstanceCreated = ChildWorkflowInstanceCreatedEvent;
    workflow_started: WorkflowStarted = WorkflowStartedEvent;
}

/// The first start of an execution among events.
pub fn start<'e>(
    events: impl IntoIterator<Item = &'e HistoryEvent>,
) -> Option<&'e ExecutionStartedEvent> {
    events.into_iter().find_map(execution_started)
}

/// Which run of an instance events belong to.
pub fn execution_id(start: &ExecutionStartedEvent) -> Option<&str> {
    start.workflow_instance.as_ref()?.execution_id.as_deref()
}

/// Nanoseconds since 1970, by which reminders are named.
pub fn nanos(time: Option<&Timestamp>) -> i128 {
    let time = time.copied().unwrap_or_default();
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos)
}

/// The kind of an event, as its field is called.
pub fn kind(event: &HistoryEvent) -> &'static str {
    match &event.event_type {
        None => "",
        Some(EventType::ExecutionStarted(_)) => "ExecutionStarted",
        Some(EventType::ExecutionCompleted(_)) => "ExecutionCompleted",
        Some(EventType::ExecutionTerminated(_)) => "ExecutionTerminated",
        Some(EventType::TaskScheduled(_)) => "TaskScheduled",
        Some(EventType::TaskCompleted(_)) => "TaskCompleted",
        Some(EventType::TaskFailed(_)) => "TaskFailed",
        Some(EventType::ChildWorkflowInstanceCreated(_)) => "ChildWorkflowInstanceCreated",
        Some(EventType::ChildWorkflowInstanceCompleted(_)) => "ChildWorkflowInstanceCompleted",
        Some(EventType::ChildWorkflowInstanceFailed(_)) => "ChildWorkflowInstanceFailed",
        Some(EventType::TimerCreated(_)) => "TimerCreated",
        Some(EventType::TimerFired(_)) => "TimerFired",
        Some(EventType::WorkflowStarted(_)) => "WorkflowStarted",
        Some(EventType::WorkflowCompleted(_)) => "WorkflowCompleted",
        Some(EventType::EventSent(_)) => "EventSent",
        Some(EventType::EventRaised(_)) => "EventRaised",
        Some(EventType::ContinueAsNew(_)) => "ContinueAsNew",
        Some(EventType::ExecutionSuspended(_)) => "ExecutionSuspended",
        Some(EventType::ExecutionResumed(_)) => "ExecutionResumed",
        Some(EventType::ExecutionStalled(_)) => "ExecutionStalled",
        Some(EventType::DetachedWorkflowInstanceCreated(_)) => "DetachedWorkflowInstanceCreated",
    }
}
