//! Completions that come before what they complete. Here a turn is stored before anything is done because of it, so there are none; an inbox
//! that another build of the sidecar has written may hold one, of a turn that was carried out and lost. Whoever asks for it in the turn
//! that it comes with has it at once, and it is not done again; then neither the asking nor the completion is in the history, as upstream
//! has it. Otherwise it means nothing: what is asked for later is done.

use std::collections::BTreeSet;

use proto::durabletask::HistoryEvent;

use super::{
    fold::Fold,
    resolution::{self, Resolution},
};

/// Drops what answers an earlier run, by what was asked for or by the execution that it names; what nobody has asked for and that names
/// nothing is early. A worker would pass over the one, and later it would stand in the way of the one that has the same number.
pub fn sift(history: &[HistoryEvent], fresh: &mut Vec<HistoryEvent>) -> BTreeSet<Resolution> {
    let mut early = BTreeSet::new();
    fresh.retain(|event| {
        let Some(resolution) = resolution::of(event) else {
            return true;
        };
        // What has just ended was asked for a short while ago: it is looked for from the end.
        match resolution::asked(history, resolution) {
            Some(asked) => resolution::answers(asked, event),
            None if resolution::execution(event).is_some() => false,
            None => {
                early.insert(resolution);
                true
            }
        }
    });
    early
}

/// Takes early completions out of what a turn comes to: in a history they would answer nothing.
pub fn leave(early: &BTreeSet<Resolution>, fresh: &mut Vec<HistoryEvent>, fold: &mut Fold) {
    if early.is_empty() {
        return;
    }
    let is_early =
        |event: &HistoryEvent| resolution::of(event).is_some_and(|it| early.contains(&it));
    fresh.retain(|event| !is_early(event));
    early.iter().for_each(|it| fold.forget(*it));
}

#[cfg(test)]
mod tests {
    use proto::durabletask::{
        TaskCompletedEvent, TaskScheduledEvent, TimerFiredEvent, history_event::EventType,
    };

    use super::*;
    use crate::core::event;

    fn at(id: i32, kind: EventType) -> HistoryEvent {
        HistoryEvent {
            event_id: id,
            ..event::plain(prost_types::Timestamp::default(), kind)
        }
    }

    fn completed(task: i32, execution: &str) -> HistoryEvent {
        let kind = EventType::TaskCompleted(TaskCompletedEvent {
            task_scheduled_id: task,
            task_execution_id: execution.to_owned(),
            ..TaskCompletedEvent::default()
        });
        at(event::NO_ID, kind)
    }

    #[test]
    fn what_is_early_is_told_from_what_is_of_an_earlier_run() {
        let asked = EventType::TaskScheduled(TaskScheduledEvent {
            task_execution_id: "this".to_owned(),
            ..TaskScheduledEvent::default()
        });
        let history = [at(0, asked)];
        let fired = EventType::TimerFired(TimerFiredEvent {
            timer_id: 2,
            ..TimerFiredEvent::default()
        });
        let mut fresh = vec![
            completed(0, "this"),
            completed(0, "earlier"),
            completed(1, "earlier"),
            completed(1, ""),
            at(event::NO_ID, fired),
        ];
        let early = sift(&history, &mut fresh);
        let left = [completed(0, "this"), completed(1, ""), fresh[2].clone()];
        assert_eq!(fresh, left);
        assert_eq!(
            early,
            BTreeSet::from([Resolution::Task(1), Resolution::Timer(2)])
        );

        let mut fold = Fold::of(&fresh);
        leave(&early, &mut fresh, &mut fold);
        assert_eq!(fresh, [completed(0, "this")]);
        assert!(fold.is_resolved(Resolution::Task(0)));
        assert!(!fold.is_resolved(Resolution::Task(1)));
    }
}
