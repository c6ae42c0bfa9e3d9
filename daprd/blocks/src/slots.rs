//! The loaded components of one kind: readers take a snapshot without a lock; a replaced component is closed only when
//! the last call that uses it has ended.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::Listed;

/// How long a replaced component may go on serving the calls that hold it.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// A loaded component; dropping the last clone of its `Arc` ends its last call.
pub struct Slot<S> {
    pub listed: Listed,
    pub store: S,
    _unused: DropGuard,
    unused: CancellationToken,
}

/// The loaded components of one kind, by name.
pub struct Slots<S> {
    by_name: ArcSwap<BTreeMap<String, Arc<Slot<S>>>>,
    writers: Mutex<()>,
}

impl<S> Default for Slots<S> {
    fn default() -> Self {
        Self {
            by_name: ArcSwap::default(),
            writers: Mutex::new(()),
        }
    }
}

impl<S> Slots<S> {
    /// The component of that name; it stays open while the reference is held.
    pub fn find(&self, name: &str) -> Option<Arc<Slot<S>>> {
        self.by_name.load().get(name).cloned()
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.load().is_empty()
    }

    pub fn listed(&self) -> Vec<Listed> {
        self.by_name
            .load()
            .values()
            .map(|slot| slot.listed.clone())
            .collect()
    }

    /// Puts a component in place; the one before is handed back to be drained.
    pub fn put(&self, listed: Listed, store: S) -> Option<Arc<Slot<S>>> {
        let unused = CancellationToken::new();
        let slot = Arc::new(Slot {
            listed,
            store,
            _unused: unused.clone().drop_guard(),
            unused,
        });
        self.change(|map| map.insert(slot.listed.name.clone(), Arc::clone(&slot)))
    }

    /// Takes a component out.
    pub fn take(&self, name: &str) -> Option<Arc<Slot<S>>> {
        self.change(|map| map.remove(name))
    }

    /// Takes all out.
    pub fn take_all(&self) -> Vec<Arc<Slot<S>>> {
        self.change(|map| std::mem::take(map).into_values().collect())
    }

    fn change<T>(&self, edit: impl FnOnce(&mut BTreeMap<String, Arc<Slot<S>>>) -> T) -> T {
        let _one_writer = self.writers.lock();
        let mut map = BTreeMap::clone(&self.by_name.load());
        let result = edit(&mut map);
        self.by_name.store(Arc::new(map));
        result
    }
}

/// Waits until no call uses a component that was taken out, at most [`DRAIN_LIMIT`], then closes it.
pub async fn drain<S, F: Future<Output = ()>>(slot: Arc<Slot<S>>, close: impl FnOnce(&S) -> F) {
    let closing = close(&slot.store);
    let unused = slot.unused.clone();
    let name = slot.listed.name.clone();
    drop(slot);
    if tokio::time::timeout(DRAIN_LIMIT, unused.cancelled())
        .await
        .is_err()
    {
        tracing::warn!(target: "dapr.runtime", "component {name} is closed while calls still use it");
    }
    closing.await;
}
