//! What a rule requires to have happened before, looked for in the history that the caller shows (contract 3.9 and 10.4).

use std::collections::HashMap;

use crds::workflow_access_policy::{EventType as Happened, RequiredEvent};
use prost::Message;
use proto::durabletask::{
    HistoryEvent, PropagatedHistory, PropagatedHistoryChunk, history_event::EventType,
};

/// Whether all that is required has happened, in this order: each event is looked for after the one before it. A chunk of an app that
/// is named and cannot be read proves nothing, nor does anything that is shown with it.
pub fn are_met(required: &[RequiredEvent], shown: &PropagatedHistory) -> bool {
    let mut left = required.iter().peekable();
    let is_named = |chunk: &&PropagatedHistoryChunk| {
        required
            .iter()
            .any(|required| required.app_id == chunk.app_id)
    };
    for chunk in shown.chunks.iter().filter(is_named) {
        let events = chunk.raw_events.iter();
        let events = events.map(|raw| HistoryEvent::decode(raw.clone()));
        let Ok(events) = events.collect::<Result<Vec<_>, _>>() else {
            tracing::warn!(
                "a history of app '{}' was shown that cannot be read",
                chunk.app_id
            );
            return false;
        };
        let asked = Asked::of(&events);
        for event in &events {
            left.next_if(|it| it.app_id == chunk.app_id && asked.is(event, it));
        }
    }
    left.peek().is_none()
}

/// What a workflow has asked for, by the ids of its events. They mean something within one chunk only.
#[derive(Default)]
struct Asked<'e> {
    activities: HashMap<i32, &'e str>,
    children: HashMap<i32, &'e str>,
}

impl<'e> Asked<'e> {
    fn of(events: &'e [HistoryEvent]) -> Self {
        let mut asked = Self::default();
        for event in events {
            match &event.event_type {
                Some(EventType::TaskScheduled(task)) => {
                    asked.activities.insert(event.event_id, &task.name);
                }
                Some(EventType::ChildWorkflowInstanceCreated(child)) => {
                    asked.children.insert(event.event_id, &child.name);
                }
                _ => {}
            }
        }
        asked
    }

    /// Whether an event is what is required. A workflow that was started is a child; the run that shows its history is none.
    fn is(&self, event: &HistoryEvent, required: &RequiredEvent) -> bool {
        let Some(kind) = &event.event_type else {
            return false;
        };
        let name = match (required.event_type, kind) {
            (Happened::ActivityStarted, EventType::TaskScheduled(task)) => Some(task.name.as_str()),
            (Happened::ActivityCompleted, EventType::TaskCompleted(done)) => {
                self.activities.get(&done.task_scheduled_id).copied()
            }
            (Happened::WorkflowStarted, EventType::ChildWorkflowInstanceCreated(child)) => {
                Some(child.name.as_str())
            }
            (Happened::WorkflowCompleted, EventType::ChildWorkflowInstanceCompleted(done)) => {
                self.children.get(&done.task_scheduled_id).copied()
            }
            (Happened::EventRaised, EventType::EventRaised(raised)) => Some(raised.name.as_str()),
            _ => None,
        };
        name == Some(required.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proto::durabletask::{
        ChildWorkflowInstanceCompletedEvent, ChildWorkflowInstanceCreatedEvent, EventRaisedEvent,
        TaskCompletedEvent, TaskScheduledEvent,
    };

    use super::*;
    use crate::core::event;

    fn event(id: i32, kind: EventType) -> HistoryEvent {
        event::of_action(id, prost_types::Timestamp::default(), kind, None)
    }

    fn activity(id: i32, name: &str) -> [HistoryEvent; 2] {
        let scheduled = TaskScheduledEvent {
            name: name.to_owned(),
            ..TaskScheduledEvent::default()
        };
        let completed = TaskCompletedEvent {
            task_scheduled_id: id,
            ..TaskCompletedEvent::default()
        };
        [
            event(id, EventType::TaskScheduled(scheduled)),
            event(-1, EventType::TaskCompleted(completed)),
        ]
    }

    fn child(id: i32, name: &str) -> [HistoryEvent; 2] {
        let created = ChildWorkflowInstanceCreatedEvent {
            name: name.to_owned(),
            ..ChildWorkflowInstanceCreatedEvent::default()
        };
        let completed = ChildWorkflowInstanceCompletedEvent {
            task_scheduled_id: id,
            ..ChildWorkflowInstanceCompletedEvent::default()
        };
        [
            event(id, EventType::ChildWorkflowInstanceCreated(created)),
            event(-1, EventType::ChildWorkflowInstanceCompleted(completed)),
        ]
    }

    fn raised(name: &str) -> HistoryEvent {
        let raised = EventRaisedEvent {
            name: name.to_owned(),
            input: None,
        };
        event(-1, EventType::EventRaised(raised))
    }

    fn chunk(app_id: &str, events: &[HistoryEvent]) -> PropagatedHistoryChunk {
        PropagatedHistoryChunk {
            app_id: app_id.to_owned(),
            raw_events: events.iter().map(|it| it.encode_to_vec().into()).collect(),
            ..PropagatedHistoryChunk::default()
        }
    }

    fn shown(chunks: &[PropagatedHistoryChunk]) -> PropagatedHistory {
        PropagatedHistory {
            chunks: chunks.to_vec(),
            ..PropagatedHistory::default()
        }
    }

    fn required(list: &[(Happened, &str)]) -> Vec<RequiredEvent> {
        let list = list.iter();
        list.map(|(event_type, name)| RequiredEvent {
            event_type: *event_type,
            name: (*name).to_owned(),
            app_id: "shop".to_owned(),
        })
        .collect()
    }

    #[test]
    fn each_kind_of_event_is_found_by_its_name() {
        let mut events = activity(0, "check").to_vec();
        events.extend(child(1, "ship"));
        events.push(raised("paid"));
        let history = shown(&[chunk("shop", &events)]);
        for (kind, name, wanted) in [
            (Happened::ActivityStarted, "check", true),
            (Happened::ActivityCompleted, "check", true),
            (Happened::ActivityCompleted, "ship", false),
            (Happened::WorkflowStarted, "ship", true),
            (Happened::WorkflowCompleted, "ship", true),
            (Happened::WorkflowCompleted, "check", false),
            (Happened::EventRaised, "paid", true),
            (Happened::EventRaised, "Paid", false),
        ] {
            let met = are_met(&required(&[(kind, name)]), &history);
            assert_eq!(met, wanted, "{kind:?} {name}");
        }
        let [scheduled, _] = activity(0, "check");
        let begun = shown(&[chunk("shop", &[scheduled])]);
        let completed = required(&[(Happened::ActivityCompleted, "check")]);
        assert!(!are_met(&completed, &begun));
    }

    #[test]
    fn all_of_a_list_has_to_have_happened_in_order() {
        let (check, approve) = (activity(0, "check"), activity(1, "approve"));
        let both = required(&[
            (Happened::ActivityCompleted, "check"),
            (Happened::ActivityCompleted, "approve"),
        ]);
        let in_order = [&check[..], &approve[..]].concat();
        let reversed = [&approve[..], &check[..]].concat();
        assert!(are_met(&both, &shown(&[chunk("shop", &in_order)])));
        assert!(!are_met(&both, &shown(&[chunk("shop", &reversed)])));
        assert!(!are_met(&both, &shown(&[chunk("shop", &check)])));
        let apart = [chunk("shop", &check), chunk("shop", &approve)];
        assert!(are_met(&both, &shown(&apart)));
        let twice = required(&[(Happened::ActivityCompleted, "check"); 2]);
        assert!(!are_met(&twice, &shown(&[chunk("shop", &check)])));
    }

    #[test]
    fn ids_and_apps_are_those_of_one_chunk() {
        let [scheduled, completed] = activity(0, "check");
        let done = required(&[(Happened::ActivityCompleted, "check")]);
        let apart = [chunk("shop", &[scheduled]), chunk("shop", &[completed])];
        assert!(!are_met(&done, &shown(&apart)));
        let other = [chunk("other", &activity(0, "check"))];
        assert!(!are_met(&done, &shown(&other)));
        assert!(!are_met(&done, &PropagatedHistory::default()));
    }

    #[test]
    fn what_cannot_be_read_proves_nothing() {
        let done = required(&[(Happened::ActivityCompleted, "check")]);
        let mut broken = chunk("shop", &[]);
        broken.raw_events.push(vec![0xff].into());
        let good = chunk("shop", &activity(0, "check"));
        assert!(!are_met(&done, &shown(&[good.clone(), broken.clone()])));
        broken.app_id = "other".to_owned();
        assert!(are_met(&done, &shown(&[broken, good])));
    }
}
