//! Histories that are signed, renewed, cut, changed and put elsewhere.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message;
use proto::durabletask::{
    ExecutionStartedEvent, HistoryEvent, PropagatedHistory, RerunParentInstanceInfo,
    TaskCompletedEvent, TaskScheduledEvent, WorkflowInstance, WorkflowStartedEvent,
    backend::v1::HistorySignature, history_event::EventType,
};

use super::{digest, fake::Fake, *};
use crate::{
    core::event,
    time::{from_wire, to_wire},
};

mod others;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn occurring(second: i64, id: i32, kind: EventType) -> HistoryEvent {
    event::of_action(id, to_wire(at(second)), kind, None)
}

fn started(second: i64) -> HistoryEvent {
    occurring(
        second,
        event::NO_ID,
        EventType::WorkflowStarted(WorkflowStartedEvent::default()),
    )
}

fn scheduled(second: i64, id: i32) -> HistoryEvent {
    let task = TaskScheduledEvent {
        name: "charge".to_owned(),
        input: Some("12".to_owned()),
        ..TaskScheduledEvent::default()
    };
    occurring(second, id, EventType::TaskScheduled(task))
}

fn completed(second: i64, id: i32, result: &str) -> HistoryEvent {
    let completed = TaskCompletedEvent {
        task_scheduled_id: id,
        result: Some(result.to_owned()),
        ..TaskCompletedEvent::default()
    };
    occurring(second, event::NO_ID, EventType::TaskCompleted(completed))
}

/// An instance and its rows, as far as signatures go.
#[derive(Default)]
struct Instance {
    history: Vec<HistoryEvent>,
    raw: Vec<Bytes>,
    inbox: Vec<HistoryEvent>,
    incoming: Option<PropagatedHistory>,
    rows: [Vec<Bytes>; 3],
}

impl Instance {
    fn turn(&mut self, signing: &Signing, mut events: Vec<HistoryEvent>, now: i64) {
        let mut seals = self.seals();
        let start = self.history.len();
        let raw = signing.seal(&mut events, start, &mut seals, at(now));
        self.raw.extend(raw.expect("signed"));
        self.history.extend(events);
        self.keep(&seals);
    }

    fn keep(&mut self, seals: &Seals) {
        for (rows, change) in self.rows.iter_mut().zip(seals.changes()) {
            rows.truncate(change.delete.start);
            rows.extend(change.write.into_iter().map(|(_, row)| row));
        }
    }

    fn seals(&self) -> Seals {
        let lengths = [0, 1, 2].map(|at| self.rows[at].len());
        Seals::read(lengths, |kind, at| {
            let of = seals::KINDS.iter().position(|it| *it == kind)?;
            Some(self.rows[of][at].clone()).filter(|row| !row.is_empty())
        })
    }

    fn judge(&self, signing: &Signing) -> Verdict {
        let exhibit = Exhibit {
            instance: "order",
            history: &self.history,
            raw: &self.raw,
            inbox: &self.inbox,
            incoming: self.incoming.as_ref(),
            ended: false,
        };
        signing.judge(&exhibit, &mut self.seals())
    }

    fn is_tampered(&self, signing: &Signing) -> bool {
        matches!(self.judge(signing), Verdict::Tampered(_))
    }
}

fn signing(fake: &Arc<Fake>) -> Signing {
    Signing::new(Some(Arc::clone(fake) as Arc<dyn Signer>), "shop", "ns")
}

fn two_turns(fake: &Arc<Fake>) -> Instance {
    let signing = signing(fake);
    let mut instance = Instance::default();
    instance.turn(&signing, vec![started(10), scheduled(11, 0)], 11);
    instance.turn(&signing, vec![started(20), scheduled(21, 1)], 21);
    instance
}

#[test]
fn each_turn_is_signed_behind_the_one_before() {
    let fake = Fake::new("shop", 0, 100);
    let instance = two_turns(&fake);
    assert_eq!(instance.judge(&signing(&fake)), Verdict::Sound);
    let [signatures, certificates, foreign] = &instance.rows;
    assert_eq!(
        (signatures.len(), certificates.len(), foreign.len()),
        (2, 1, 0)
    );
    let second = HistorySignature::decode(signatures[1].clone()).expect("a signature");
    assert_eq!((second.start_event_index, second.event_count), (2, 2));
    assert_eq!(
        second.previous_signature_digest.as_deref(),
        Some(&digest::of(&signatures[0])[..])
    );
    let asked = *fake.asked.lock();
    assert_eq!(asked, 2, "one certificate at two times");
}

#[test]
fn what_is_changed_added_or_taken_away_is_found() {
    let fake = Fake::new("shop", 0, 100);
    let signing = signing(&fake);
    let tampered = |change: &dyn Fn(&mut Instance)| {
        let mut instance = two_turns(&fake);
        change(&mut instance);
        instance.is_tampered(&signing)
    };
    assert!(!tampered(&|_| {}));
    assert!(tampered(
        &|it| it.raw[0] = Bytes::from(scheduled(10, 7).encode_to_vec())
    ));
    assert!(tampered(&|it| it.raw.swap(1, 3)));
    assert!(tampered(&|it| drop(it.raw.pop())));
    assert!(tampered(&|it| it.raw.push(it.raw[0].clone())));
    assert!(tampered(&|it| it.rows[0].swap(0, 1)));
    assert!(tampered(&|it| drop(it.rows[0].remove(0))));
    assert!(tampered(&|it| drop(it.rows[0].pop())));
    assert!(tampered(&|it| it.rows[0][1] = it.rows[0][0].clone()));
    assert!(
        tampered(&|it| it.rows[0][1] = Bytes::new()),
        "a row that is not there"
    );
    assert!(tampered(&|it| it.rows[0][1] = Bytes::from_static(b"\xff")));
    assert!(tampered(&|it| it.rows[1][0] = Bytes::new()));
    assert!(tampered(&|it| it.rows[1].clear()));
}

#[test]
fn certificates_come_and_go() {
    let fake = Fake::new("shop", 0, 15);
    let mut instance = Instance::default();
    instance.turn(&signing(&fake), vec![started(10)], 10);
    fake.rotate("shop", 15, 30);
    instance.turn(&signing(&fake), vec![started(20)], 20);
    // An event that is older than the certificate counts as having come now.
    instance.turn(&signing(&fake), vec![started(22), scheduled(1, 0)], 22);
    assert_eq!(instance.judge(&signing(&fake)), Verdict::Sound);
    assert_eq!(instance.rows[1].len(), 2);
    assert_eq!(instance.history[3].timestamp.map(from_wire), Some(at(22)));
    let expired = signing(&fake).seal(&mut [started(40)], 4, &mut instance.seals(), at(40));
    assert!(matches!(expired, Err(Error::Key(_))), "{expired:?}");
}

#[test]
fn nobody_else_signs_for_this_app() {
    let other = Fake::new("other", 0, 100);
    let instance = two_turns(&other);
    assert!(instance.is_tampered(&signing(&other)));
    let fake = Fake::new("shop", 0, 100);
    let instance = two_turns(&fake);
    fake.distrusted.lock().push("shop".to_owned());
    assert!(instance.is_tampered(&signing(&fake)));
}

#[test]
fn signing_is_not_switched_on_or_off_under_an_instance() {
    let fake = Fake::new("shop", 0, 100);
    let (on, off) = (signing(&fake), Signing::new(None, "shop", "ns"));
    let signed = two_turns(&fake);
    let Verdict::Unfit(reason) = signed.judge(&off) else {
        panic!("a signed history without a signer");
    };
    assert!(reason.contains("signing cannot be disabled"), "{reason}");
    let mut unsigned = Instance::default();
    unsigned.turn(&off, vec![started(10)], 10);
    assert_eq!(unsigned.judge(&off), Verdict::Sound);
    let Verdict::Unfit(reason) = unsigned.judge(&on) else {
        panic!("an unsigned history with a signer");
    };
    assert!(reason.contains("1 unsigned history events"), "{reason}");
    let mut events = [started(20)];
    let late = on.seal(&mut events, 1, &mut unsigned.seals(), at(20));
    assert!(matches!(late, Err(Error::Invalid(_))));
}

#[test]
fn the_end_of_a_tampered_instance_can_be_read() {
    let fake = Fake::new("shop", 0, 100);
    let mut instance = two_turns(&fake);
    instance.rows[0][0] = Bytes::new();
    let (history, seals) = (instance.history.len(), instance.seals());
    let marker = marker(to_wire(at(30)), "a reason");
    let mut rest = instance.seals();
    let raw = signing(&fake).seal(&mut [marker.clone()], history, &mut rest, at(30));
    instance.raw.extend(raw.expect("unsigned"));
    instance.history.push(marker);
    assert_eq!(instance.judge(&signing(&fake)), Verdict::Sound);
    // Those that were declared are deleted one day.
    let mut lengths = proto::durabletask::backend::v1::BackendWorkflowStateMetadata::default();
    seals.declare(&mut lengths);
    assert_eq!(lengths.signature_length, 2);
    assert_eq!(seals.changes(), Vec::new());
}

#[test]
fn a_history_that_begins_anew_has_new_signatures() {
    let fake = Fake::new("shop", 0, 100);
    let mut seals = two_turns(&fake).seals();
    seals.reset();
    let mut events = vec![started(50)];
    let signed = signing(&fake).seal(&mut events, 0, &mut seals, at(50));
    signed.expect("signed");
    let changes = seals.changes();
    assert_eq!(changes[0].write.len(), 1);
    assert_eq!(changes[0].delete, 1..2);
    assert_eq!(changes[1].write.len(), 1);
}

fn started_as(second: i64, instance: &str) -> HistoryEvent {
    let started = ExecutionStartedEvent {
        name: "pay".to_owned(),
        workflow_instance: Some(WorkflowInstance {
            instance_id: instance.to_owned(),
            execution_id: None,
        }),
        ..ExecutionStartedEvent::default()
    };
    occurring(second, event::NO_ID, EventType::ExecutionStarted(started))
}

#[test]
fn the_rows_of_another_instance_are_not_those_of_this_one() {
    let fake = Fake::new("shop", 0, 100);
    let signing = signing(&fake);
    let run = |of: &str, source: Option<&str>| {
        let mut instance = Instance::default();
        let mut again = scheduled(11, 0);
        if let Some(EventType::TaskScheduled(task)) = &mut again.event_type {
            task.rerun_parent_instance_info = source.map(|source| RerunParentInstanceInfo {
                instance_id: source.to_owned(),
            });
        }
        let events = vec![started(10), started_as(10, of), again];
        instance.turn(&signing, events, 11);
        instance
    };
    assert_eq!(run("order", None).judge(&signing), Verdict::Sound);
    let Verdict::Tampered(reason) = run("other", None).judge(&signing) else {
        panic!("the rows of another instance");
    };
    assert!(reason.contains("that of workflow 'other'"), "{reason}");
    // A run of another one's history, as upstream begins it, keeps its start; one that this project has begun does not.
    assert_eq!(
        run("source", Some("source")).judge(&signing),
        Verdict::Sound
    );
    assert!(run("again", Some("source")).is_tampered(&signing));
    let mut pending = Instance::default();
    pending.inbox.push(started_as(10, "order"));
    assert_eq!(pending.judge(&signing), Verdict::Sound);
    pending.inbox.push(started_as(10, "other"));
    assert!(pending.is_tampered(&signing));
}
