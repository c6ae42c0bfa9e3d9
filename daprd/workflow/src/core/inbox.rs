//! What becomes of an event that arrives: everything may arrive twice, late, or at another run than it was meant for.

use proto::durabletask::{ExecutionStartedEvent, HistoryEvent, history_event::EventType};

use super::{event, fold::Fold, resolution};

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is new.
    New,
    /// It has arrived before; who waits for it may need to be woken again.
    Again,
    /// It belongs to an earlier run, or to nothing that was asked for.
    Stray,
}

/// Which run of an instance an event is meant for.
#[derive(Clone, Copy, Debug)]
pub enum Meant<'m> {
    /// Nobody has said.
    Any,
    /// The one with this execution id.
    Execution(&'m str),
    /// The one whose execution id has this digest.
    Hashed(&'m str),
    /// The one of this generation.
    Generation(u64),
}

impl Meant<'_> {
    /// Whether it is meant for another run than this one.
    pub fn is_for_other(self, execution: Option<&str>, generation: u64) -> bool {
        match self {
            Self::Any => false,
            Self::Execution(meant) => {
                !meant.is_empty() && execution.is_some_and(|own| own != meant)
            }
            Self::Hashed(meant) => execution.is_some_and(|own| event::digest(own) != meant),
            Self::Generation(meant) => meant != generation,
        }
    }
}

/// Looks at an event that has arrived.
pub fn arrival(
    event: &HistoryEvent,
    history: &[HistoryEvent],
    fold: &Fold,
    inbox: &[HistoryEvent],
) -> Arrival {
    if let Some(resolution) = resolution::of(event) {
        // What is not in the history has not been asked for: a turn is stored before anything is done because of it.
        let Some(asked) = resolution::asked(history, resolution) else {
            return Arrival::Stray;
        };
        if !resolution::answers(asked, event) {
            return Arrival::Stray;
        }
        let waits = inbox.iter().any(|it| resolution::answers(asked, it));
        return match fold.is_resolved(resolution) || waits {
            true => Arrival::Again,
            false => Arrival::New,
        };
    }
    if let Some(EventType::EventRaised(raised)) = &event.event_type {
        let same = |other: &HistoryEvent| match &other.event_type {
            Some(EventType::EventRaised(it)) => it == raised && other.timestamp == event.timestamp,
            _ => false,
        };
        if history.iter().chain(inbox).any(same) {
            return Arrival::Again;
        }
    }
    Arrival::New
}

/// What waits to begin: an instance that was made and has not run.
pub fn pending_start<'i>(
    history: &[HistoryEvent],
    inbox: &'i [HistoryEvent],
) -> Option<&'i HistoryEvent> {
    if event::start(history).is_some() {
        return None;
    }
    inbox
        .iter()
        .find(|event| event::execution_started(event).is_some())
}

/// Whether the same action of the same run of a parent asks for a child that it asked for before.
pub fn is_same_child(known: &ExecutionStartedEvent, asked: &ExecutionStartedEvent) -> bool {
    let (Some(known), Some(asked)) = (&known.parent_instance, &asked.parent_instance) else {
        return false;
    };
    let id = |parent: &proto::durabletask::ParentInstanceInfo| {
        let instance = parent.workflow_instance.as_ref();
        instance.map(|instance| instance.instance_id.clone())
    };
    let run = |parent: &proto::durabletask::ParentInstanceInfo| {
        parent.workflow_instance.as_ref()?.execution_id.clone()
    };
    let same_run = match (run(known), run(asked)) {
        (Some(known), Some(asked)) => known == asked,
        _ => true,
    };
    id(known) == id(asked) && known.task_scheduled_id == asked.task_scheduled_id && same_run
}

/// Whether it is one and the same asking that comes twice, because its first answer was lost: each asking names its run.
pub fn is_same_asking(known: &ExecutionStartedEvent, asked: &ExecutionStartedEvent) -> bool {
    let asked = event::execution_id(asked).filter(|id| !id.is_empty());
    asked.is_some() && event::execution_id(known) == asked
}

/// Whether somebody asks again for what he asked for before: all but what each asking makes anew is the same.
pub fn is_same_start(known: &ExecutionStartedEvent, asked: &ExecutionStartedEvent) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let parents = match (&known.parent_instance, &asked.parent_instance) {
        (None, None) => true,
        (Some(_), Some(_)) => is_same_child(known, asked),
        _ => false,
    };
    known.name == asked.name
        && text(&known.version) == text(&asked.version)
        && text(&known.input) == text(&asked.input)
        && known.scheduled_start_timestamp == asked.scheduled_start_timestamp
        && parents
}

#[cfg(test)]
mod tests;
