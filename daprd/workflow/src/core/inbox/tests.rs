//! Which events count, once, and for which run.

use proto::durabletask::{
    TaskCompletedEvent, TaskScheduledEvent, TimerCreatedEvent, WorkflowInstance,
    history_event::EventType,
};

use super::*;
use crate::core::turn::{Before, Begun, Turn};

fn at(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

fn started() -> HistoryEvent {
    event::plain(
        at(0),
        EventType::ExecutionStarted(ExecutionStartedEvent::default()),
    )
}

fn scheduled(id: i32, execution: &str) -> HistoryEvent {
    let task = TaskScheduledEvent {
        task_execution_id: execution.to_owned(),
        ..TaskScheduledEvent::default()
    };
    event::of_action(id, at(1), EventType::TaskScheduled(task), None)
}

fn completed(id: i32, execution: &str) -> HistoryEvent {
    let task = TaskCompletedEvent {
        task_scheduled_id: id,
        task_execution_id: execution.to_owned(),
        ..TaskCompletedEvent::default()
    };
    event::plain(at(2), EventType::TaskCompleted(task))
}

fn look(event: &HistoryEvent, history: &[HistoryEvent], inbox: &[HistoryEvent]) -> Arrival {
    arrival(event, history, &Fold::of(history), inbox)
}

#[test]
fn a_completion_counts_once_and_only_for_what_was_asked() {
    let history = [started(), scheduled(0, "this run")];
    let (mine, other) = (completed(0, "this run"), completed(0, "the run before"));
    assert_eq!(look(&mine, &history, &[]), Arrival::New);
    let waiting = std::slice::from_ref(&mine);
    assert_eq!(look(&mine, &history, waiting), Arrival::Again);
    let resolved = [history.as_slice(), waiting].concat();
    assert_eq!(look(&mine, &resolved, &[]), Arrival::Again);
    for history in [history.as_slice(), &resolved, &history[..1]] {
        assert_eq!(look(&other, history, &[]), Arrival::Stray);
    }
    // One that waits does not hide it.
    assert_eq!(look(&mine, &history, &[other]), Arrival::New);
    // From a time when nobody said which run it was.
    assert_eq!(look(&completed(0, ""), &history, &[]), Arrival::New);
}

#[test]
fn a_completion_of_an_earlier_run_gets_into_no_history() {
    let begin = |history: Vec<HistoryEvent>, inbox: Vec<HistoryEvent>| {
        let before = Before {
            fold: Fold::of(&history),
            history,
            ..Before::default()
        };
        Turn::begin(before, inbox, at(3))
    };
    let asked = vec![started(), scheduled(0, "this run")];
    let stray = completed(0, "the run before");
    let begun = begin(asked.clone(), vec![stray.clone()]);
    assert!(matches!(begun, Begun::Moot(history, _) if history == asked));
    // Nor where the worker asks for the same number in the turn that it came with.
    let Begun::Ask(turn) = begin(Vec::new(), vec![started(), stray]) else {
        panic!("it begins");
    };
    let kinds: Vec<_> = turn.request().new_events.iter().map(event::kind).collect();
    assert_eq!(kinds, ["WorkflowStarted", "ExecutionStarted"]);
}

#[test]
fn a_timer_fires_for_its_own_time() {
    let timer = TimerCreatedEvent {
        fire_at: Some(at(10)),
        ..TimerCreatedEvent::default()
    };
    let asked = event::of_action(3, at(1), EventType::TimerCreated(timer), None);
    let fired = |when| event::timer_fired(at(20), 3, Some(at(when)));
    assert!(resolution::answers(&asked, &fired(10)));
    assert!(!resolution::answers(&asked, &fired(5)));
}

#[test]
fn an_event_is_for_the_run_that_it_is_meant_for() {
    assert!(!Meant::Any.is_for_other(Some("a"), 2));
    assert!(Meant::Execution("b").is_for_other(Some("a"), 2));
    assert!(!Meant::Execution("a").is_for_other(Some("a"), 2));
    assert!(!Meant::Execution("").is_for_other(Some("a"), 2));
    assert!(Meant::Generation(1).is_for_other(Some("a"), 2));
    assert!(!Meant::Generation(2).is_for_other(Some("a"), 2));
}

fn asking(run: Option<&str>) -> ExecutionStartedEvent {
    ExecutionStartedEvent {
        workflow_instance: Some(WorkflowInstance {
            instance_id: "i".to_owned(),
            execution_id: run.map(str::to_owned),
        }),
        ..ExecutionStartedEvent::default()
    }
}

#[test]
fn an_asking_is_known_by_its_run() {
    assert!(is_same_asking(&asking(Some("r")), &asking(Some("r"))));
    for (known, asked) in [
        (Some("r"), Some("s")),
        (Some("r"), None),
        (None, None),
        (Some(""), Some("")),
    ] {
        assert!(
            !is_same_asking(&asking(known), &asking(asked)),
            "{known:?} {asked:?}"
        );
    }
}
