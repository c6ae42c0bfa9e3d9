//! The state building block: named stores behind key prefixes, encryption and policies.

mod encryption;
mod key_prefix;
mod raw;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use component::{
    Catalog, Metadata, StateStore,
    state::{
        BulkItem, Capabilities, Capability, DeleteRequest, GetRequest, Item, Operation,
        QueryRequest, QueryResponse, SetRequest,
    },
};
use resiliency::{ComponentKind, Policies};
use telemetry::Meter;
use tokio::sync::watch;

use crate::{
    Declared, Listed, LoadError, Owner,
    call::Calls,
    slots::{Slot, Slots, drain},
};
use encryption::Encryption;
pub use key_prefix::KeyPrefix;
pub use raw::Raw;

/// Why a state call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no state store at all.
    #[error("state store {store} is not configured")]
    NotConfigured { store: String },
    /// There are stores, but none of this name.
    #[error("state store {store} is not found")]
    NotFound { store: String },
    /// A key or prefix that cannot be told from a prefixed key.
    #[error("input key/keyPrefix '{key}' can't contain '||'")]
    IllegalKey { store: String, key: String },
    /// The store applies no transactions.
    #[error("state store {store} doesn't support transactions")]
    TransactionsUnsupported { store: String },
    /// More operations than the store takes at once.
    #[error(
        "the transaction contains {count} operations, which is more than what the state store supports: {most}"
    )]
    TooManyOperations {
        store: String,
        count: usize,
        most: usize,
    },
    /// The store answers no queries.
    #[error("state store does not support querying")]
    QueriesUnsupported { store: String },
    /// What the component said.
    #[error("{}", component::error::chain(.0))]
    Component(#[source] component::Error),
}

impl From<component::Error> for Error {
    fn from(error: component::Error) -> Self {
        Self::Component(error)
    }
}

/// What the state block is made of.
pub struct Options {
    pub catalog: Arc<Catalog>,
    pub app_id: String,
    pub namespace: String,
    pub policies: Arc<ArcSwap<Policies>>,
    pub meter: Meter,
}

/// The loaded state stores. Clones share them.
#[derive(Clone)]
pub struct Stores(Arc<Inner>);

struct Inner {
    options: Options,
    slots: Slots<Store>,
    calls: Calls,
    changes: watch::Sender<raw::Changes>,
}

struct Store {
    component: Arc<dyn StateStore>,
    metadata: Metadata,
    prefix: KeyPrefix,
    encryption: Option<Encryption>,
}

impl Store {
    fn has(&self, capability: Capability) -> bool {
        self.component.capabilities().contains(capability)
    }

    fn seal(&self, request: &mut SetRequest) -> Result<(), component::Error> {
        if let Some(encryption) = &self.encryption {
            request.value = encryption.seal(&request.value)?;
        }
        Ok(())
    }

    fn open(&self, item: Option<Item>) -> Result<Option<Item>, component::Error> {
        match (item, &self.encryption) {
            (Some(mut item), Some(encryption)) if !item.value.is_empty() => {
                item.value = encryption.open(&item.value)?;
                Ok(Some(item))
            }
            (item, _) => Ok(item),
        }
    }

    /// Full keys become the caller's again; a row that cannot be decrypted becomes its error.
    fn open_row(&self, mut row: BulkItem) -> BulkItem {
        row.key = self.prefix.strip(&row.key).to_owned();
        row.result = row.result.and_then(|item| self.open(item));
        row
    }
}

impl Stores {
    pub fn new(options: Options) -> Self {
        let calls = Calls::new(&options.meter, "state", &options.namespace);
        Self(Arc::new(Inner {
            options,
            slots: Slots::default(),
            calls,
            changes: watch::Sender::default(),
        }))
    }

    /// Fails as every call on that store would, without calling it.
    ///
    /// # Errors
    /// [`Error::NotConfigured`], [`Error::NotFound`].
    pub fn check(&self, store: &str) -> Result<(), Error> {
        self.find(store).map(drop)
    }

    /// Whether a store has an ability.
    ///
    /// # Errors
    /// As [`Stores::check`].
    pub fn has(&self, store: &str, capability: Capability) -> Result<bool, Error> {
        Ok(self.find(store)?.store.has(capability))
    }

    /// Whether a store's values are encrypted by the sidecar.
    pub fn is_encrypted(&self, store: &str) -> bool {
        let slot = self.0.slots.find(store);
        slot.is_some_and(|slot| slot.store.encryption.is_some())
    }

    /// Reads a key; `request.key` is the caller's.
    pub async fn get(&self, store: &str, mut request: GetRequest) -> Result<Option<Item>, Error> {
        let slot = self.find(store)?;
        request.key = slot.store.prefix.apply(store, &request.key)?;
        let item = self
            .call(store, "get", || slot.store.component.get(&request))
            .await?;
        Ok(slot.store.open(item)?)
    }

    /// Reads several keys; rows carry the caller's keys.
    pub async fn bulk_get(
        &self,
        store: &str,
        mut requests: Vec<GetRequest>,
        parallelism: usize,
    ) -> Result<Vec<BulkItem>, Error> {
        let slot = self.find(store)?;
        for request in &mut requests {
            request.key = slot.store.prefix.apply(store, &request.key)?;
        }
        let rows = self
            .call(store, "bulk_get", || {
                slot.store.component.bulk_get(&requests, parallelism)
            })
            .await?;
        Ok(rows
            .into_iter()
            .map(|row| slot.store.open_row(row))
            .collect())
    }

    /// Writes one or several keys.
    pub async fn save(&self, store: &str, mut requests: Vec<SetRequest>) -> Result<(), Error> {
        let slot = self.find(store)?;
        for request in &mut requests {
            request.key = slot.store.prefix.apply(store, &request.key)?;
            slot.store.seal(request)?;
        }
        let component = &slot.store.component;
        if let [request] = requests.as_slice() {
            self.call(store, "set", || component.set(request)).await?;
        } else {
            self.call(store, "set", || component.bulk_set(&requests))
                .await?;
        }
        Ok(())
    }

    /// Deletes one key.
    pub async fn delete(&self, store: &str, mut request: DeleteRequest) -> Result<(), Error> {
        let slot = self.find(store)?;
        request.key = slot.store.prefix.apply(store, &request.key)?;
        self.call(store, "delete", || slot.store.component.delete(&request))
            .await?;
        Ok(())
    }

    /// Deletes several keys.
    pub async fn bulk_delete(
        &self,
        store: &str,
        mut requests: Vec<DeleteRequest>,
    ) -> Result<(), Error> {
        let slot = self.find(store)?;
        for request in &mut requests {
            request.key = slot.store.prefix.apply(store, &request.key)?;
        }
        self.call(store, "bulk_delete", || {
            slot.store.component.bulk_delete(&requests)
        })
        .await?;
        Ok(())
    }

    /// Applies all operations or none.
    pub async fn transact(
        &self,
        store: &str,
        mut operations: Vec<Operation>,
        metadata: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let slot = self.transactional(store)?;
        let most = slot.store.component.max_transaction_operations().await;
        if let Some(most) = most.filter(|most| operations.len() > *most) {
            return Err(Error::TooManyOperations {
                store: store.to_owned(),
                count: operations.len(),
                most,
            });
        }
        for operation in &mut operations {
            match operation {
                Operation::Upsert(request) => {
                    request.key = slot.store.prefix.apply(store, &request.key)?;
                    slot.store.seal(request)?;
                }
                Operation::Delete(request) => {
                    request.key = slot.store.prefix.apply(store, &request.key)?;
                }
            }
        }
        self.call(store, "transaction", || {
            slot.store.component.transact(&operations, &metadata)
        })
        .await?;
        Ok(())
    }

    /// Fails where the store applies no transactions; front ends ask before they read the body.
    ///
    /// # Errors
    /// [`Error::TransactionsUnsupported`], or as [`Stores::check`].
    pub fn check_transactional(&self, store: &str) -> Result<(), Error> {
        self.transactional(store).map(drop)
    }

    /// Answers a JSON query; rows carry the caller's keys.
    pub async fn query(&self, store: &str, request: QueryRequest) -> Result<QueryResponse, Error> {
        let slot = self.find(store)?;
        if !slot.store.has(Capability::QueryApi) || slot.store.encryption.is_some() {
            return Err(Error::QueriesUnsupported {
                store: store.to_owned(),
            });
        }
        let mut response = self
            .call(store, "query", || slot.store.component.query(&request))
            .await?;
        response.items = response
            .items
            .into_iter()
            .map(|row| slot.store.open_row(row))
            .collect();
        Ok(response)
    }

    fn transactional(&self, store: &str) -> Result<Arc<Slot<Store>>, Error> {
        let slot = self.find(store)?;
        if slot.store.has(Capability::Transactional) {
            return Ok(slot);
        }
        Err(Error::TransactionsUnsupported {
            store: store.to_owned(),
        })
    }

    fn find(&self, store: &str) -> Result<Arc<Slot<Store>>, Error> {
        if let Some(slot) = self.0.slots.find(store) {
            return Ok(slot);
        }
        let store = store.to_owned();
        Err(if self.0.slots.is_empty() {
            Error::NotConfigured { store }
        } else {
            Error::NotFound { store }
        })
    }

    async fn call<T, F, Fut>(
        &self,
        store: &str,
        operation: &str,
        attempt: F,
    ) -> Result<T, component::Error>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, component::Error>>,
    {
        let policies = self.0.options.policies.load();
        let policy = policies.component_outbound(store, ComponentKind::Statestore);
        self.0.calls.run(&policy, store, operation, attempt).await
    }
}

/// A new store is opened, put in place, and only then the old one drained: no call ever finds none.
#[async_trait]
impl Owner for Stores {
    fn prefix(&self) -> &'static str {
        "state."
    }

    async fn apply(&self, declared: Declared) -> Result<(), LoadError> {
        let options = &self.0.options;
        let invalid =
            |error: Error| declared.failed(component::Error::invalid_metadata("keyPrefix", error));
        let prefix = KeyPrefix::parse(
            declared.metadata.text("keyPrefix"),
            &declared.name,
            &options.app_id,
            &options.namespace,
        )
        .map_err(invalid)?;
        let encryption = Encryption::from_metadata(&declared.metadata)
            .map_err(|error| declared.failed(error))?;
        let component_type = declared.type_below(self.prefix());
        let opening =
            options
                .catalog
                .state
                .open(&component_type, &declared.version, declared.open());
        let component = declared.within_limit(opening).await?;
        let listed = declared.listed(listed_capabilities(component.capabilities()));
        let store = Store {
            component,
            metadata: declared.metadata.clone(),
            prefix,
            encryption,
        };
        let old = self.0.slots.put(listed, store);
        self.changed(&declared.name);
        if let Some(old) = old {
            close(old).await;
        }
        Ok(())
    }

    async fn remove(&self, name: &str) {
        if let Some(old) = self.0.slots.take(name) {
            self.changed(name);
            close(old).await;
        }
    }

    fn components(&self) -> Vec<Listed> {
        self.0.slots.listed()
    }

    async fn close(&self) {
        for slot in self.0.slots.take_all() {
            close(slot).await;
        }
    }
}

async fn close(slot: Arc<Slot<Store>>) {
    drain(slot, |store| {
        let component = Arc::clone(&store.component);
        async move { component.close().await }
    })
    .await;
}

/// A store that can hold actors says so: entity tags and transactions are what actors need.
fn listed_capabilities(capabilities: Capabilities) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = capabilities.names().collect();
    if capabilities.contains(Capability::Etag) && capabilities.contains(Capability::Transactional) {
        names.push("ACTOR");
    }
    names
}
