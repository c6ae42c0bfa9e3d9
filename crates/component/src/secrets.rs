//! Secret stores.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::{Component, Result};

/// What a secret store can do beyond reading a single value (contract 2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// A secret is a map of several keys.
    MultipleKeyValuesPerSecret,
}

impl Capability {
    /// The name shown by the metadata API.
    pub fn name(self) -> &'static str {
        match self {
            Self::MultipleKeyValuesPerSecret => "MULTIPLE_KEY_VALUES_PER_SECRET",
        }
    }
}

/// The keys and values of one secret.
pub type Secret = BTreeMap<String, String>;

/// A store of secrets.
#[async_trait]
pub trait SecretStore: Component {
    /// What works here.
    fn capabilities(&self) -> &'static [Capability];

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
