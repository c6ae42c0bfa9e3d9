//! Bindings in a process of their own.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use component::{
    ErrorKind, InputBinding, Spawn,
    bindings::{Event, Events, InvokeRequest},
    catalog::Entry,
};
use component_conformance::{bindings, open};
use tokio::task::JoinHandle;

use crate::{
    server::{NAME, Served},
    source::{Source, serve},
};

/// Longest wait for an event.
const PATIENCE: Duration = Duration::from_secs(20);

async fn input(served: &Served<Source>) -> Arc<dyn InputBinding> {
    let catalog = served.catalog().await;
    let opened = catalog.input_bindings.open(NAME, "v1", open("in", &[]));
    opened.await.expect("it opens")
}

async fn next(events: &mut Events) -> Option<Event> {
    let next = tokio::time::timeout(PATIENCE, events.next()).await;
    next.expect("something comes")
}

/// A process whose answers are those of its source.
impl bindings::Source for Source {
    fn emit(&self, data: &str) {
        let id = self.0.borrow().pushed;
        self.push(&id.to_string(), data.to_owned());
    }

    fn told(&self) -> Vec<Result<Bytes, String>> {
        let told = self.0.borrow();
        let answers = told.answers.iter();
        let answers = answers.map(|answer| match &answer.response_error {
            Some(problem) => Err(problem.message.clone()),
            None => Ok(answer.response_data.clone()),
        });
        answers.collect()
    }
}

#[tokio::test]
async fn both_directions_conform() {
    let served = serve();
    let read = input(&served).await;
    bindings::input(&*read, &*served.shared).await;
    let catalog = served.catalog().await;
    let opened = catalog.output_bindings.open(NAME, "v1", open("out", &[]));
    let output = opened.await.unwrap();
    let call = |number: usize| InvokeRequest {
        operation: "echo".to_owned(),
        data: number.to_string().into(),
        metadata: [("number".to_owned(), number.to_string())].into(),
    };
    bindings::output(&*output, call, |number, answer| {
        let number = number.to_string();
        answer.data.as_deref() == Some(number.as_bytes()) && answer.metadata["number"] == number
    })
    .await;
}

#[tokio::test]
async fn one_socket_serves_both_directions() {
    let served = serve();
    let catalog = served.catalog().await;
    let types: Vec<_> = catalog.entries().map(Entry::full_type).collect();
    assert_eq!(types, ["bindings.memory", "bindings.memory"]);
    let opened = catalog.output_bindings.open(NAME, "v1", open("out", &[]));
    let output = opened.await.unwrap();
    output.ping().await.unwrap();
    assert_eq!(output.operations(), ["echo"]);
    let mut request = InvokeRequest {
        operation: "echo".to_owned(),
        data: "data".into(),
        metadata: [("a".to_owned(), "b".to_owned())].into(),
    };
    let answer = output.invoke(&request).await.unwrap();
    assert_eq!(answer.data.unwrap(), "data");
    assert_eq!(answer.metadata, request.metadata);
    request.data.clear();
    assert_eq!(output.invoke(&request).await.unwrap().data, None);
    request.operation = "other".to_owned();
    let error = output.invoke(&request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    output.close().await;
    let error = output.invoke(&request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn events_are_answered_with_what_the_app_says() {
    let served = serve();
    let input = input(&served).await;
    input.ping().await.unwrap();
    let mut events = input.read().await.unwrap();
    for id in ["1", "2"] {
        served.shared.push(id, "event");
    }
    let first = next(&mut events).await.unwrap();
    assert_eq!(first.data, "event");
    // The second does not wait for the first.
    let second = next(&mut events).await.unwrap();
    second.settle(Err("it broke".to_owned())).await.unwrap();
    first.settle(Ok("done".into())).await.unwrap();
    let source = &served.shared;
    source
        .wait("two answers", |told| told.answers.len() == 2)
        .await;
    let told = source.0.borrow();
    let [second, first] = told.answers.as_slice() else {
        panic!("two answers");
    };
    assert_eq!((&*second.message_id, &*first.message_id), ("2", "1"));
    let problem = second.response_error.as_ref().unwrap();
    assert_eq!(problem.message, "it broke");
    assert_eq!(
        (&*first.response_data, &first.response_error),
        (&b"done"[..], &None)
    );
}

#[tokio::test]
async fn a_closed_input_waits_for_the_app_and_refuses_the_rest() {
    let served = serve();
    let input = input(&served).await;
    let mut events = input.read().await.unwrap();
    let source = &served.shared;
    source.push("1", "event");
    let first = next(&mut events).await.unwrap();
    drop(events);
    let rest = async {
        source.push("2", "event");
        source
            .wait("a refusal", |told| told.answers.len() == 1)
            .await;
        first.settle(Ok("done".into())).await.unwrap();
    };
    futures::future::join(input.close(), rest).await;
    assert_eq!(source.0.borrow().open, 0, "closed once the call is over");
    let told = source.0.borrow();
    let refusal = told.answers[0].response_error.as_ref().unwrap();
    assert_eq!(refusal.message, "input binding is closed");
    assert_eq!(told.answers[1].response_data, "done");
}

/// As the sidecar stops: its tasks end before its components are closed.
#[tokio::test]
async fn a_closed_input_refuses_the_rest_although_its_task_has_ended() {
    let served = serve();
    let tasks = Arc::new(Tasks::default());
    let catalog = served.catalog().await;
    let mut open = open("in", &[]);
    open.tasks = Arc::clone(&tasks) as Arc<dyn Spawn>;
    let opened = catalog.input_bindings.open(NAME, "v1", open).await;
    let input = opened.unwrap();
    let mut events = input.read().await.unwrap();
    let source = &served.shared;
    source.push("1", "event");
    let first = next(&mut events).await.unwrap();
    drop(events);
    first.settle(Ok("done".into())).await.unwrap();
    source
        .wait("an answer", |told| told.answers.len() == 1)
        .await;
    tasks.end().await;
    source.push("2", "event");
    input.close().await;
    let told = source.0.borrow();
    let refusal = told.answers[1].response_error.as_ref().unwrap();
    assert_eq!(refusal.message, "input binding is closed");
    assert_eq!(told.open, 0, "closed once the call is over");
}

/// Tasks that end when they are told.
#[derive(Default)]
struct Tasks(Mutex<Vec<JoinHandle<()>>>);

impl Spawn for Tasks {
    #[allow(clippy::disallowed_methods, reason = "the handle owns the task")]
    fn spawn(&self, _: &str, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.0.lock().unwrap().push(tokio::spawn(task));
    }
}

impl Tasks {
    async fn end(&self) {
        let all = std::mem::take(&mut *self.0.lock().unwrap());
        for task in all {
            task.abort();
            let _ = task.await;
        }
    }
}

#[tokio::test]
async fn a_process_that_is_killed_ends_the_reading_and_is_read_anew() {
    let mut served = serve();
    let input = input(&served).await;
    let mut events = input.read().await.unwrap();
    served.shared.push("1", "event");
    let event = next(&mut events).await.unwrap();
    served.kill();
    assert!(next(&mut events).await.is_none());
    let lost = event.settle(Ok("done".into())).await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Unavailable);
    assert!(input.read().await.is_err());

    served.come_back();
    let mut events = input.read().await.unwrap();
    let again = next(&mut events).await.unwrap();
    assert_eq!(again.data, "event");
    assert_eq!(
        served.shared.0.borrow().inits,
        2,
        "it has its metadata again"
    );
}

#[tokio::test]
async fn an_event_that_is_given_back_comes_again() {
    let served = serve();
    let input = input(&served).await;
    let mut events = input.read().await.unwrap();
    served.shared.push("1", "event");
    drop(next(&mut events).await.unwrap());
    assert!(next(&mut events).await.is_none());
    let mut events = input.read().await.unwrap();
    assert_eq!(next(&mut events).await.unwrap().data, "event");
    assert!(
        served.shared.0.borrow().answers.is_empty(),
        "without a word"
    );
}
