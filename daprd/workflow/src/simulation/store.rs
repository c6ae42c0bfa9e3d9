//! A store that fails before or after it has written, and looks whether histories only grow.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use blocks::{
    Declared, Owner, registry,
    state::{FOR_ACTORS, Stores},
};
use bytes::Bytes;
use component::{
    Catalog, Component, Error, ErrorKind, Instance, Lent, Registration, Result, Spawn, StateStore,
    state::{
        Capabilities, Capability, DeleteRequest, GetRequest, Item, Operation, RequestMetadata,
        SetRequest,
    },
};
use parking_lot::Mutex;
use prost::Message;
use proto::durabletask::{HistoryEvent, backend::v1::BackendWorkflowStateMetadata};
use resiliency::Policies;
use telemetry::{Meter, MetricOptions};

use super::{chance::Chance, decode};

type Rows = BTreeMap<String, (Bytes, u64)>;

pub struct Store {
    chance: Arc<Chance>,
    rows: Mutex<(Rows, u64)>,
    violations: Mutex<Vec<String>>,
    /// How many events of histories were read.
    read: AtomicUsize,
}

impl Store {
    pub fn new(chance: Arc<Chance>) -> Self {
        Self {
            chance,
            rows: Mutex::default(),
            violations: Mutex::default(),
            read: AtomicUsize::default(),
        }
    }

    /// How many events of histories were read.
    pub fn read(&self) -> usize {
        self.read.load(Ordering::Relaxed)
    }

    /// What was broken that may not be.
    pub fn violations(&self) -> Vec<String> {
        self.violations.lock().clone()
    }

    /// The history of an instance.
    pub fn history(&self, instance: &str) -> Vec<HistoryEvent> {
        let rows = self.rows.lock();
        let part = format!("||{instance}||history-");
        let rows = rows.0.iter().filter(|(key, _)| key.contains(&part));
        rows.map(|(_, (value, _))| decode(value)).collect()
    }

    /// Somebody changes a row of an instance's history who should not.
    pub fn tamper(&self, instance: &str) {
        let part = format!("||{instance}||history-000001");
        let mut rows = self.rows.lock();
        let row = rows.0.iter_mut().find(|(key, _)| key.contains(&part));
        let (_, (value, _)) = row.expect("a row");
        let mut event = decode(value);
        event.event_id += 1;
        *value = event.encode_to_vec().into();
    }

    fn fails(&self) -> Result<()> {
        match self.chance.strikes(2) {
            true => Err(Error::new(ErrorKind::Unavailable, "the store is away")),
            false => Ok(()),
        }
    }

    /// Within a run a history only grows, and its rows are as many as are said.
    fn watch(&self, rows: &Rows, operations: &[Operation]) {
        let lengths = |value: &Bytes| {
            let lengths = BackendWorkflowStateMetadata::decode(value.clone());
            lengths.expect("lengths")
        };
        let written = operations.iter().find_map(|operation| match operation {
            Operation::Upsert(set) if set.key.ends_with("||metadata") => Some(set),
            _ => None,
        });
        let Some(written) = written else {
            return;
        };
        let after = lengths(&written.value);
        let before = rows.get(&written.key).map(|(value, _)| lengths(value));
        let same_run = before.filter(|before| before.generation == after.generation);
        let known = same_run.map_or(0, |before| before.history_length);
        let mut broken = Vec::new();
        if after.history_length < known {
            broken.push(format!("{} has a shorter history", written.key));
        }
        let part = written.key.trim_end_matches("metadata");
        for at in 0..after.history_length {
            let key = format!("{part}history-{at:06}");
            let set = operations.iter().find(|operation| operation.key() == key);
            let stored = rows.get(&key).map(|(value, _)| value);
            match set {
                Some(Operation::Upsert(set)) if at < known && stored != Some(&set.value) => {
                    broken.push(format!("{key} is written again"));
                }
                Some(Operation::Delete(_)) => broken.push(format!("{key} is deleted")),
                None if stored.is_none() => broken.push(format!("{key} is missing")),
                _ => {}
            }
        }
        self.violations.lock().extend(broken);
    }
}

/// The store as sidecars have it.
pub async fn stores(store: &Arc<Store>, tasks: Arc<dyn Spawn>) -> (Stores, Meter) {
    let mut catalog = Catalog::default();
    let kept = Arc::clone(store);
    let registration = Registration::new("simulated", "simulated", component::Fields::default());
    let added = catalog.state.add(registration, move |_| {
        let kept = Arc::clone(&kept);
        async move { Ok(kept as Arc<dyn StateStore>) }
    });
    added.expect("a fresh catalog");
    let meter = Meter::new(&prometheus::Registry::new(), MetricOptions::default());
    let meter = meter.expect("a fresh registry");
    let policies = Policies::compile(&[], meter.clone()).expect("no policies");
    let options = registry::Options {
        catalog: Arc::new(catalog),
        namespace: "ns".into(),
        policies: Arc::new(ArcSwap::new(policies)),
        meter: meter.clone(),
    };
    let stores = Stores::new(options, "shop".into(), true);
    let declared = Declared {
        name: "store".into(),
        component_type: "state.simulated".into(),
        version: "v1".into(),
        metadata: [(FOR_ACTORS, "true")].into_iter().collect(),
        names_namespace: false,
        init_timeout: Duration::from_secs(5),
        instance: Arc::new(Instance::default()),
        tasks,
        lent: Lent::default(),
    };
    stores.apply(declared).await.expect("a store");
    (stores, meter)
}

#[async_trait]
impl Component for Store {}

#[async_trait]
impl StateStore for Store {
    fn capabilities(&self) -> Capabilities {
        [Capability::Etag, Capability::Transactional].into()
    }

    async fn get(&self, request: &GetRequest) -> Result<Option<Item>> {
        self.chance.pause().await;
        self.fails()?;
        if request.key.contains("||history-") {
            self.read.fetch_add(1, Ordering::Relaxed);
        }
        let rows = self.rows.lock();
        Ok(rows.0.get(&request.key).map(|(value, etag)| Item {
            value: value.clone(),
            etag: Some(etag.to_string()),
            metadata: BTreeMap::new(),
        }))
    }

    async fn set(&self, request: &SetRequest) -> Result<()> {
        let operations = [Operation::Upsert(request.clone())];
        self.transact(&operations, &RequestMetadata::default())
            .await
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<()> {
        let operations = [Operation::Delete(request.clone())];
        self.transact(&operations, &RequestMetadata::default())
            .await
    }

    async fn transact(&self, operations: &[Operation], _: &RequestMetadata) -> Result<()> {
        self.chance.pause().await;
        self.fails()?;
        {
            let mut guard = self.rows.lock();
            let (rows, next) = &mut *guard;
            for operation in operations {
                let asked = match operation {
                    Operation::Upsert(set) => &set.etag,
                    Operation::Delete(delete) => &delete.etag,
                };
                let known = rows.get(operation.key()).map(|(_, etag)| etag.to_string());
                if asked.is_some() && *asked != known {
                    return Err(Error::new(ErrorKind::EtagMismatch, "the row has changed"));
                }
            }
            self.watch(rows, operations);
            for operation in operations {
                match operation {
                    Operation::Upsert(set) => {
                        *next += 1;
                        rows.insert(set.key.clone(), (set.value.clone(), *next));
                    }
                    Operation::Delete(delete) => drop(rows.remove(&delete.key)),
                }
            }
        }
        self.chance.effect().await;
        self.chance.pause().await;
        self.fails()
    }
}
