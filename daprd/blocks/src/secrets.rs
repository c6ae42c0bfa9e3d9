//! The secrets building block: named stores, and the scopes that say which app may read what.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use component::{Catalog, SecretStore, secrets::Secret};
use resiliency::{ComponentKind, Policies};
use telemetry::Meter;

use crate::{
    Declared, Listed, LoadError, Owner,
    call::Calls,
    slots::{Slot, Slots, drain},
};

/// Why a secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no secret store at all.
    #[error("secret store is not configured")]
    NotConfigured,
    /// There are stores, but none of this name.
    #[error("failed finding secret store with key {store}")]
    NotFound { store: String },
    /// A scope forbids it.
    #[error("access denied by policy to get {key:?} from {store:?}")]
    Denied { store: String, key: String },
    /// What the component said.
    #[error("{}", component::error::chain(.0))]
    Component(#[source] component::Error),
}

/// What the secrets block is made of.
pub struct Options {
    pub catalog: Arc<Catalog>,
    pub namespace: String,
    /// Which secrets the app may read (contract 10.5).
    pub scopes: crds::configuration::Secrets,
    pub policies: Arc<ArcSwap<Policies>>,
    pub meter: Meter,
}

/// The loaded secret stores. Clones share them.
#[derive(Clone)]
pub struct Stores(Arc<Inner>);

struct Inner {
    options: Options,
    slots: Slots<Arc<dyn SecretStore>>,
    calls: Calls,
}

impl Stores {
    pub fn new(options: Options) -> Self {
        let calls = Calls::new(&options.meter, "secret", &options.namespace);
        Self(Arc::new(Inner {
            options,
            slots: Slots::default(),
            calls,
        }))
    }

    /// Reads one secret on behalf of the app.
    pub async fn secret(
        &self,
        store: &str,
        key: &str,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Secret, Error> {
        let slot = self.find(store)?;
        if !self.allows(store, key) {
            return Err(Error::Denied {
                store: store.to_owned(),
                key: key.to_owned(),
            });
        }
        self.call(store, "get", || slot.store.secret(key, metadata))
            .await
    }

    /// Reads all secrets that the app may see.
    pub async fn all(
        &self,
        store: &str,
        metadata: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, Secret>, Error> {
        let slot = self.find(store)?;
        let mut all = self
            .call(store, "bulk_get", || slot.store.all(metadata))
            .await?;
        all.retain(|key, _| self.allows(store, key));
        Ok(all)
    }

    /// Reads one secret on behalf of a resource: scopes bind the app, not its configuration.
    pub async fn for_resource(&self, store: &str, key: &str) -> Result<Secret, Error> {
        let slot = self.find(store)?;
        let metadata = BTreeMap::new();
        self.call(store, "get", || slot.store.secret(key, &metadata))
            .await
    }

    /// Whether a store of that name is loaded.
    pub fn contains(&self, store: &str) -> bool {
        self.0.slots.find(store).is_some()
    }

    fn allows(&self, store: &str, key: &str) -> bool {
        self.0.options.scopes.allows(store, key)
    }

    fn find(&self, store: &str) -> Result<Arc<Slot<Arc<dyn SecretStore>>>, Error> {
        if let Some(slot) = self.0.slots.find(store) {
            return Ok(slot);
        }
        Err(if self.0.slots.is_empty() {
            Error::NotConfigured
        } else {
            Error::NotFound {
                store: store.to_owned(),
            }
        })
    }

    async fn call<T, F, Fut>(&self, store: &str, operation: &str, attempt: F) -> Result<T, Error>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, component::Error>>,
    {
        let policies = self.0.options.policies.load();
        let policy = policies.component_outbound(store, ComponentKind::Secretstore);
        self.0
            .calls
            .run(&policy, store, operation, attempt)
            .await
            .map_err(Error::Component)
    }
}

#[async_trait]
impl Owner for Stores {
    fn prefix(&self) -> &'static str {
        "secretstores."
    }

    async fn apply(&self, declared: Declared) -> Result<(), LoadError> {
        let component_type = declared.type_below(self.prefix());
        let opening = self.0.options.catalog.secrets.open(
            &component_type,
            &declared.version,
            declared.open(),
        );
        let store = declared.within_limit(opening).await?;
        let capabilities = store.capabilities().names().collect();
        if let Some(old) = self.0.slots.put(declared.listed(capabilities), store) {
            close(old).await;
        }
        Ok(())
    }

    async fn remove(&self, name: &str) {
        if let Some(old) = self.0.slots.take(name) {
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

async fn close(slot: Arc<Slot<Arc<dyn SecretStore>>>) {
    drain(slot, |store| {
        let store = Arc::clone(store);
        async move { store.close().await }
    })
    .await;
}
