//! A state store as parts of the sidecar use it that keep their own layout in it: actors, workflow, the outbox. Keys are
//! stored as they are given, without a prefix and without encryption; policies and metrics are those of every call.

use component::{
    Metadata,
    state::{
        BulkItem, Capabilities, GetRequest, Item, KeysLikeRequest, KeysLikeResponse, Operation,
        RequestMetadata,
    },
};
use tokio::sync::watch;

use super::{Error, Store, Stores};

/// How often the store behind each name has changed.
pub(super) type Changes = std::collections::BTreeMap<String, u64>;

/// The store behind a name, whichever it is at the time of a call.
#[derive(Clone)]
pub struct Raw {
    stores: Stores,
    name: String,
    changes: watch::Receiver<Changes>,
    seen: Option<u64>,
}

impl Stores {
    /// The store behind a name, which need not be there yet.
    pub fn raw(&self, name: &str) -> Raw {
        let changes = self.0.changes.subscribe();
        let seen = changes.borrow().get(name).copied();
        Raw {
            stores: self.clone(),
            name: name.to_owned(),
            changes,
            seen,
        }
    }

    /// The names of the stores whose metadata is as wanted, in order: the one for actors, those with an outbox.
    pub fn names(&self, wanted: impl Fn(&Metadata) -> bool) -> Vec<String> {
        let listed = self.0.slots.listed().into_iter();
        listed
            .map(|listed| listed.name)
            .filter(|name| {
                let slot = self.0.slots.find(name);
                slot.is_some_and(|slot| wanted(&slot.store.metadata))
            })
            .collect()
    }

    /// Tells whoever waits that another store, or none, is behind a name.
    pub(super) fn changed(&self, name: &str) {
        let changes = &self.0.changes;
        changes.send_modify(|changes| *changes.entry(name.to_owned()).or_default() += 1);
    }
}

impl Raw {
    /// The name it was asked for by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits until another store is behind the name than when this was made, or when this was last waited for.
    pub async fn changed(&mut self) {
        let (name, seen) = (&self.name, self.seen);
        let changed = self.changes.wait_for(|all| all.get(name).copied() != seen);
        self.seen = match changed.await {
            Ok(all) => all.get(name).copied(),
            // The stores are held by this handle, so they do not go before it.
            Err(_) => std::future::pending().await,
        };
    }

    /// What the component is configured with.
    ///
    /// # Errors
    /// Where there is none behind the name.
    pub fn metadata(&self) -> Result<Metadata, Error> {
        self.with(|store| store.metadata.clone())
    }

    /// What it can do.
    ///
    /// # Errors
    /// As [`Raw::metadata`].
    pub fn capabilities(&self) -> Result<Capabilities, Error> {
        self.with(|store| store.component.capabilities())
    }

    /// Most operations of one transaction, where it has a limit.
    ///
    /// # Errors
    /// As [`Raw::metadata`].
    pub async fn max_transaction_operations(&self) -> Result<Option<usize>, Error> {
        let slot = self.stores.find(&self.name)?;
        Ok(slot.store.component.max_transaction_operations().await)
    }

    /// Reads a key.
    ///
    /// # Errors
    /// The component's, or as [`Raw::metadata`]; so are those of all calls.
    pub async fn get(&self, request: &GetRequest) -> Result<Option<Item>, Error> {
        let slot = self.stores.find(&self.name)?;
        let call = || slot.store.component.get(request);
        Ok(self.stores.call(&self.name, "get", call).await?)
    }

    /// Reads several keys, in the order asked for.
    pub async fn bulk_get(
        &self,
        requests: &[GetRequest],
        parallelism: usize,
    ) -> Result<Vec<BulkItem>, Error> {
        let slot = self.stores.find(&self.name)?;
        let call = || slot.store.component.bulk_get(requests, parallelism);
        Ok(self.stores.call(&self.name, "bulk_get", call).await?)
    }

    /// Applies all operations or none. Whoever calls keeps to [`Raw::max_transaction_operations`].
    pub async fn transact(
        &self,
        operations: &[Operation],
        metadata: &RequestMetadata,
    ) -> Result<(), Error> {
        let slot = self.stores.transactional(&self.name)?;
        let call = || slot.store.component.transact(operations, metadata);
        Ok(self.stores.call(&self.name, "transaction", call).await?)
    }

    /// Deletes every key that begins with `prefix`; the number deleted.
    pub async fn delete_with_prefix(&self, prefix: &str) -> Result<u64, Error> {
        let slot = self.stores.find(&self.name)?;
        let call = || slot.store.component.delete_with_prefix(prefix);
        let deleted = self.stores.call(&self.name, "delete_with_prefix", call);
        Ok(deleted.await?)
    }

    /// Lists a page of keys.
    pub async fn keys_like(&self, request: &KeysLikeRequest) -> Result<KeysLikeResponse, Error> {
        let slot = self.stores.find(&self.name)?;
        let call = || slot.store.component.keys_like(request);
        Ok(self.stores.call(&self.name, "keys_like", call).await?)
    }

    fn with<T>(&self, ask: impl FnOnce(&Store) -> T) -> Result<T, Error> {
        Ok(ask(&self.stores.find(&self.name)?.store))
    }
}
