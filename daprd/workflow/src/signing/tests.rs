use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message;
use proto::durabletask::{
    ChildWorkflowInstanceCreatedEvent, EventRaisedEvent, HistoryEvent, PropagatedHistory,
    PropagatedHistoryChunk, TaskCompletedEvent, TaskFailedEvent, TaskFailureDetails,
    TaskScheduledEvent, WorkflowStartedEvent, backend::v1::HistorySignature,
    history_event::EventType,
};

use super::{digest, fake::Fake, *};
use crate::{
    core::event,
    time::{from_wire, to_wire},
};

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

/// The completion of task 0, as another app attests it.
fn attested(other: &Arc<Fake>, result: &str) -> HistoryEvent {
    let mut event = completed(12, 0, result);
    let asked = Asked {
        activity: Some("charge"),
        input: Some("12"),
    };
    let theirs = Signing::new(Some(Arc::clone(other) as Arc<dyn Signer>), "pay", "ns");
    let done = theirs.attest("order", &asked, &mut event);
    assert_eq!(done, Ok(true));
    event
}

#[test]
fn completions_are_attested_by_whoever_ran_them() {
    let (fake, other) = (Fake::new("shop", 0, 100), Fake::new("pay", 0, 100));
    let signing = signing(&fake);
    let mut instance = two_turns(&fake);
    let history = instance.history.clone();
    let mut seals = instance.seals();
    let mut take = |mut event: HistoryEvent, parent: &str| {
        let taken = signing.take_in(parent, &history, &mut event, &mut seals, at(13));
        (taken, event)
    };
    let (taken, stored) = take(attested(&other, "paid"), "order");
    assert_eq!(taken, Some(Ok(attest::Checked { known: false })));
    let (taken, _) = take(attested(&other, "paid"), "order");
    assert_eq!(taken, Some(Ok(attest::Checked { known: true })));
    let refused = |(taken, _): (Option<Result<_, Error>>, HistoryEvent)| {
        matches!(taken, Some(Err(Error::Invalid(_))))
    };
    assert!(
        refused(take(completed(12, 0, "paid"), "order")),
        "not attested"
    );
    assert!(
        refused(take(attested(&other, "paid"), "other")),
        "for another instance"
    );
    assert!(
        refused(take(completed(12, 9, "paid"), "order")),
        "not asked for"
    );
    let mut forged = attested(&other, "paid");
    if let Some(EventType::TaskCompleted(it)) = &mut forged.event_type {
        it.result = Some("nothing".to_owned());
    }
    assert!(refused(take(forged, "order")), "another result");
    let mut stripped = attested(&other, "paid");
    attest::strip(&mut stripped);
    assert!(refused(take(stripped, "order")), "without a certificate");

    instance.keep(&seals);
    assert_eq!(instance.rows[2].len(), 1, "one certificate, however often");
    instance.inbox = vec![stored];
    assert_eq!(instance.judge(&signing), Verdict::Sound);
    instance.inbox = vec![completed(12, 0, "paid")];
    assert!(instance.is_tampered(&signing), "nobody has attested it");
    instance.inbox = vec![completed(12, 9, "paid")];
    assert!(instance.is_tampered(&signing), "nobody has asked for it");
    let raised = EventType::EventRaised(EventRaisedEvent::default());
    instance.inbox = vec![occurring(12, event::NO_ID, raised)];
    assert_eq!(instance.judge(&signing), Verdict::Sound);
}

#[test]
fn failures_that_nobody_ran_need_no_attestation() {
    let fake = Fake::new("shop", 0, 100);
    let failed = |app_id: &str, kind: &str| {
        let details = TaskFailureDetails {
            error_type: kind.to_owned(),
            ..TaskFailureDetails::default()
        };
        event::task_failed(to_wire(at(12)), 0, app_id, details)
    };
    let signing = signing(&fake);
    assert!(signing.is_own_failure(&failed("shop", "WorkflowAccessPolicyDenied")));
    assert!(!signing.is_own_failure(&failed("pay", "WorkflowAccessPolicyDenied")));
    assert!(!signing.is_own_failure(&failed("shop", "Crash")));
}

#[test]
fn children_and_failures_are_attested_too() {
    let (fake, other) = (Fake::new("shop", 0, 100), Fake::new("pay", 0, 100));
    let created = ChildWorkflowInstanceCreatedEvent {
        input: Some("1".to_owned()),
        ..ChildWorkflowInstanceCreatedEvent::default()
    };
    let child = occurring(11, 3, EventType::ChildWorkflowInstanceCreated(created));
    let history = [scheduled(11, 0), child];
    let mut task = TaskFailedEvent {
        failure_details: Some(TaskFailureDetails::default()),
        ..TaskFailedEvent::default()
    };
    task.task_scheduled_id = 0;
    let mut of_child =
        event::child_failed(to_wire(at(12)), 3, "pay", TaskFailureDetails::default());
    let mut of_task = occurring(12, event::NO_ID, EventType::TaskFailed(task));
    let theirs = Signing::new(Some(Arc::clone(&other) as Arc<dyn Signer>), "pay", "ns");
    let asked = |activity, input| Asked { activity, input };
    theirs
        .attest("order", &asked(None, Some("1")), &mut of_child)
        .expect("attested");
    theirs
        .attest("order", &asked(Some("charge"), Some("12")), &mut of_task)
        .expect("attested");
    let mut seals = Seals::default();
    for event in [&mut of_child, &mut of_task] {
        let taken = signing(&fake).take_in("order", &history, event, &mut seals, at(13));
        assert!(matches!(taken, Some(Ok(_))), "{taken:?}");
    }
}

fn shown(app_id: &str) -> PropagatedHistory {
    let raw_events = digest::encoded(&[started(10), scheduled(11, 0)]);
    PropagatedHistory {
        chunks: vec![PropagatedHistoryChunk {
            raw_events,
            app_id: app_id.to_owned(),
            instance_id: "order".to_owned(),
            workflow_name: "ordering".to_owned(),
            ..PropagatedHistoryChunk::default()
        }],
        ..PropagatedHistory::default()
    }
}

#[test]
fn what_is_shown_is_signed_by_its_app_for_its_instance() {
    let (fake, other) = (Fake::new("shop", 0, 100), Fake::new("pay", 0, 100));
    let theirs = Signing::new(Some(Arc::clone(&other) as Arc<dyn Signer>), "pay", "ns");
    let mut good = shown("pay");
    theirs.sign_shown(&mut good, at(12)).expect("signed");
    let signing = signing(&fake);
    let mut seals = Seals::default();
    assert_eq!(signing.check_shown(Some(&good), Some(&mut seals)), Ok(()));
    assert!(
        seals
            .foreign(&digest::of(&good.chunks[0].signing_cert_chains[0]))
            .is_some()
    );
    let refused = |change: &dyn Fn(&mut PropagatedHistoryChunk)| {
        let mut shown = good.clone();
        change(&mut shown.chunks[0]);
        signing.check_shown(Some(&shown), None).is_err()
    };
    assert!(refused(&|it| it.app_id = "shop".to_owned()));
    assert!(refused(&|it| it.app_id.clear()));
    assert!(refused(&|it| it.instance_id = "another".to_owned()));
    assert!(refused(&|it| it.workflow_name.clear()));
    assert!(refused(&|it| drop(it.raw_events.pop())));
    assert!(refused(&|it| it.raw_events.push(Bytes::new())));
    assert!(refused(&|it| it.raw_signatures.clear()));
    assert!(refused(&|it| it.signing_cert_chains.clear()));
    let unsigned = Signing::new(None, "shop", "ns");
    assert_eq!(
        unsigned.check_shown(Some(&good), None),
        Ok(()),
        "it cannot tell"
    );

    let mut instance = two_turns(&fake);
    instance.incoming = Some(good.clone());
    assert_eq!(instance.judge(&signing), Verdict::Sound);
    good.chunks[0].raw_signatures.clear();
    instance.incoming = Some(good);
    assert!(instance.is_tampered(&signing));
}

#[test]
fn pieces_of_others_are_passed_on_as_they_came() {
    let (fake, other) = (Fake::new("shop", 0, 100), Fake::new("pay", 0, 100));
    let theirs = Signing::new(Some(Arc::clone(&other) as Arc<dyn Signer>), "pay", "ns");
    let mut chain = shown("pay");
    theirs.sign_shown(&mut chain, at(12)).expect("signed");
    let first = chain.chunks[0].clone();
    chain.chunks.extend(shown("shop").chunks);
    // The certificate may be younger than what is shown.
    fake.rotate("shop", 50, 100);
    let signing = signing(&fake);
    signing.sign_shown(&mut chain, at(60)).expect("signed");
    assert_eq!(chain.chunks[0], first);
    assert_eq!(signing.check_shown(Some(&chain), None), Ok(()));
}

#[test]
fn digests_are_those_of_the_field() {
    let details = TaskFailureDetails {
        error_type: "E".to_owned(),
        inner_failure: Some(Box::new(TaskFailureDetails::default())),
        ..TaskFailureDetails::default()
    };
    let bytes = digest::canonical_failure(Some(&details)).expect("canonical");
    let mut expected = vec![0, 0, 0, 1, b'E', 0, 0, 0, 0, 0, 0, 0, 0, 1];
    expected.extend([0; 13]);
    assert_eq!(bytes, expected);
    // One letter, composed or not.
    assert_eq!(
        digest::canonical(Some("e\u{301}")),
        digest::canonical(Some("\u{e9}"))
    );
    let mut deep = TaskFailureDetails::default();
    for _ in 0..32 {
        deep = TaskFailureDetails {
            inner_failure: Some(Box::new(deep)),
            ..TaskFailureDetails::default()
        };
    }
    assert!(digest::canonical_failure(Some(&deep)).is_err());
    let context = digest::Context {
        instance: "i",
        workflow: "",
    };
    let message = digest::message(b"p", b"e", Some(context));
    assert_eq!(message, b"pe\0\0\0\0\0\0\0\x01i\0\0\0\0\0\0\0\0");
}
