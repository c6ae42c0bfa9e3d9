//! The secrets building block: named stores, and the scopes that say which app may read what.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use component::{SecretStore, secrets::Secret};
use resiliency::ComponentKind;

use crate::{
    Declared, Kind, LoadError, Loaded, Missing, Owner, Registry,
    registry::{self, AnyRegistry, Called},
};

static SECRETS: Kind<dyn SecretStore> = Kind {
    prefix: "secretstores.",
    calls: Some(Called {
        metrics: Some("secret"),
        policies: ComponentKind::Secretstore,
    }),
    family: |catalog| &catalog.secrets,
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
    Component(#[from] component::Error),
}

/// The loaded secret stores. Clones share them.
#[derive(Clone)]
pub struct Stores(Arc<Inner>);

struct Inner {
    registry: Registry<dyn SecretStore>,
    scopes: crds::configuration::Secrets,
}

impl Stores {
    /// `scopes` say which secrets the app may read (contract 10.5).
    pub fn new(options: registry::Options, scopes: crds::configuration::Secrets) -> Self {
        Self(Arc::new(Inner {
            registry: Registry::new(&SECRETS, options),
            scopes,
        }))
    }

    /// Reads one secret on behalf of the app.
    pub async fn secret(
        &self,
        store: &str,
        key: &str,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Secret, Error> {
        let loaded = self.find(store)?;
        if !self.allows(store, key) {
            return Err(Error::Denied {
                store: store.to_owned(),
                key: key.to_owned(),
            });
        }
        let read = || loaded.secret(key, metadata);
        Ok(self.0.registry.call(&loaded, "get", read).await?)
    }

    /// Reads all secrets that the app may see.
    pub async fn all(
        &self,
        store: &str,
        metadata: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, Secret>, Error> {
        let loaded = self.find(store)?;
        let read = || loaded.all(metadata);
        let mut all = self.0.registry.call(&loaded, "bulk_get", read).await?;
        all.retain(|key, _| self.allows(store, key));
        Ok(all)
    }

    /// Reads one secret on behalf of a resource: scopes bind the app, not its configuration.
    pub async fn for_resource(&self, store: &str, key: &str) -> Result<Secret, Error> {
        let loaded = self.find(store)?;
        let metadata = BTreeMap::new();
        let read = || loaded.secret(key, &metadata);
        Ok(self.0.registry.call(&loaded, "get", read).await?)
    }

    /// Whether a store of that name is loaded.
    pub fn contains(&self, store: &str) -> bool {
        self.0.registry.find(store).is_ok()
    }

    fn allows(&self, store: &str, key: &str) -> bool {
        self.0.scopes.allows(store, key)
    }

    fn find(&self, store: &str) -> Result<Arc<Loaded<dyn SecretStore>>, Error> {
        self.0
            .registry
            .find(store)
            .map_err(|missing| match missing {
                Missing::NotConfigured => Error::NotConfigured,
                Missing::NotFound => Error::NotFound {
                    store: store.to_owned(),
                },
            })
    }
}

#[async_trait]
impl Owner for Stores {
    fn registry(&self) -> &dyn AnyRegistry {
        &self.0.registry
    }

    async fn apply(&self, declared: Declared) -> Result<(), LoadError> {
        let store = self.0.registry.open(&declared).await?;
        let capabilities = store.capabilities().names().collect();
        let listed = declared.listed(capabilities);
        self.0.registry.replace(listed, store, ()).await;
        Ok(())
    }
}
