//! A secret store in a process of its own.

use std::collections::BTreeMap;

use async_trait::async_trait;
use component::{
    Component, Open, Result, SecretStore,
    secrets::{Capabilities, Secret},
};
use proto::components::v1::{self as pb, secret_store_client::SecretStoreClient};

use crate::{
    failure,
    handle::{Handle, declared},
    socket::{Caller, Socket},
};

/// The store behind one component resource. Several may share a socket.
pub struct Pluggable {
    handle: Handle<SecretStoreClient<Caller>>,
    capabilities: Capabilities,
}

impl Pluggable {
    /// Hands the metadata over and asks what the store can do.
    ///
    /// # Errors
    /// The store's; or the name of the component does not fit into a header.
    pub async fn open(socket: Socket, open: Open) -> Result<Self> {
        let handle = Handle::open(socket, &open).await?;
        let features = handle.features().await?;
        Ok(Self {
            capabilities: declared(&features),
            handle,
        })
    }
}

#[async_trait]
impl Component for Pluggable {
    async fn ping(&self) -> Result<()> {
        self.handle.ping().await
    }

    async fn close(&self) {
        self.handle.close().await;
    }
}

#[async_trait]
impl SecretStore for Pluggable {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    async fn secret(&self, name: &str, metadata: &BTreeMap<String, String>) -> Result<Secret> {
        let request = pb::GetSecretRequest {
            key: name.to_owned(),
            metadata: metadata.clone(),
        };
        let answer = self.handle.client().await?.get(request).await;
        Ok(answer.map_err(failure::plain)?.into_inner().data)
    }

    async fn all(&self, metadata: &BTreeMap<String, String>) -> Result<BTreeMap<String, Secret>> {
        let request = pb::BulkGetSecretRequest {
            metadata: metadata.clone(),
        };
        let answer = self.handle.client().await?.bulk_get(request).await;
        let rows = answer.map_err(failure::plain)?.into_inner().data;
        Ok(rows
            .into_iter()
            .map(|(name, row)| (name, row.secrets))
            .collect())
    }
}
