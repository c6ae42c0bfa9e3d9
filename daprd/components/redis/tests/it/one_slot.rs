//! A store of a cluster with all keys on one server: what the suite of every family asks of transactions holds there, and
//! only there. Q-redis-cluster-transactions

use std::sync::Arc;

use async_trait::async_trait;
use component::{
    Result, StateStore,
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
impl StateStore for OneSlot {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn get(&self, mut request: GetRequest) -> Result<Option<Item>> {
        tag(&mut request.key);
        self.0.get(request).await
    }

    async fn set(&self, mut request: SetRequest) -> Result<()> {
        tag(&mut request.key);
        self.0.set(request).await
    }

    async fn delete(&self, mut request: DeleteRequest) -> Result<()> {
        tag(&mut request.key);
        self.0.delete(request).await
    }

    async fn transact(
        &self,
        mut operations: Vec<Operation>,
        metadata: RequestMetadata,
    ) -> Result<()> {
        for operation in &mut operations {
            match operation {
                Operation::Upsert(request) => tag(&mut request.key),
                Operation::Delete(request) => tag(&mut request.key),
            }
        }
        self.0.transact(operations, metadata).await
    }

    async fn keys_like(&self, mut request: KeysLikeRequest) -> Result<KeysLikeResponse> {
        tag(&mut request.pattern);
        request.continuation.iter_mut().for_each(tag);
        let page = self.0.keys_like(request).await?;
        Ok(KeysLikeResponse {
            keys: page.keys.into_iter().map(untag).collect(),
            continuation: page.continuation.map(untag),
        })
    }

    async fn ping(&self) -> Result<()> {
        self.0.ping().await
    }
}
