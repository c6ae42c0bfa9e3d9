//! A store that fails before or after it has written, and looks whether histories only grow.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use component::{
    Component, Error, ErrorKind, Result, StateStore,
    state::{
        Capabilities, Capability, DeleteRequest, GetRequest, Item, Operation, RequestMetadata,
        SetRequest,
    },
};
use parking_lot::Mutex;
use prost::Message;
use proto::durabletask::{HistoryEvent, backend::v1::BackendWorkflowStateMetadata};

use super::{chance::Chance, decode};

type Rows = BTreeMap<String, (Bytes, u64)>;

pub struct Store {
    chance: Arc<Chance>,
    rows: Mutex<(Rows, u64)>,
    violations: Mutex<Vec<String>>,
}

impl Store {
    pub fn new(chance: Arc<Chance>) -> Self {
        Self {
            chance,
            rows: Mutex::default(),
            violations: Mutex::default(),
        }
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
        self.chance.pause().await;
        self.fails()
    }
}
