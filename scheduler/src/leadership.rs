//! The record by which a replica says that it lives (contract 8.2): `dapr/leadership/<id>`, under a lease. The embedded store
//! has one replica, which leads for as long as it runs.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use proto::cron;
use proto::scheduler::v1::Host;
use tokio::sync::Mutex;

use crate::names::LEADERSHIP;
use crate::spec;
use crate::store::{self, Op, Txn};

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Leadership {
    store: store::Shared,
    key: Bytes,
    record: Bytes,
    lease: Arc<parking_lot::Mutex<i64>>,
    /// One renewal at a time.
    turn: Arc<Mutex<()>>,
}

impl Leadership {
    /// Says that the replica `id`, which is reached as `host`, lives. Records of others are of those before it.
    pub async fn acquire(
        store: store::Shared,
        id: &str,
        host: &Host,
    ) -> Result<Self, store::Error> {
        let record = cron::Leadership {
            total: 1,
            uid: fastrand::u64(..),
            replica_data: Some(spec::any(host)),
        };
        let leadership = Self {
            store,
            key: format!("{LEADERSHIP}{id}").into(),
            record: record.encode_to_vec().into(),
            lease: Arc::new(parking_lot::Mutex::new(fresh())),
            turn: Arc::default(),
        };
        leadership.write().await?;
        Ok(leadership)
    }

    /// The lease that the record is under.
    pub fn lease(&self) -> i64 {
        *self.lease.lock()
    }

    /// Ends a lease, and begins the next one, as an elected replica does whose lease was taken away. False if it is another one.
    pub async fn revoke(&self, lease: i64) -> Result<bool, store::Error> {
        let _turn = self.turn.lock().await;
        if lease != self.lease() {
            return Ok(false);
        }
        *self.lease.lock() = fresh();
        self.write().await?;
        Ok(true)
    }

    /// Takes the record away: the replica stops.
    pub async fn resign(&self) -> Result<(), store::Error> {
        let then = vec![Op::delete(self.key.clone())];
        let txn = Txn {
            compare: Vec::new(),
            then,
        };
        self.store.commit(txn).await.map(drop)
    }

    async fn write(&self) -> Result<(), store::Error> {
        let put = Op::Put {
            key: self.key.clone(),
            value: self.record.clone(),
            lease: self.lease(),
        };
        let txn = Txn {
            compare: Vec::new(),
            then: vec![Op::delete_prefix(LEADERSHIP), put],
        };
        self.store.commit(txn).await.map(drop)
    }
}

fn fresh() -> i64 {
    fastrand::i64(1..)
}
