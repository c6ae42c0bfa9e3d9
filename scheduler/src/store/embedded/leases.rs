//! Leases of the embedded store. Nobody but this program holds one, so they last until they are revoked, or the program ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::store::{Lease, Op, Txn};

/// The leases, each with the keys under it.
#[derive(Default)]
pub(super) struct Leases(Mutex<BTreeMap<i64, Held>>);

struct Held {
    ttl: Duration,
    keys: BTreeSet<Bytes>,
}

impl Leases {
    pub fn grant(&self, ttl: Duration) -> Lease {
        let id = fastrand::i64(1..);
        let held = Held {
            ttl,
            keys: BTreeSet::new(),
        };
        self.0.lock().insert(id, held);
        Lease { id, ttl }
    }

    /// How long a lease lasts from now; `None` if it has ended.
    pub fn ttl(&self, lease: i64) -> Option<Duration> {
        Some(self.0.lock().get(&lease)?.ttl)
    }

    /// Keys that are about to be written under leases.
    pub fn note(&self, txn: &Txn) {
        for op in &txn.then {
            let Op::Put { key, lease, .. } = op else {
                continue;
            };
            if *lease != 0
                && let Some(held) = self.0.lock().get_mut(lease)
            {
                held.keys.insert(key.clone());
            }
        }
    }

    /// Ends a lease: the keys that go with it.
    pub fn end(&self, lease: i64) -> Option<BTreeSet<Bytes>> {
        Some(self.0.lock().remove(&lease)?.keys)
    }

    pub fn list(&self) -> Vec<i64> {
        self.0.lock().keys().copied().collect()
    }
}
