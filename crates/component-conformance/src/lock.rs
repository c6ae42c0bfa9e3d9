//! The suite for lock stores.

use std::time::Duration;

use component::{
    Lock,
    lock::{LockRequest, UnlockRequest, Unlocked},
};
use futures::future::join_all;
use tokio::time::{Instant, sleep};

/// Longest wait for a lock to lapse that lives for a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs every case against a store without locks.
///
/// # Panics
/// With the name of the case that failed.
pub async fn suite(store: &dyn Lock) {
    one_of_many_gets_it(store).await;
    only_its_owner_gives_it_back(store).await;
    it_lapses(store).await;
}

async fn take(store: &dyn Lock, resource: &str, owner: &str, seconds: u64) -> bool {
    let request = LockRequest {
        resource: resource.to_owned(),
        owner: owner.to_owned(),
        expiry: Duration::from_secs(seconds),
    };
    store.try_lock(&request).await.expect("a lock is asked for")
}

async fn give_back(store: &dyn Lock, resource: &str, owner: &str) -> Unlocked {
    let request = UnlockRequest {
        resource: resource.to_owned(),
        owner: owner.to_owned(),
    };
    store.unlock(&request).await.expect("a lock is given back")
}

async fn one_of_many_gets_it(store: &dyn Lock) {
    let owners: Vec<String> = (0..10).map(|number| format!("owner {number}")).collect();
    let attempts = owners.iter().map(|owner| take(store, "many", owner, 60));
    let taken = join_all(attempts).await;
    let winners = taken.iter().filter(|taken| **taken).count();
    assert_eq!(winners, 1, "one of many gets it");
    let winner = taken.iter().position(|taken| *taken).expect("a winner");
    let again = take(store, "many", &owners[winner], 60).await;
    assert!(!again, "a holder that asks again does not get it twice");
    assert!(take(store, "other", "o", 60).await, "resources are apart");
}

async fn only_its_owner_gives_it_back(store: &dyn Lock) {
    let none = give_back(store, "owned", "a").await;
    assert_eq!(none, Unlocked::DoesNotExist, "nobody holds it");
    assert!(take(store, "owned", "a", 60).await, "it is free");
    let other = give_back(store, "owned", "b").await;
    assert_eq!(other, Unlocked::BelongsToOthers, "somebody else holds it");
    assert!(
        !take(store, "owned", "b", 60).await,
        "and goes on holding it"
    );
    let own = give_back(store, "owned", "a").await;
    assert_eq!(own, Unlocked::Success, "its owner gives it back");
    assert!(take(store, "owned", "b", 60).await, "it is free again");
}

async fn it_lapses(store: &dyn Lock) {
    assert!(take(store, "lapses", "a", 1).await, "it is free");
    let deadline = Instant::now() + PATIENCE;
    while !take(store, "lapses", "b", 60).await {
        assert!(Instant::now() < deadline, "it lapses by itself");
        sleep(Duration::from_millis(50)).await;
    }
}
