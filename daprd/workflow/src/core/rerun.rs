//! A workflow that runs again from one of its events on, under another id: the history that it begins with. What had not ended when
//! that event came is done again as well.

use proto::durabletask::{
    HistoryEvent, RerunParentInstanceInfo, RerunWorkflowFromEventRequest, history_event::EventType,
};

use super::{actions::child_id, event, resolution};

/// Why there is no such rerun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Invalid(String),
}

/// What a rerun begins with.
#[derive(Debug, Default, PartialEq)]
pub struct Fork {
    /// What is taken over.
    pub history: Vec<HistoryEvent>,
    /// What is asked for again, the event itself last.
    pub again: Vec<HistoryEvent>,
}

/// Takes a history apart at the event that is asked for.
///
/// # Errors
/// [`Error::NotFound`] where there is none, or none that can be run again; [`Error::Invalid`] for what it cannot be given.
pub fn fork(
    history: &[HistoryEvent],
    request: &RerunWorkflowFromEventRequest,
    new_instance: &str,
) -> Result<Fork, Error> {
    let id = request.event_id.cast_signed();
    let mut fork = Fork::default();
    for event in history {
        if event.event_id == id {
            let found = again(event.clone(), request, new_instance)?;
            for event in &mut fork.again {
                if let Some(EventType::ChildWorkflowInstanceCreated(child)) = &mut event.event_type
                {
                    child.instance_id = child_id(new_instance, event.event_id);
                }
            }
            fork.again.push(found);
            return Ok(fork);
        }
        if resolution::awaited(event).is_some() {
            fork.again.push(event.clone());
            continue;
        }
        if let Some(resolution) = resolution::of(event) {
            let asked = |it: &HistoryEvent| resolution::awaited(it) == Some(resolution);
            // What ended is taken over next to its end.
            if let Some(at) = fork.again.iter().position(asked) {
                fork.history.push(fork.again.remove(at));
            }
        }
        fork.history.push(event.clone());
    }
    Err(Error::NotFound(format!(
        "does not have history event with ID '{id}'"
    )))
}

fn again(
    mut event: HistoryEvent,
    request: &RerunWorkflowFromEventRequest,
    new_instance: &str,
) -> Result<HistoryEvent, Error> {
    let id = event.event_id;
    let from = Some(RerunParentInstanceInfo {
        instance_id: request.source_instance_id.clone(),
    });
    let child = request.new_child_workflow_instance_id.as_ref();
    let refuse = |what: &str| Err(Error::Invalid(format!("{what} event '{id}'")));
    match &mut event.event_type {
        Some(EventType::TaskScheduled(task)) => {
            task.rerun_parent_instance_info = from;
            if request.overwrite_input {
                task.input.clone_from(&request.input);
            }
            if child.is_some() {
                return refuse("cannot set new child workflow instance ID on activity");
            }
        }
        Some(EventType::TimerCreated(timer)) => {
            timer.rerun_parent_instance_info = from;
            if request.overwrite_input {
                return refuse("cannot write input to timer");
            }
            if child.is_some() {
                return refuse("cannot set new child workflow instance ID on timer");
            }
        }
        Some(EventType::ChildWorkflowInstanceCreated(created)) => {
            created.rerun_parent_instance_info = from;
            created.instance_id = match child {
                Some(given) => given.clone(),
                None => child_id(new_instance, id),
            };
            if request.overwrite_input {
                created.input.clone_from(&request.input);
            }
        }
        Some(EventType::DetachedWorkflowInstanceCreated(_)) => {
            return Err(Error::Invalid(format!(
                "event '{id}' is a detached workflow spawn and cannot be rerun: nobody waits for what it began"
            )));
        }
        _ => {
            return Err(Error::NotFound(format!(
                "target event '*protos.HistoryEvent_{}' with ID '{id}' is not an event that can be rerun",
                event::kind(&event)
            )));
        }
    }
    Ok(event)
}
