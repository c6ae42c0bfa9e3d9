//! A state store as parts of the sidecar use it that keep their own layout in it: actors, workflow, the outbox. Keys are
//! stored as they are given, without a prefix and without encryption; policies and metrics are those of every call.

use std::sync::{Arc, Weak};

use component::{
    Metadata,
    state::{
        BulkItem, Capabilities, GetRequest, Item, KeysLikeRequest, KeysLikeResponse, Operation,
        RequestMetadata,
    },
};
use tokio::sync::watch;

use super::{Error, Store, Stores};

/// The store behind a name, whichever it is at the time of a call.
#[derive(Clone)]
pub struct Raw {
    stores: Stores,
    name: String,
    changes: watch::Receiver<u64>,
    /// The store that was there when that was last asked. It may be gone by now.
    seen: Option<Weak<Store>>,
}

impl Stores {
    /// The store behind a name, which need not be there yet.
    pub fn raw(&self, name: &str) -> Raw {
        let mut raw = Raw {
            stores: self.clone(),
            name: name.to_owned(),
            changes: self.0.registry.changes(),
            seen: None,
        };
        raw.seen = raw.current();
        raw
    }

    /// What a store's metadata says to an engine.
    ///
    /// # Errors
    /// Where there is no store of that name.
    pub fn said<T>(&self, store: &str, read: impl FnOnce(&Metadata) -> T) -> Result<T, Error> {
        let found = self.find(store)?;
        Ok(read(&found.beside.metadata))
    }

    /// Moves on with every store that is put in place or taken out.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.registry.changes()
    }

    /// The names of the stores whose metadata is as wanted, in order: the one for actors, those with an outbox.
    pub fn names(&self, wanted: impl Fn(&Metadata) -> bool) -> Vec<String> {
        let names = self.0.registry.names().into_iter();
        names
            .filter(|name| {
                let found = self.find(name);
                found.is_ok_and(|found| wanted(&found.beside.metadata))
            })
            .collect()
    }
}

impl Raw {
    /// The name it was asked for by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether both stood for the same store when they were made, and not for another of the same name.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.seen, &other.seen) {
            (Some(one), Some(other)) => Weak::ptr_eq(one, other),
            _ => false,
        }
    }

    /// Waits until another store is behind the name than when this was made, or when this was last waited for.
    pub async fn changed(&mut self) {
        loop {
            let current = self.current();
            let same = match (&current, &self.seen) {
                (Some(current), Some(seen)) => Weak::ptr_eq(current, seen),
                (None, None) => true,
                _ => false,
            };
            if !same {
                self.seen = current;
                return;
            }
            if self.changes.changed().await.is_err() {
                // The stores are held by this handle, so they do not go before it.
                std::future::pending::<()>().await;
            }
        }
    }

    fn current(&self) -> Option<Weak<Store>> {
        let found = self.stores.find(&self.name).ok()?;
        Some(Arc::downgrade(&found))
    }

    /// What the component is configured with.
    ///
    /// # Errors
    /// Where there is none behind the name.
    pub fn metadata(&self) -> Result<Metadata, Error> {
        self.with(|store| store.beside.metadata.clone())
    }

    /// What it can do.
    ///
    /// # Errors
    /// As [`Raw::metadata`].
    pub fn capabilities(&self) -> Result<Capabilities, Error> {
        self.with(|store| store.capabilities())
    }

    /// Most operations of one transaction, where it has a limit.
    ///
    /// # Errors
    /// As [`Raw::metadata`].
    pub async fn max_transaction_operations(&self) -> Result<Option<usize>, Error> {
        let found = self.stores.find(&self.name)?;
        Ok(found.max_transaction_operations().await)
    }

    /// Reads a key.
    ///
    /// # Errors
    /// The component's, or as [`Raw::metadata`]; so are those of all calls.
    pub async fn get(&self, request: &GetRequest) -> Result<Option<Item>, Error> {
        let found = self.stores.find(&self.name)?;
        let call = || found.get(request);
        Ok(self.stores.0.registry.call(&found, "get", call).await?)
    }

    /// Reads several keys, in the order asked for.
    pub async fn bulk_get(
        &self,
        requests: &[GetRequest],
        parallelism: usize,
    ) -> Result<Vec<BulkItem>, Error> {
        let found = self.stores.find(&self.name)?;
        let call = || found.bulk_get(requests, parallelism);
        Ok(self
            .stores
            .0
            .registry
            .call(&found, "bulk_get", call)
            .await?)
    }

    /// Applies all operations or none. Whoever calls keeps to [`Raw::max_transaction_operations`].
    pub async fn transact(
        &self,
        operations: &[Operation],
        metadata: &RequestMetadata,
    ) -> Result<(), Error> {
        let found = self.stores.transactional(&self.name)?;
        let call = || found.transact(operations, metadata);
        Ok(self
            .stores
            .0
            .registry
            .call(&found, "transaction", call)
            .await?)
    }

    /// Deletes every key that begins with `prefix`; the number deleted.
    pub async fn delete_with_prefix(&self, prefix: &str) -> Result<u64, Error> {
        let found = self.stores.find(&self.name)?;
        let call = || found.delete_with_prefix(prefix);
        let deleted = self
            .stores
            .0
            .registry
            .call(&found, "delete_with_prefix", call);
        Ok(deleted.await?)
    }

    /// Lists a page of keys.
    pub async fn keys_like(&self, request: &KeysLikeRequest) -> Result<KeysLikeResponse, Error> {
        let found = self.stores.find(&self.name)?;
        let call = || found.keys_like(request);
        Ok(self
            .stores
            .0
            .registry
            .call(&found, "keys_like", call)
            .await?)
    }

    fn with<T>(&self, ask: impl FnOnce(&Store) -> T) -> Result<T, Error> {
        Ok(ask(&*self.stores.find(&self.name)?))
    }
}
