//! Names, parents and times of spans.

use std::time::Duration;

use proto::durabletask::{
    EventRaisedEvent, ExecutionCompletedEvent, ExecutionStalledEvent, StalledReason,
    TaskFailureDetails, TimerCreatedEvent, WorkflowStartedEvent, WorkflowVersion,
};
use telemetry::trace::Status as Outcome;

use super::*;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn ids() -> impl FnMut() -> String + Send {
    let mut count = 0_u64;
    move || {
        count += 1;
        format!("{count:032x}").chars().rev().collect()
    }
}

fn start(parent: &str) -> ExecutionStartedEvent {
    ExecutionStartedEvent {
        name: "order".to_owned(),
        parent_trace_context: Some(Kept {
            trace_parent: parent.to_owned(),
            trace_state: Some("a=b".to_owned()),
            ..Kept::default()
        }),
        ..ExecutionStartedEvent::default()
    }
}

fn event(id: i32, seconds: i64, kind: EventType) -> HistoryEvent {
    let at = Timestamp { seconds, nanos: 0 };
    event::of_action(id, at, kind, None)
}

fn begun(seconds: i64) -> HistoryEvent {
    let started = EventType::WorkflowStarted(WorkflowStartedEvent::default());
    event(-1, seconds, started)
}

fn second(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn contexts_of_all_writers_are_read() {
    let parent = start(PARENT).parent_trace_context.unwrap();
    let read = context(&parent).unwrap();
    assert_eq!(read.traceparent(), PARENT);
    assert_eq!(read.tracestate(), Some("a=b"));
    assert_eq!(kept(&read), Some(parent));
    let old = Kept {
        trace_parent: "0af7651916cd43dd8448eb211c80319c".to_owned(),
        span_id: "b7ad6b7169203331".to_owned(),
        trace_state: None,
    };
    assert_eq!(context(&old).unwrap().traceparent(), PARENT);
    for broken in ["", "x", "00-0af7-b7ad-01"] {
        let broken = start(broken).parent_trace_context.unwrap();
        assert!(context(&broken).is_none());
    }
    let unsampled = PARENT.replace("-01", "-00");
    let unsampled = start(&unsampled).parent_trace_context.unwrap();
    assert!(kept(&context(&unsampled).unwrap()).is_none());
}

#[test]
fn a_run_has_one_span_from_its_first_turn_on() {
    let mut start = start(PARENT);
    // Where nobody makes spans, what is below stands directly below the parent.
    assert_eq!(of_run(&start).unwrap().traceparent(), PARENT);
    let mut new_id = ids();
    identify(&mut start, &mut new_id);
    let first = of_run(&start).unwrap();
    assert_eq!(first.trace_id(), "0af7651916cd43dd8448eb211c80319c");
    assert_ne!(first.span_id(), "b7ad6b7169203331");
    assert_eq!(first.tracestate(), Some("a=b"));
    identify(&mut start, &mut new_id);
    assert_eq!(of_run(&start), Some(first));
    let mut untraced = ExecutionStartedEvent::default();
    identify(&mut untraced, &mut new_id);
    assert_eq!(untraced.workflow_span_id, None);
    assert!(root(&mut new_id).and_then(|kept| context(&kept)).is_some());
}

#[test]
fn a_span_is_said_when_the_run_ends() {
    let mut start = start(PARENT);
    start.version = Some("v2".to_owned());
    identify(&mut start, &mut ids());
    let raised = EventRaisedEvent {
        name: "paid".to_owned(),
        input: Some("12345".to_owned()),
    };
    let stalled = ExecutionStalledEvent {
        reason: StalledReason::PatchMismatch.into(),
        description: Some("why".to_owned()),
    };
    let version = WorkflowVersion {
        patches: vec!["p1".to_owned()],
        ..WorkflowVersion::default()
    };
    let patched = WorkflowStartedEvent {
        version: Some(version),
    };
    let completed = ExecutionCompletedEvent {
        failure_details: Some(TaskFailureDetails {
            error_message: "broken".to_owned(),
            ..TaskFailureDetails::default()
        }),
        ..ExecutionCompletedEvent::default()
    };
    let past = [
        begun(10),
        event(-1, 11, EventType::EventRaised(raised)),
        event(-1, 12, EventType::ExecutionStalled(stalled)),
    ];
    let fresh = [
        event(-1, 20, EventType::WorkflowStarted(patched)),
        event(1, 20, EventType::ExecutionCompleted(completed)),
    ];
    let run = Run {
        instance: "i",
        start: &start,
        past: &past,
        fresh: &fresh,
    };
    let now = Timestamp {
        seconds: 21,
        nanos: 0,
    };
    assert_eq!(run.spans(None, now, &mut ids()), []);
    let spans = run.spans(Some(Status::Failed), now, &mut ids());
    let [span] = &spans[..] else {
        panic!("one span: {spans:?}");
    };
    assert_eq!(span.name, "orchestration||order||v2");
    assert_eq!(
        (span.start, span.end, span.kind),
        (second(10), second(21), Kind::Server)
    );
    assert_eq!(
        span.parent,
        Some(
            context(start.parent_trace_context.as_ref().unwrap())
                .unwrap()
                .span_id_bytes()
        )
    );
    assert_eq!(Some(&span.context), of_run(&start).as_ref());
    assert_eq!(span.status, Outcome::Error("broken".to_owned()));
    let expected: Vec<Attribute> = vec![
        ("durabletask.type".into(), "orchestration".into()),
        ("durabletask.task.name".into(), "order".into()),
        ("durabletask.task.instance_id".into(), "i".into()),
        ("durabletask.task.version".into(), "v2".into()),
        ("durabletask.runtime_status".into(), "FAILED".into()),
        ("applied_patches".into(), Value::List(vec!["p1".to_owned()])),
    ];
    assert_eq!(span.attributes, expected);
    let [paid, stalled] = &span.events[..] else {
        panic!("two events: {:?}", span.events);
    };
    assert_eq!(
        (paid.name.as_ref(), paid.at),
        ("Received external event", second(11))
    );
    assert_eq!(paid.attributes[1], ("size".into(), 5_i64.into()));
    assert_eq!(
        stalled.attributes[0],
        ("reason".into(), "PATCH_MISMATCH".into())
    );
}

#[test]
fn a_timer_is_said_when_it_has_fired() {
    let mut start = start(PARENT);
    identify(&mut start, &mut ids());
    let created = TimerCreatedEvent::default();
    let past = [begun(1), event(3, 2, EventType::TimerCreated(created))];
    let fire_at = Some(Timestamp {
        seconds: 60,
        nanos: 5,
    });
    let at = Timestamp {
        seconds: 61,
        nanos: 0,
    };
    let fresh = [event::timer_fired(at, 3, fire_at)];
    let run = Run {
        instance: "i",
        start: &start,
        past: &past,
        fresh: &fresh,
    };
    let spans = run.spans(None, at, &mut ids());
    let [span] = &spans[..] else {
        panic!("one span: {spans:?}");
    };
    assert_eq!(span.name, "timer");
    assert_eq!(
        (span.start, span.end, span.kind),
        (second(2), second(61), Kind::Internal)
    );
    assert_eq!(span.parent, of_run(&start).map(|own| own.span_id_bytes()));
    assert_eq!(
        span.attributes[1],
        ("durabletask.fire_at".into(), "1970-01-01T00:01:00Z".into())
    );
    let start = ExecutionStartedEvent {
        workflow_span_id: None,
        ..start.clone()
    };
    let run = Run {
        start: &start,
        ..run
    };
    assert_eq!(
        run.spans(None, at, &mut ids()),
        [],
        "no spans are made here"
    );
}
