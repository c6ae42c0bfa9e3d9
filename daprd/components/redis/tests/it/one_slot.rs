//! A store of a cluster with all keys on one server: what the suite of every family asks of transactions holds there, and
//! only there. Q-redis-cluster-transactions

use std::sync::Arc;

use async_trait::async_trait;
use component::{
    Component, Result, StateStore,
    state::{
        Capabilities, DeleteRequest, GetRequest, Item, KeysLikeRequest, KeysLikeResponse,
        Operation, RequestMetadata, SetRequest,
    },
};

/// What is between braces decides on the server.
const TAG: &str = "{one}";

/// Puts the tag before every key.
pub struct OneSlot(pub Arc<dyn StateStore>);

fn tag(key: &mut String) {
    key.insert_str(0, TAG);
}

fn untag(key: String) -> String {
    key.strip_prefix(TAG).expect("the tag").to_owned()
}

#[async_trait]
impl Component for OneSlot {
    async fn ping(&self) -> Result<()> {
        self.0.ping().await
    }
}

#[async_trait]
impl StateStore for OneSlot {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn get(&self, request: &GetRequest) -> Result<Option<Item>> {
        let mut request = request.clone();
        tag(&mut request.key);
        self.0.get(&request).await
    }

    async fn set(&self, request: &SetRequest) -> Result<()> {
        let mut request = request.clone();
        tag(&mut request.key);
        self.0.set(&request).await
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<()> {
        let mut request = request.clone();
        tag(&mut request.key);
        self.0.delete(&request).await
    }

    async fn transact(&self, operations: &[Operation], metadata: &RequestMetadata) -> Result<()> {
        let mut operations = operations.to_vec();
        for operation in &mut operations {
            match operation {
                Operation::Upsert(request) => tag(&mut request.key),
                Operation::Delete(request) => tag(&mut request.key),
            }
        }
        self.0.transact(&operations, metadata).await
    }

    async fn keys_like(&self, request: &KeysLikeRequest) -> Result<KeysLikeResponse> {
        let mut request = request.clone();
        tag(&mut request.pattern);
        request.continuation.iter_mut().for_each(tag);
        let page = self.0.keys_like(&request).await?;
        Ok(KeysLikeResponse {
            keys: page.keys.into_iter().map(untag).collect(),
            continuation: page.continuation.map(untag),
        })
    }
}
