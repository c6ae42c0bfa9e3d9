//! The suites for bindings: one for those that are called, one for those that call.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use component::{
    ErrorKind, InputBinding, OutputBinding,
    bindings::{Event, Events, InvokeRequest, InvokeResponse},
};
use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout};

/// Longest wait for an event, or for what becomes of one.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longest wait for an event that must not come.
const SILENCE: Duration = Duration::from_millis(200);

/// Calls at a time.
const CALLS: usize = 20;

/// Runs every case against an output binding; `call` makes a call that it answers, whose answer for the number `fits` knows.
/// The binding is closed at the end.
///
/// # Panics
/// With the name of the case that failed.
pub async fn output(
    binding: &dyn OutputBinding,
    call: impl Fn(usize) -> InvokeRequest,
    fits: impl Fn(usize, &InvokeResponse) -> bool,
) {
    binding.ping().await.expect("answers a ping");
    let operations = binding.operations();
    let different: BTreeSet<&String> = operations.iter().collect();
    assert!(!operations.is_empty(), "has operations");
    assert_eq!(different.len(), operations.len(), "names each of them once");
    assert_eq!(binding.operations(), operations, "keeps their order");
    assert!(
        operations.contains(&call(0).operation),
        "lists what it answers"
    );

    let calls = (0..CALLS).map(async |number| {
        let answer = binding.invoke(&call(number)).await;
        let answer = answer.expect("an operation that it has is carried out");
        assert!(
            fits(number, &answer),
            "each call has its own answer: {answer:?}"
        );
    });
    join_all(calls).await;

    let unknown = InvokeRequest {
        operation: "conformance-unknown".to_owned(),
        ..call(0)
    };
    let refused = binding.invoke(&unknown).await;
    let error = refused.expect_err("an operation that it has not is refused");
    assert_eq!(
        error.kind(),
        ErrorKind::InvalidRequest,
        "as a mistake of the caller"
    );
    let works = binding.invoke(&call(1)).await;
    works.expect("a refusal changes nothing");
    binding.close().await;
}

/// Where the events of an input binding come from, as the suite needs it.
pub trait Source {
    /// Has an event come.
    fn emit(&self, data: &str);

    /// What was said of events so far: the app's answers, and why it failed.
    fn told(&self) -> Vec<Result<Bytes, String>>;
}

/// Runs every case against an input binding whose source wants to hear of its events, and sends again what it has not heard of.
/// The binding is closed at the end.
///
/// # Panics
/// With the name of the case that failed.
pub async fn input(binding: &dyn InputBinding, source: &impl Source) {
    binding.ping().await.expect("answers a ping");
    let mut events = read(binding).await;
    events = events_come_in_order(source, events).await;
    events = the_source_hears_what_the_app_says(source, events).await;
    events = what_was_given_back_comes_again(binding, source, events).await;
    silent(&mut events).await;
    drop(events);
    binding.close().await;
}

async fn read(binding: &dyn InputBinding) -> Events {
    binding.read().await.expect("it can be read")
}

async fn next(events: &mut Events) -> Event {
    let next = timeout(PATIENCE, events.next()).await;
    next.expect("an event comes in time").expect("it goes on")
}

async fn silent(events: &mut Events) {
    if let Ok(Some(event)) = timeout(SILENCE, events.next()).await {
        panic!("an event too many: {:?}", event.data);
    }
}

/// Waits until the source has heard of so many events.
async fn heard(source: &impl Source, count: usize) -> Vec<Result<Bytes, String>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let told = source.told();
        if told.len() >= count {
            return told;
        }
        assert!(Instant::now() < deadline, "the source hears of each event");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn events_come_in_order(source: &impl Source, mut events: Events) -> Events {
    let before = source.told().len();
    for data in ["1", "2", "3"] {
        source.emit(data);
        let event = next(&mut events).await;
        assert_eq!(event.data, data, "events come in order");
        let settled = event.settle(Ok(Bytes::new())).await;
        settled.expect("the source takes an answer");
    }
    heard(source, before + 3).await;
    silent(&mut events).await;
    events
}

async fn the_source_hears_what_the_app_says(source: &impl Source, mut events: Events) -> Events {
    let before = source.told().len();
    for answer in [Ok(Bytes::from("done")), Err("it broke".to_owned())] {
        source.emit("event");
        let event = next(&mut events).await;
        let settled = event.settle(answer).await;
        settled.expect("the source takes an answer");
    }
    let told = heard(source, before + 2).await;
    let [.., done, failed] = &told[..] else {
        panic!("two answers: {told:?}");
    };
    let done = done.as_ref().expect("an answer is passed on as one");
    assert_eq!(done, "done", "the app's answer arrives");
    let failed = failed.as_ref().expect_err("a failure is passed on as one");
    assert!(failed.contains("it broke"), "with its reason: {failed}");
    events
}

async fn what_was_given_back_comes_again(
    binding: &dyn InputBinding,
    source: &impl Source,
    mut events: Events,
) -> Events {
    let before = source.told().len();
    source.emit("again");
    drop(next(&mut events).await);
    // Some sources send it again at once, and others to the next who reads.
    let again = match timeout(PATIENCE, events.next()).await {
        Ok(Some(again)) => again,
        Ok(None) => {
            events = read(binding).await;
            next(&mut events).await
        }
        Err(_) => panic!("what was given back comes again, or the reading ends"),
    };
    assert_eq!(again.data, "again", "the same event");
    assert_eq!(source.told().len(), before, "and nothing was said of it");
    let settled = again.settle(Ok(Bytes::new())).await;
    settled.expect("the source takes an answer");
    heard(source, before + 1).await;
    events
}
