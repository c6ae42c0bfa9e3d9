//! What others say: attestations, and pieces of their histories.

use std::sync::Arc;

use bytes::Bytes;
use proto::durabletask::{
    ChildWorkflowInstanceCreatedEvent, EventRaisedEvent, HistoryEvent, PropagatedHistory,
    PropagatedHistoryChunk, TaskFailedEvent, TaskFailureDetails, TaskRouter,
    history_event::EventType,
};

use super::*;

/// The event of an action that another app is asked for.
fn sent_to(app_id: &str, mut event: HistoryEvent) -> HistoryEvent {
    event.router = Some(TaskRouter {
        source_app_id: "shop".to_owned(),
        target_app_id: Some(app_id.to_owned()),
        ..TaskRouter::default()
    });
    event
}

/// The completion of task 0, as another app attests it.
fn attested(other: &Arc<Fake>, result: &str) -> HistoryEvent {
    let mut event = completed(12, 0, result);
    let asked = Asked {
        app_id: "pay",
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
    let mut instance = Instance::default();
    let asked = sent_to("pay", scheduled(11, 0));
    instance.turn(&signing, vec![started(10), asked], 11);
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
    let stranger = Fake::new("stranger", 0, 100);
    assert!(
        refused(take(attested(&stranger, "paid"), "order")),
        "by another app"
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
        event::task_failed(to_wire(at(12)), &scheduled(11, 0), app_id, details)
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
    let history = [scheduled(11, 0), child].map(|event| sent_to("pay", event));
    let mut task = TaskFailedEvent {
        failure_details: Some(TaskFailureDetails::default()),
        ..TaskFailedEvent::default()
    };
    task.task_scheduled_id = 0;
    let mut of_child =
        event::child_failed(to_wire(at(12)), 3, "pay", TaskFailureDetails::default());
    let mut of_task = occurring(12, event::NO_ID, EventType::TaskFailed(task));
    let theirs = Signing::new(Some(Arc::clone(&other) as Arc<dyn Signer>), "pay", "ns");
    let asked = |activity, input| Asked {
        app_id: "pay",
        activity,
        input,
    };
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
