//! A state store that another process serves.

mod capabilities;
mod wire;

use std::time::Duration;

use async_trait::async_trait;
use component::{
    Component, Open, Result, StateStore,
    state::{
        BulkItem, Capabilities, Capability, DeleteRequest, GetRequest, Item, Operation,
        QueryRequest, QueryResponse, RequestMetadata, SetRequest,
    },
};
use proto::components::v1::{
    self as pb, queriable_state_store_client::QueriableStateStoreClient,
    state_store_client::StateStoreClient,
    transactional_state_store_client::TransactionalStateStoreClient,
    transactional_store_multi_max_size_client::TransactionalStoreMultiMaxSizeClient,
};
use tokio::sync::OnceCell;

use crate::{
    failure,
    handle::Handle,
    socket::{Caller, MOST_MESSAGE, Socket},
};

/// Longest that a store may take to say how large its transactions may be; one that says nothing has no limit.
const SIZE_LIMIT: Duration = Duration::from_secs(5);

/// The store behind one component resource. Several may share a socket.
pub struct Pluggable {
    handle: Handle<StateStoreClient<Caller>>,
    capabilities: Capabilities,
    most_operations: OnceCell<Option<usize>>,
}

impl Pluggable {
    /// Hands the metadata over and asks what the store can do.
    ///
    /// # Errors
    /// The store's; or the name of the component does not fit into a header.
    pub async fn open(socket: Socket, open: Open) -> Result<Self> {
        let handle = Handle::open(socket, &open).await?;
        let features = handle.features().await?;
        handle.ping().await?;
        Ok(Self {
            capabilities: capabilities::of(&features),
            most_operations: OnceCell::new(),
            handle,
        })
    }

    /// Asked once, because it does not change, and with the first transaction, because not every store knows the question.
    async fn ask_most_operations(&self) -> Option<usize> {
        let asking = async {
            let caller = self.handle.caller().await.ok()?;
            let mut client = TransactionalStoreMultiMaxSizeClient::new(caller);
            client.multi_max_size(pb::MultiMaxSizeRequest {}).await.ok()
        };
        let answer = tokio::time::timeout(SIZE_LIMIT, asking).await.ok()??;
        let most = usize::try_from(answer.into_inner().max_size).ok()?;
        (most > 0).then_some(most)
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
impl StateStore for Pluggable {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    async fn get(&self, request: &GetRequest) -> Result<Option<Item>> {
        let answer = self
            .handle
            .client()
            .await?
            .get(wire::get(request))
            .await
            .map_err(failure::plain)?
            .into_inner();
        Ok(wire::item(answer.data, answer.etag, answer.metadata))
    }

    async fn set(&self, request: &SetRequest) -> Result<()> {
        let mut client = self.handle.client().await?;
        let answer = client.set(wire::set(request)).await;
        answer.map(drop).map_err(failure::write)
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<()> {
        let mut client = self.handle.client().await?;
        let answer = client.delete(wire::delete(request)).await;
        answer.map(drop).map_err(failure::write)
    }

    async fn bulk_get(&self, requests: &[GetRequest], parallelism: usize) -> Result<Vec<BulkItem>> {
        let keys: Vec<String> = requests.iter().map(|one| one.key.clone()).collect();
        let options = pb::BulkGetRequestOptions {
            parallelism: i64::try_from(parallelism).unwrap_or(i64::MAX),
        };
        let request = pb::BulkGetRequest {
            items: requests.iter().map(wire::get).collect(),
            options: Some(options),
        };
        let answer = self.handle.client().await?.bulk_get(request).await;
        let rows = answer.map_err(failure::plain)?.into_inner().items;
        Ok(wire::rows(keys, rows))
    }

    async fn bulk_set(&self, requests: &[SetRequest]) -> Result<()> {
        let request = pb::BulkSetRequest {
            items: requests.iter().map(wire::set).collect(),
            options: Some(pb::BulkSetRequestOptions::default()),
        };
        let answer = self.handle.client().await?.bulk_set(request).await;
        answer.map(drop).map_err(failure::write)
    }

    async fn bulk_delete(&self, requests: &[DeleteRequest]) -> Result<()> {
        let request = pb::BulkDeleteRequest {
            items: requests.iter().map(wire::delete).collect(),
            options: Some(pb::BulkDeleteRequestOptions::default()),
        };
        let answer = self.handle.client().await?.bulk_delete(request).await;
        answer.map(drop).map_err(failure::bulk_delete)
    }

    async fn transact(&self, operations: &[Operation], metadata: &RequestMetadata) -> Result<()> {
        let request = pb::TransactionalStateRequest {
            operations: operations.iter().map(wire::operation).collect(),
            metadata: metadata.clone(),
        };
        let mut client = TransactionalStateStoreClient::new(self.handle.caller().await?);
        let answer = client.transact(request).await;
        answer.map(drop).map_err(failure::transaction)
    }

    async fn max_transaction_operations(&self) -> Option<usize> {
        if !self.capabilities.contains(Capability::Transactional) {
            return None;
        }
        let asking = self
            .most_operations
            .get_or_init(|| self.ask_most_operations());
        *asking.await
    }

    async fn query(&self, request: &QueryRequest) -> Result<QueryResponse> {
        let request = wire::query(request);
        let mut client = QueriableStateStoreClient::new(self.handle.caller().await?)
            .max_decoding_message_size(MOST_MESSAGE);
        let answer = client.query(request).await;
        Ok(wire::answer(answer.map_err(failure::plain)?.into_inner()))
    }
}
