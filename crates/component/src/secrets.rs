//! Secret stores.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::{Component, Result, capabilities, capabilities::Set};

capabilities! {
    /// What a secret store can do beyond reading a single value (contract 2.6).
    pub enum Capability {
        /// A secret is a map of several keys.
        MultipleKeyValuesPerSecret = "MULTIPLE_KEY_VALUES_PER_SECRET",
    }
}

/// What a secret store can do.
pub type Capabilities = Set<Capability>;

/// The keys and values of one secret.
pub type Secret = BTreeMap<String, String>;

/// A store of secrets.
#[async_trait]
pub trait SecretStore: Component {
    /// What works here.
    fn capabilities(&self) -> Capabilities;

    /// Reads one secret; `metadata` is the request's.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] where there is no such secret.
    async fn secret(&self, name: &str, metadata: &BTreeMap<String, String>) -> Result<Secret>;

    /// Reads all secrets that the store can list.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] where the store cannot list.
    async fn all(&self, metadata: &BTreeMap<String, String>) -> Result<BTreeMap<String, Secret>>;
}
