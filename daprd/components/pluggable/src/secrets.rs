//! A secret store in a process of its own.

use std::collections::BTreeMap;

use async_trait::async_trait;
use component::{
    Component, Open, Result, SecretStore,
    secrets::{Capabilities, Secret},
};
use futures::{FutureExt, future::BoxFuture};
use proto::components::v1::{self as pb, secret_store_client::SecretStoreClient};
use tonic::Status;

use crate::{
    failure,
    line::{Line, declared},
    socket::{Caller, MOST_MESSAGE, Socket},
};

/// The store behind one component resource. Several may share a socket.
pub struct Pluggable {
    line: Line,
    capabilities: Capabilities,
}

fn init(caller: Caller, metadata: pb::MetadataRequest) -> BoxFuture<'static, Result<(), Status>> {
    let metadata = Some(metadata);
    async move {
        let request = pb::SecretStoreInitRequest { metadata };
        SecretStoreClient::new(caller).init(request).await.map(drop)
    }
    .boxed()
}

impl Pluggable {
    /// Hands the metadata over and asks what the store can do.
    ///
    /// # Errors
    /// The store's; or the name of the component does not fit into a header.
    pub async fn open(socket: Socket, open: Open) -> Result<Self> {
        let mut store = Self {
            line: Line::open(socket, &open, init).await?,
            capabilities: Capabilities::EMPTY,
        };
        let mut client = store.client().await?;
        let answer = client.features(pb::FeaturesRequest {}).await;
        let features = answer.map_err(failure::plain)?.into_inner().features;
        store.capabilities = declared(&features);
        Ok(store)
    }

    async fn client(&self) -> Result<SecretStoreClient<Caller>> {
        let client = SecretStoreClient::new(self.line.caller().await?);
        Ok(client.max_decoding_message_size(MOST_MESSAGE))
    }
}

#[async_trait]
impl Component for Pluggable {
    async fn ping(&self) -> Result<()> {
        let answer = self.client().await?.ping(pb::PingRequest {}).await;
        answer.map(drop).map_err(failure::plain)
    }

    async fn close(&self) {
        self.line.close().await;
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
        let answer = self.client().await?.get(request).await;
        Ok(answer.map_err(failure::plain)?.into_inner().data)
    }

    async fn all(&self, metadata: &BTreeMap<String, String>) -> Result<BTreeMap<String, Secret>> {
        let request = pb::BulkGetSecretRequest {
            metadata: metadata.clone(),
        };
        let answer = self.client().await?.bulk_get(request).await;
        let rows = answer.map_err(failure::plain)?.into_inner().data;
        Ok(rows
            .into_iter()
            .map(|(name, row)| (name, row.secrets))
            .collect())
    }
}
