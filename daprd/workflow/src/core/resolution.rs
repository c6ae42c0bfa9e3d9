//! What an event resolves: a task, a timer or a child is resolved once, whatever arrives again is a duplicate. A failure after a
//! completion is one, too.

use proto::durabletask::{HistoryEvent, history_event::EventType};

/// Something that was asked for and has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resolution {
    Task(i32),
    Timer(i32),
    Child(i32),
}

/// What an event resolves, if anything.
pub fn of(event: &HistoryEvent) -> Option<Resolution> {
    Some(match event.event_type.as_ref()? {
        EventType::TaskCompleted(it) => Resolution::Task(it.task_scheduled_id),
        EventType::TaskFailed(it) => Resolution::Task(it.task_scheduled_id),
        EventType::TimerFired(it) => Resolution::Timer(it.timer_id),
        EventType::ChildWorkflowInstanceCompleted(it) => Resolution::Child(it.task_scheduled_id),
        EventType::ChildWorkflowInstanceFailed(it) => Resolution::Child(it.task_scheduled_id),
        _ => return None,
    })
}

/// What the event of an action waits for, if anything.
pub fn awaited(event: &HistoryEvent) -> Option<Resolution> {
    let id = event.event_id;
    Some(match event.event_type.as_ref()? {
        EventType::TaskScheduled(_) => Resolution::Task(id),
        EventType::TimerCreated(_) => Resolution::Timer(id),
        EventType::ChildWorkflowInstanceCreated(_) => Resolution::Child(id),
        _ => return None,
    })
}

/// The last event of a history that asks for what is resolved.
pub fn asked(history: &[HistoryEvent], resolution: Resolution) -> Option<&HistoryEvent> {
    let mut asked = history.iter().rev();
    asked.find(|event| awaited(event) == Some(resolution))
}

/// Whether an event resolves what was asked, and not what an earlier run asked under the same number. Numbers begin anew with each run
/// of an instance, so a number alone says little; a task has its execution besides, and a timer its time. A child has nothing: which run
/// its end is for is said beside the event.
pub fn answers(asked: &HistoryEvent, event: &HistoryEvent) -> bool {
    if awaited(asked) != of(event) {
        return false;
    }
    match (&asked.event_type, &event.event_type) {
        (Some(EventType::TimerCreated(asked)), Some(EventType::TimerFired(fired))) => {
            asked.fire_at.is_none() || fired.fire_at.is_none() || asked.fire_at == fired.fire_at
        }
        // Where one of both does not say, it is from a time when nobody did.
        _ => match (execution(asked), execution(event)) {
            (Some(asked), Some(event)) => asked == event,
            _ => true,
        },
    }
}

/// Which execution of a task a completion is of, where workers say so.
pub fn execution(event: &HistoryEvent) -> Option<&str> {
    let id = match event.event_type.as_ref()? {
        EventType::TaskCompleted(it) => &it.task_execution_id,
        EventType::TaskFailed(it) => &it.task_execution_id,
        EventType::TaskScheduled(it) => &it.task_execution_id,
        _ => return None,
    };
    Some(id.as_str()).filter(|id| !id.is_empty())
}
