//! The suite for configuration stores.

use std::time::Duration;

use component::{
    Configuration,
    configuration::{Items, Request, Updates},
};
use tokio::time::{Instant, timeout, timeout_at};

/// Longest wait for a change.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs every case against an empty store. `change` writes a value at the backend, or deletes it.
///
/// # Panics
/// With the name of the case that failed.
pub async fn suite(store: &dyn Configuration, change: impl AsyncFn(&str, Option<&str>)) {
    values_are_read(store, &change).await;
    changes_are_told(store, &change).await;
    all_changes_are_told(store, &change).await;
    the_last_change_is_told_to_a_slow_reader(store, &change).await;
}

fn keys(keys: &[&str]) -> Request {
    Request {
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        ..Request::default()
    }
}

fn value<'a>(items: &'a Items, key: &str) -> Option<&'a str> {
    items.get(key).map(|item| item.value.as_str())
}

/// The next change.
async fn next(updates: &mut Updates, case: &str) -> Items {
    let next = timeout(PATIENCE, updates.next()).await;
    next.unwrap_or_else(|_| panic!("{case}: nothing is told"))
        .unwrap_or_else(|| panic!("{case}: the subscription has ended"))
}

/// Reads on until a key is told with a value: the same change may be told twice.
async fn until(updates: &mut Updates, key: &str, wanted: &str, case: &str) {
    let deadline = Instant::now() + PATIENCE;
    let told = async { while value(&next(updates, case).await, key) != Some(wanted) {} };
    let told = timeout_at(deadline, told).await;
    told.unwrap_or_else(|_| panic!("{case}: {key} is not told as {wanted:?}"));
}

async fn values_are_read(store: &dyn Configuration, change: &impl AsyncFn(&str, Option<&str>)) {
    let get = async |request: Request| store.get(&request).await.expect("values are read");
    assert_eq!(get(keys(&["absent"])).await, Items::new(), "absent keys");
    change("read", Some("1")).await;
    change("read too", Some("2")).await;
    let some = get(keys(&["read", "absent"])).await;
    assert_eq!(some.len(), 1, "absent keys are left out");
    assert_eq!(value(&some, "read"), Some("1"), "a value is read");
    let all = get(keys(&[])).await;
    assert_eq!(all.len(), 2, "no keys ask for all");
    assert_eq!(value(&all, "read too"), Some("2"), "all are read");
}

async fn changes_are_told(store: &dyn Configuration, change: &impl AsyncFn(&str, Option<&str>)) {
    let case = "changes are told";
    change("followed", Some("1")).await;
    let request = keys(&["followed", "followed too"]);
    let mut updates = store.subscribe(&request).await.expect(case);
    change("other", Some("x")).await;
    change("followed", Some("2")).await;
    let first = next(&mut updates, case).await;
    assert_eq!(first.keys().collect::<Vec<_>>(), ["followed"], "{case}");
    if value(&first, "followed") != Some("2") {
        until(&mut updates, "followed", "2", case).await;
    }
    change("followed too", Some("3")).await;
    until(&mut updates, "followed too", "3", case).await;
    change("followed", None).await;
    until(&mut updates, "followed", "", "a deleted key").await;
}

async fn all_changes_are_told(
    store: &dyn Configuration,
    change: &impl AsyncFn(&str, Option<&str>),
) {
    let case = "all changes are told";
    let mut updates = store.subscribe(&keys(&[])).await.expect(case);
    for key in ["one", "another"] {
        change(key, Some("new")).await;
        until(&mut updates, key, "new", case).await;
    }
}

async fn the_last_change_is_told_to_a_slow_reader(
    store: &dyn Configuration,
    change: &impl AsyncFn(&str, Option<&str>),
) {
    let case = "the last change is told to a slow reader";
    let mut updates = store.subscribe(&keys(&["slow"])).await.expect(case);
    for number in 0..500 {
        change("slow", Some(&number.to_string())).await;
    }
    until(&mut updates, "slow", "499", case).await;
}
