//! The state building block: named stores behind key prefixes, encryption and policies.

mod encryption;
mod key_prefix;
mod raw;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use component::{
    ErrorKind, Metadata, StateStore,
    state::{
        BulkItem, Capabilities, Capability, DeleteRequest, GetRequest, Item, Operation,
        QueryRequest, QueryResponse, SetRequest,
    },
};
use parking_lot::Mutex;
use resiliency::ComponentKind;

use crate::{
    Declared, Kind, LoadError, Loaded, Missing, Owner, Registry,
    registry::{self, AnyRegistry, Called},
};
use encryption::Encryption;
pub use key_prefix::KeyPrefix;
pub use raw::Raw;

static STATE: Kind<dyn StateStore> = Kind {
    prefix: "state.",
    calls: Some(Called {
        metrics: Some("state"),
        policies: ComponentKind::Statestore,
    }),
    family: |catalog| &catalog.state,
};

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

/// The loaded state stores. Clones share them.
#[derive(Clone)]
pub struct Stores(Arc<Inner>);

struct Inner {
    registry: Registry<dyn StateStore, Keeping>,
    app_id: String,
    namespace: String,
    /// Held from the look for another store of actors until the new one is in place; none where there are no actors.
    for_actors: Option<Mutex<()>>,
}

/// What a store says in its metadata that actors keep their state in.
pub const FOR_ACTORS: &str = "actorStateStore";

/// A loaded store with how its keys and values are kept.
type Store = Loaded<dyn StateStore, Keeping>;

/// How the sidecar keeps keys and values in a store.
struct Keeping {
    /// What the component is configured with.
    metadata: Metadata,
    prefix: KeyPrefix,
    encryption: Option<Encryption>,
}

impl Keeping {
    fn seal(&self, request: &mut SetRequest) -> Result<(), component::Error> {
        if let Some(encryption) = &self.encryption {
            request.value = encryption.seal(&request.value)?;
        }
        Ok(())
    }

    fn kept(&self, store: &str, mut operations: Vec<Operation>) -> Result<Vec<Operation>, Error> {
        for operation in &mut operations {
            match operation {
                Operation::Upsert(request) => {
                    request.key = self.prefix.apply(store, &request.key)?;
                    self.seal(request)?;
                }
                Operation::Delete(request) => {
                    request.key = self.prefix.apply(store, &request.key)?;
                }
            }
        }
        Ok(operations)
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
    /// The stores of the app `app_id`, whose keys begin with what it or a store's `keyPrefix` says. With `actors`, one of
    /// them at most can be theirs.
    pub fn new(options: registry::Options, app_id: String, actors: bool) -> Self {
        Self(Arc::new(Inner {
            namespace: options.namespace.clone(),
            registry: Registry::new(&STATE, options),
            app_id,
            for_actors: actors.then(Mutex::default),
        }))
    }

    /// The store that is for actors.
    pub fn for_actors(&self) -> Option<String> {
        self.names(is_for_actors).into_iter().next()
    }

    /// The store that actors have already, where another one is to be theirs.
    fn other_for_actors(&self, declared: &Declared) -> Option<String> {
        if self.0.for_actors.is_none() || !is_for_actors(&declared.metadata) {
            return None;
        }
        let mut others = self.names(is_for_actors).into_iter();
        others.find(|name| *name != declared.name)
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
        let found = self.find(store)?;
        Ok(has(&found, capability))
    }

    /// Whether a store's values are encrypted by the sidecar.
    pub fn is_encrypted(&self, store: &str) -> bool {
        let found = self.0.registry.find(store);
        found.is_ok_and(|found| found.beside.encryption.is_some())
    }

    /// Reads a key; `request.key` is the caller's.
    pub async fn get(&self, store: &str, mut request: GetRequest) -> Result<Option<Item>, Error> {
        let found = self.find(store)?;
        request.key = found.beside.prefix.apply(store, &request.key)?;
        let item = self
            .0
            .registry
            .call(&found, "get", || found.get(&request))
            .await?;
        Ok(found.beside.open(item)?)
    }

    /// Reads several keys; rows carry the caller's keys.
    pub async fn bulk_get(
        &self,
        store: &str,
        mut requests: Vec<GetRequest>,
        parallelism: usize,
    ) -> Result<Vec<BulkItem>, Error> {
        let found = self.find(store)?;
        for request in &mut requests {
            request.key = found.beside.prefix.apply(store, &request.key)?;
        }
        let rows = self
            .0
            .registry
            .call(&found, "bulk_get", || {
                found.bulk_get(&requests, parallelism)
            })
            .await?;
        Ok(rows
            .into_iter()
            .map(|row| found.beside.open_row(row))
            .collect())
    }

    /// Writes one or several keys.
    pub async fn save(&self, store: &str, mut requests: Vec<SetRequest>) -> Result<(), Error> {
        let found = self.find(store)?;
        for request in &mut requests {
            request.key = found.beside.prefix.apply(store, &request.key)?;
            found.beside.seal(request)?;
        }
        if let [request] = requests.as_slice() {
            self.0
                .registry
                .call(&found, "set", || found.set(request))
                .await?;
        } else {
            self.0
                .registry
                .call(&found, "set", || found.bulk_set(&requests))
                .await?;
        }
        Ok(())
    }

    /// Deletes one key.
    pub async fn delete(&self, store: &str, mut request: DeleteRequest) -> Result<(), Error> {
        let found = self.find(store)?;
        request.key = found.beside.prefix.apply(store, &request.key)?;
        self.0
            .registry
            .call(&found, "delete", || found.delete(&request))
            .await?;
        Ok(())
    }

    /// Deletes several keys.
    pub async fn bulk_delete(
        &self,
        store: &str,
        mut requests: Vec<DeleteRequest>,
    ) -> Result<(), Error> {
        let found = self.find(store)?;
        for request in &mut requests {
            request.key = found.beside.prefix.apply(store, &request.key)?;
        }
        let registry = &self.0.registry;
        // One item is the single call, here as in `save`: stores are written against that.
        if let [request] = requests.as_slice() {
            registry
                .call(&found, "bulk_delete", || found.delete(request))
                .await?;
        } else {
            registry
                .call(&found, "bulk_delete", || found.bulk_delete(&requests))
                .await?;
        }
        Ok(())
    }

    /// Applies all operations or none.
    pub async fn transact(
        &self,
        store: &str,
        operations: Vec<Operation>,
        metadata: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let found = self.transactional(store)?;
        check_room(&found, store, operations.len()).await?;
        let operations = found.beside.kept(store, operations)?;
        self.0
            .registry
            .call(&found, "transaction", || {
                found.transact(&operations, &metadata)
            })
            .await?;
        Ok(())
    }

    /// Operations as a store keeps them, with full keys and sealed values, for an engine that adds some of its own and hands
    /// what comes of it, `count` operations, to [`Raw::transact`].
    ///
    /// # Errors
    /// What [`Stores::transact`] would answer before it calls the store.
    pub async fn kept(
        &self,
        store: &str,
        operations: Vec<Operation>,
        count: usize,
    ) -> Result<Vec<Operation>, Error> {
        let found = self.transactional(store)?;
        check_room(&found, store, count).await?;
        found.beside.kept(store, operations)
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
        let found = self.find(store)?;
        if !has(&found, Capability::QueryApi) || found.beside.encryption.is_some() {
            return Err(Error::QueriesUnsupported {
                store: store.to_owned(),
            });
        }
        let mut response = self
            .0
            .registry
            .call(&found, "query", || found.query(&request))
            .await?;
        response.items = response
            .items
            .into_iter()
            .map(|row| found.beside.open_row(row))
            .collect();
        Ok(response)
    }

    fn transactional(&self, store: &str) -> Result<Arc<Store>, Error> {
        let found = self.find(store)?;
        if has(&found, Capability::Transactional) {
            return Ok(found);
        }
        Err(Error::TransactionsUnsupported {
            store: store.to_owned(),
        })
    }

    fn find(&self, store: &str) -> Result<Arc<Store>, Error> {
        self.0.registry.find(store).map_err(|missing| {
            let store = store.to_owned();
            match missing {
                Missing::NotConfigured => Error::NotConfigured { store },
                Missing::NotFound => Error::NotFound { store },
            }
        })
    }
}

/// A store takes so many operations at once.
async fn check_room(found: &Store, store: &str, count: usize) -> Result<(), Error> {
    let most = found.max_transaction_operations().await;
    match most.filter(|most| count > *most) {
        Some(most) => Err(Error::TooManyOperations {
            store: store.to_owned(),
            count,
            most,
        }),
        None => Ok(()),
    }
}

fn has(store: &Store, capability: Capability) -> bool {
    store.capabilities().contains(capability)
}

/// A new store is opened, put in place, and only then the old one drained: no call ever finds none.
#[async_trait]
impl Owner for Stores {
    fn registry(&self) -> &dyn AnyRegistry {
        &self.0.registry
    }

    async fn apply(&self, declared: Declared) -> Result<(), LoadError> {
        let invalid =
            |error: Error| declared.failed(component::Error::invalid_metadata("keyPrefix", error));
        let prefix = KeyPrefix::parse(
            declared.metadata.text("keyPrefix"),
            &declared.name,
            &self.0.app_id,
            &self.0.namespace,
        )
        .map_err(invalid)?;
        let encryption = Encryption::from_metadata(&declared.metadata)
            .map_err(|error| declared.failed(error))?;
        let store = self.0.registry.open(&declared).await?;
        let listed = declared.listed(listed_capabilities(store.capabilities()));
        let keeping = Keeping {
            metadata: declared.metadata.clone(),
            prefix,
            encryption,
        };
        let placed = {
            let _turn = self.0.for_actors.as_ref().map(Mutex::lock);
            match self.other_for_actors(&declared) {
                Some(first) => Err(first),
                None => Ok(self.0.registry.swap(listed, Arc::clone(&store), keeping)),
            }
        };
        match placed {
            Ok(Some(old)) => registry::retire(old).await,
            Ok(None) => {}
            Err(first) => {
                store.close().await;
                let second = &declared.name;
                let text = format!(
                    "detected duplicate actor state store: {first} and {second}: {first} is already the actor state store, only one actor state store is allowed"
                );
                let error = component::Error::new(ErrorKind::InvalidMetadata, text);
                return Err(declared.failed(error));
            }
        }
        Ok(())
    }
}

fn is_for_actors(metadata: &Metadata) -> bool {
    metadata.boolean(&[FOR_ACTORS]) == Some(true)
}

/// A store that can hold actors says so: entity tags and transactions are what actors need.
fn listed_capabilities(capabilities: Capabilities) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = capabilities.names().collect();
    if capabilities.contains(Capability::Etag) && capabilities.contains(Capability::Transactional) {
        names.push("ACTOR");
    }
    names
}
