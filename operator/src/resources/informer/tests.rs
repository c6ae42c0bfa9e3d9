//! Lists, subscriptions, and what is between them.

use super::super::entry::tests::raw;
use super::super::queue::EventType;
use super::*;
use kube::runtime::watcher::Event as Watched;
use serde_json::json;

fn component(name: &str, namespace: &str, kind: &str) -> Raw {
    raw(json!({"metadata": {"name": name, "namespace": namespace}, "spec": {"type": kind}}))
}

fn caller(namespace: &str, connection: Option<SocketAddr>) -> Caller {
    Caller {
        namespace: namespace.to_owned(),
        app_id: "app".to_owned(),
        connection,
        versioned: false,
    }
}

fn listed(informer: &Informer, components: Vec<Raw>) {
    informer.apply(Watched::Init);
    for component in components {
        informer.apply(Watched::InitApply(component));
    }
    informer.apply(Watched::InitDone);
}

#[tokio::test(start_paused = true)]
async fn subscribers_hear_of_their_namespace_only() {
    let informer = Informer::new(Kind::Component);
    listed(&informer, vec![component("a", "n", "x")]);
    informer.known().await;
    let mut mine = informer.subscribe(&caller("n", None)).unwrap();
    let mut other = informer.subscribe(&caller("m", None)).unwrap();
    informer.apply(Watched::Apply(component("b", "n", "x")));
    informer.apply(Watched::Apply(component("a", "n", "y")));
    informer.apply(Watched::Apply(component("a", "m", "y")));
    let event = mine.next().await.unwrap();
    assert_eq!(
        (event.kind, event.entry.name.as_str()),
        (EventType::Created, "b")
    );
    let event = mine.next().await.unwrap();
    assert_eq!(
        (event.kind, event.entry.name.as_str()),
        (EventType::Updated, "a")
    );
    let event = other.next().await.unwrap();
    assert_eq!(
        (event.kind, event.entry.namespace.as_str()),
        (EventType::Created, "m")
    );
    assert_eq!(informer.list("n", None).unwrap().len(), 2);
    assert!(informer.find("m", "a", None).is_some());
}

#[tokio::test]
async fn the_end_comes_after_what_is_waiting() {
    let informer = Informer::new(Kind::Component);
    listed(&informer, vec![]);
    let mut subscription = informer.subscribe(&caller("n", None)).unwrap();
    informer.apply(Watched::Apply(component("a", "n", "x")));
    informer.close();
    assert!(subscription.next().await.is_ok());
    assert_eq!(subscription.next().await, Err(End::Shutdown));
    assert_eq!(subscription.next().await, Err(End::Shutdown));
    assert_eq!(
        informer.subscribe(&caller("n", None)).err(),
        Some(Refusal::Closed)
    );
}

#[tokio::test(start_paused = true)]
async fn what_changed_between_a_list_and_its_stream_is_not_missed() {
    let informer = Informer::new(Kind::Component);
    listed(&informer, vec![]);
    informer.apply(Watched::Apply(component("old", "n", "x")));
    let connection = Some("10.0.0.1:1".parse().unwrap());
    informer.list("n", connection).unwrap();
    informer.apply(Watched::Apply(component("new", "n", "x")));
    informer.apply(Watched::Apply(component("other", "m", "x")));
    tokio::time::advance(super::super::history::CALLING).await;
    let mut stranger = informer.subscribe(&caller("n", None)).unwrap();
    let mut subscription = informer.subscribe(&caller("n", connection)).unwrap();
    assert_eq!(subscription.next().await.unwrap().entry.name, "new");
    assert!(informer.is_streaming(connection));
    informer.close();
    assert_eq!(subscription.next().await, Err(End::Shutdown));
    assert_eq!(stranger.next().await, Err(End::Shutdown));
}

#[tokio::test]
async fn a_list_that_is_too_old_has_to_be_read_again() {
    let informer = Informer::new(Kind::Component);
    listed(&informer, vec![]);
    let mine = caller("n", Some("10.0.0.1:1".parse().unwrap()));
    informer.list("n", mine.connection).unwrap();
    for count in 0..=super::super::history::MOST_CHANGES {
        informer.apply(Watched::Apply(component("a", "n", &count.to_string())));
    }
    let refused = informer.subscribe(&mine).err();
    assert_eq!(refused, Some(Refusal::Forgotten));
    assert!(informer.subscribe(&mine).is_ok(), "a list comes behind");
}

#[test]
fn streams_of_one_connection_are_limited() {
    let informer = Informer::new(Kind::Component);
    let mine = caller("n", Some("10.0.0.1:1".parse().unwrap()));
    let open = || informer.subscribe(&mine);
    let mut all: Vec<_> = (0..MOST_STREAMS_OF_ONE).map(|_| open().unwrap()).collect();
    assert_eq!(open().err(), Some(Refusal::Full));
    all.pop();
    assert!(open().is_ok());
}

#[test]
fn nothing_is_listed_before_everything_is_known() {
    let informer = Informer::new(Kind::Component);
    informer.apply(Watched::Init);
    informer.apply(Watched::InitApply(component("a", "n", "x")));
    assert_eq!(informer.list("n", None), Err(NotKnown));
    informer.apply(Signal::Lost);
    assert_eq!(informer.list("n", None), Err(NotKnown));
    listed(&informer, vec![component("a", "n", "x")]);
    informer.apply(Signal::Lost);
    assert_eq!(
        informer.list("n", None).unwrap().len(),
        1,
        "what was known is served on"
    );
}

#[tokio::test]
async fn dropped_subscriptions_leave_nothing_behind() {
    let informer = Informer::new(Kind::Component);
    let first = informer.subscribe(&caller("n", None)).unwrap();
    let second = informer.subscribe(&caller("n", None)).unwrap();
    drop(first);
    assert_eq!(informer.shared.state.lock().subscribers["n"].len(), 1);
    drop(second);
    assert!(informer.shared.state.lock().subscribers.is_empty());
}
