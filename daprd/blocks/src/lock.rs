//! The distributed lock building block: leases on resources in named stores, behind a prefix that keeps apps apart.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use component::{
    Lock,
    lock::{LockRequest, UnlockRequest, Unlocked},
};
use resiliency::ComponentKind;

use crate::{
    Declared, Kind, LoadError, Loaded, Missing, Owner, Registry,
    registry::{self, AnyRegistry, Called},
};

static LOCK: Kind<dyn Lock> = Kind {
    prefix: "lock.",
    calls: Some(Called {
        // Upstream counts no calls of lock stores.
        metrics: None,
        policies: ComponentKind::Lock,
    }),
    family: |catalog| &catalog.lock,
};

/// Separates the parts of a stored key; illegal in each of them.
const SEPARATOR: &str = "||";

/// The first part of every stored key.
const FIRST: &str = "lock";

/// Why a lock could not be taken or given back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no lock store at all.
    #[error("lock store is not configured")]
    NotConfigured,
    /// There are stores, but none of this name.
    #[error("lock store {store} not found")]
    NotFound { store: String },
    /// A resource that cannot be told from a prefixed one.
    #[error("input key/keyPrefix '{key}' can't contain '||'")]
    IllegalKey { key: String },
    /// What the component said.
    #[error("{}", component::error::chain(.0))]
    Component(#[from] component::Error),
}

/// The loaded lock stores. Clones share them.
#[derive(Clone)]
pub struct Stores(Arc<Inner>);

struct Inner {
    registry: Registry<dyn Lock, Prefix>,
    app_id: String,
}

/// What stands before the resources of a store.
struct Prefix(String);

impl Prefix {
    /// From the metadata field `keyPrefix`: `appid` (the default), `name`, `none`, or any other text.
    fn parse(strategy: Option<&str>, store: &str, app_id: &str) -> Result<Self, Error> {
        let strategy = strategy.unwrap_or("appid").to_lowercase();
        check(&strategy)?;
        let part = match strategy.as_str() {
            "none" => "",
            "name" => store,
            "appid" => app_id,
            other => other,
        };
        Ok(Self(match part {
            "" => format!("{FIRST}{SEPARATOR}"),
            part => format!("{FIRST}{SEPARATOR}{part}{SEPARATOR}"),
        }))
    }

    fn apply(&self, resource: &str) -> Result<String, Error> {
        check(resource)?;
        Ok(format!("{}{resource}", self.0))
    }
}

fn check(key: &str) -> Result<(), Error> {
    match key.contains(SEPARATOR) {
        true => Err(Error::IllegalKey {
            key: key.to_owned(),
        }),
        false => Ok(()),
    }
}

impl Stores {
    pub fn new(options: registry::Options, app_id: String) -> Self {
        Self(Arc::new(Inner {
            registry: Registry::new(&LOCK, options),
            app_id,
        }))
    }

    /// Whether there is any store.
    pub fn is_empty(&self) -> bool {
        self.0.registry.is_empty()
    }

    /// Takes a resource for `owner` if it is free; whether it did.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn try_lock(
        &self,
        store: &str,
        resource: &str,
        owner: &str,
        expiry: Duration,
    ) -> Result<bool, Error> {
        let loaded = self.find(store)?;
        let request = LockRequest {
            resource: loaded.beside.apply(resource)?,
            owner: owner.to_owned(),
            expiry,
        };
        let take = || loaded.try_lock(&request);
        Ok(self.0.registry.call(&loaded, "try_lock", take).await?)
    }

    /// Gives a resource back if `owner` holds it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn unlock(
        &self,
        store: &str,
        resource: &str,
        owner: &str,
    ) -> Result<Unlocked, Error> {
        let loaded = self.find(store)?;
        let request = UnlockRequest {
            resource: loaded.beside.apply(resource)?,
            owner: owner.to_owned(),
        };
        let release = || loaded.unlock(&request);
        Ok(self.0.registry.call(&loaded, "unlock", release).await?)
    }

    fn find(&self, store: &str) -> Result<Arc<Loaded<dyn Lock, Prefix>>, Error> {
        let found = self.0.registry.find(store);
        found.map_err(|missing| match missing {
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
        let strategy = declared.metadata.text("keyPrefix");
        let prefix = Prefix::parse(strategy, &declared.name, &self.0.app_id);
        let prefix = prefix.map_err(|error| {
            declared.failed(component::Error::invalid_metadata("keyPrefix", error))
        })?;
        let store = self.0.registry.open(&declared).await?;
        let listed = declared.listed(Vec::new());
        self.0.registry.replace(listed, store, prefix).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_stand_behind_the_prefix_of_their_store() {
        let key = |strategy, app_id| {
            let prefix = Prefix::parse(strategy, "redis", app_id).unwrap();
            prefix.apply("r").unwrap()
        };
        assert_eq!(key(None, "app"), "lock||app||r");
        assert_eq!(key(Some("AppID"), ""), "lock||r");
        assert_eq!(key(Some("name"), "app"), "lock||redis||r");
        assert_eq!(key(Some("none"), "app"), "lock||r");
        assert_eq!(key(Some("Mine"), "app"), "lock||mine||r");
    }

    #[test]
    fn the_separator_is_nobodys_key() {
        assert!(Prefix::parse(Some("a||b"), "redis", "app").is_err());
        let error = Prefix::parse(None, "redis", "app").unwrap().apply("a||b");
        let text = error.unwrap_err().to_string();
        assert_eq!(text, "input key/keyPrefix 'a||b' can't contain '||'");
    }
}
