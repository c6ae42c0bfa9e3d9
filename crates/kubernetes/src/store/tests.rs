//! The store, signal by signal.

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

use super::*;

fn map(name: &str, version: u64, value: &str) -> ConfigMap {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "n", "resourceVersion": version.to_string()},
        "data": {"k": value},
    }))
    .expect("a map")
}

fn value(map: ConfigMap) -> Option<String> {
    map.data?.remove("k").filter(|value| value != "none")
}

/// Applies events and says what changed: name, old, new.
fn applied(store: &mut Store<String>, signal: Signal<ConfigMap>) -> Vec<String> {
    let side = |side: Option<Arc<String>>| side.map_or_else(|| "-".to_owned(), |it| (*it).clone());
    let changes = store.apply(signal, value).into_iter();
    changes
        .map(|change| {
            format!(
                "{} {} {}",
                change.key.name,
                side(change.old),
                side(change.new)
            )
        })
        .collect()
}

fn event(store: &mut Store<String>, event: Event<ConfigMap>) -> Vec<String> {
    applied(store, Signal::Event(event))
}

fn listed(store: &mut Store<String>, maps: &[ConfigMap]) -> Vec<String> {
    let mut changes = event(store, Event::Init);
    for map in maps {
        changes.extend(event(store, Event::InitApply(map.clone())));
    }
    changes.extend(event(store, Event::InitDone));
    changes
}

#[test]
fn nothing_is_known_before_the_first_list_is_complete() {
    let mut store = Store::default();
    assert_eq!((store.state(), store.is_known()), (State::Listing, false));
    event(&mut store, Event::Init);
    assert_eq!(
        event(&mut store, Event::InitApply(map("a", 1, "1"))),
        ["a - 1"]
    );
    for signal in [Signal::Lost, Signal::Watching(None), Signal::Refused] {
        applied(&mut store, signal);
        assert!(!store.is_known());
    }
    event(&mut store, Event::InitDone);
    assert_eq!((store.state(), store.is_known()), (State::Complete, true));
    applied(&mut store, Signal::Lost);
    assert_eq!((store.state(), store.is_known()), (State::Stale, true));
    applied(&mut store, Signal::Watching(None));
    assert_eq!(store.state(), State::Complete);
}

#[test]
fn an_unknown_kind_has_no_objects_and_takes_none_away() {
    let mut store = Store::default();
    assert!(applied(&mut store, Signal::Gone).is_empty());
    assert_eq!((store.state(), store.is_known()), (State::Gone, true));
    listed(&mut store, &[map("a", 1, "1")]);
    assert!(applied(&mut store, Signal::Gone).is_empty());
    assert_eq!(store.iter().count(), 1);
}

#[test]
fn late_and_double_events_say_nothing() {
    let mut store = Store::default();
    listed(&mut store, &[map("a", 5, "5")]);
    assert!(event(&mut store, Event::Apply(map("a", 5, "5"))).is_empty());
    assert!(event(&mut store, Event::Apply(map("a", 4, "4"))).is_empty());
    assert!(
        event(&mut store, Event::Apply(map("b", 3, "3"))).is_empty(),
        "gone before the list"
    );
    assert_eq!(event(&mut store, Event::Apply(map("b", 9, "9"))), ["b - 9"]);
    assert_eq!(
        event(&mut store, Event::Apply(map("a", 8, "8"))),
        ["a 5 8"],
        "another's newer event"
    );
    assert!(
        event(&mut store, Event::Delete(map("a", 7, "5"))).is_empty(),
        "made anew since"
    );
    assert_eq!(
        event(&mut store, Event::Delete(map("a", 10, "8"))),
        ["a 8 -"]
    );
    assert!(
        event(&mut store, Event::Apply(map("a", 8, "8"))).is_empty(),
        "deleted since"
    );
    assert_eq!(
        event(&mut store, Event::Apply(map("a", 11, "11"))),
        ["a - 11"]
    );
}

#[test]
fn what_happened_before_a_watch_is_known() {
    let mut store = Store::default();
    listed(&mut store, &[map("a", 5, "5")]);
    applied(&mut store, Signal::Watching(Some(20)));
    assert!(
        event(&mut store, Event::Apply(map("b", 20, "20"))).is_empty(),
        "deleted before the list"
    );
    assert_eq!(
        event(&mut store, Event::Apply(map("b", 21, "21"))),
        ["b - 21"]
    );
}

#[test]
fn what_is_of_no_interest_any_more_does_not_come_back_with_an_old_event() {
    let mut store = Store::default();
    listed(&mut store, &[map("a", 1, "1")]);
    assert_eq!(
        event(&mut store, Event::Apply(map("a", 3, "none"))),
        ["a 1 -"]
    );
    assert!(event(&mut store, Event::Apply(map("a", 2, "2"))).is_empty());
}

#[test]
fn a_new_list_is_compared_with_what_is_known_and_believed() {
    let mut store = Store::default();
    listed(
        &mut store,
        &[map("a", 1, "1"), map("b", 2, "2"), map("c", 3, "3")],
    );
    let changes = listed(
        &mut store,
        &[map("a", 1, "1"), map("b", 9, "9"), map("d", 8, "8")],
    );
    assert_eq!(changes, ["b 2 9", "d - 8", "c 3 -"]);
    // a server that was restored from a backup
    assert_eq!(
        listed(&mut store, &[map("a", 1, "1"), map("b", 2, "2")]),
        ["b 9 2", "d 8 -"]
    );
    assert_eq!(event(&mut store, Event::Apply(map("d", 4, "4"))), ["d - 4"]);
}

#[test]
fn a_plain_list_counts_for_as_long_as_there_may_be_no_watch() {
    let mut store = Store::default();
    applied(&mut store, Signal::Refused);
    let names = |store: &Store<String>| -> Vec<String> {
        store.iter().map(|(key, _)| key.name.clone()).collect()
    };
    store.replace([map("a", 1, "1"), map("b", 2, "2")], value);
    assert_eq!((store.is_known(), store.state()), (true, State::Refused));
    store.replace([map("b", 2, "2")], value);
    assert_eq!(names(&store), ["b"]);
    // in the middle of a list that comes with a watch
    event(&mut store, Event::Init);
    event(&mut store, Event::InitApply(map("c", 3, "3")));
    store.replace([map("b", 2, "2")], value);
    event(&mut store, Event::InitApply(map("d", 4, "4")));
    event(&mut store, Event::InitDone);
    assert_eq!(names(&store), ["c", "d"]);
    assert!(
        store.replace([map("b", 2, "2")], value).is_empty(),
        "it comes late"
    );
}

#[test]
fn a_list_that_breaks_off_takes_nothing_away() {
    let mut store = Store::default();
    listed(&mut store, &[map("a", 1, "1"), map("b", 2, "2")]);
    event(&mut store, Event::Init);
    event(&mut store, Event::InitApply(map("a", 1, "1")));
    assert!(listed(&mut store, &[map("a", 1, "1"), map("b", 2, "2")]).is_empty());
}

#[test]
fn objects_are_found_by_namespace() {
    let mut store = Store::default();
    let mut other = map("x", 4, "4");
    other.metadata.namespace = Some("nn".to_owned());
    listed(&mut store, &[map("b", 1, "1"), map("a", 2, "2"), other]);
    let names: Vec<_> = store
        .within("n")
        .map(|(key, _)| key.name.as_str())
        .collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(
        store.get(&Key::new("nn", "x")).map(|it| it.as_str()),
        Some("4")
    );
    assert_eq!(store.within("o").count(), 0);
}

#[test]
fn deletions_are_remembered_up_to_a_limit() {
    let mut store = Store::default();
    listed(&mut store, &[]);
    for version in 1..=MOST_DELETIONS as u64 + 10 {
        event(
            &mut store,
            Event::Delete(map(&version.to_string(), version, "x")),
        );
    }
    assert_eq!(store.deletions.len(), MOST_DELETIONS);
    assert_eq!(store.deletion_order.len(), MOST_DELETIONS);
}
