//! State stores.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};

use crate::{Error, Result, capabilities, capabilities::Set, error::all_of};

capabilities! {
    /// What a state store can do; the metadata API shows these names (contract 2.6, 14).
    pub enum Capability {
        /// Entity tags are checked on writes.
        Etag = "ETAG",
        /// Several writes are applied as one.
        Transactional = "TRANSACTIONAL",
        /// JSON queries.
        QueryApi = "QUERY_API",
        /// Keys that expire.
        Ttl = "TTL",
        /// All keys below a prefix are deleted by one call.
        DeleteWithPrefix = "DELETE_WITH_PREFIX",
        /// Keys are listed by a pattern.
        KeysLike = "KEYS_LIKE",
    }
}

/// What a state store can do.
pub type Capabilities = Set<Capability>;

/// Which writes win when two meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Concurrency {
    /// What the store does when nothing is asked: the last write wins.
    #[default]
    Unspecified,
    /// The first write wins: a write without the current entity tag fails.
    FirstWrite,
    /// The last write wins.
    LastWrite,
}

/// How fresh a read, how durable a write must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// The store's own default.
    #[default]
    Unspecified,
    /// May lag.
    Eventual,
    /// Must not lag.
    Strong,
}

/// Metadata of a request.
pub type RequestMetadata = BTreeMap<String, String>;

/// Reads one key.
#[derive(Clone, Debug, Default)]
pub struct GetRequest {
    /// The full key, prefix included.
    pub key: String,
    /// Request metadata.
    pub metadata: RequestMetadata,
    /// How fresh.
    pub consistency: Consistency,
}

/// A stored value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// The bytes as saved.
    pub value: Bytes,
    /// The entity tag, where the store has one.
    pub etag: Option<String>,
    /// Metadata for the caller, such as `ttlExpireTime` (RFC 3339).
    pub metadata: BTreeMap<String, String>,
}

/// Writes one key.
#[derive(Clone, Debug, Default)]
pub struct SetRequest {
    /// The full key, prefix included.
    pub key: String,
    /// The bytes to store.
    pub value: Bytes,
    /// Whether `value` is a JSON document, as far as the API knows: some stores keep such values queryable.
    pub content_type: Option<String>,
    /// The entity tag the caller last saw.
    pub etag: Option<String>,
    /// Request metadata; `ttlInSeconds` is understood by stores with [`Capability::Ttl`].
    pub metadata: RequestMetadata,
    /// Which write wins.
    pub concurrency: Concurrency,
    /// How durable.
    pub consistency: Consistency,
}

/// Deletes one key; deleting an absent key succeeds unless an entity tag is given.
#[derive(Clone, Debug, Default)]
pub struct DeleteRequest {
    /// The full key, prefix included.
    pub key: String,
    /// The entity tag the caller last saw.
    pub etag: Option<String>,
    /// Request metadata.
    pub metadata: RequestMetadata,
    /// Which write wins.
    pub concurrency: Concurrency,
    /// How durable.
    pub consistency: Consistency,
}

/// One step of a transaction.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Writes a key.
    Upsert(SetRequest),
    /// Deletes a key.
    Delete(DeleteRequest),
}

impl Operation {
    /// The full key that the step touches.
    pub fn key(&self) -> &str {
        match self {
            Self::Upsert(request) => &request.key,
            Self::Delete(request) => &request.key,
        }
    }
}

/// One key of a bulk read.
#[derive(Debug)]
pub struct BulkItem {
    /// The full key.
    pub key: String,
    /// The value, nothing where the key is absent, or why it could not be read.
    pub result: Result<Option<Item>>,
}

/// A query and its page, as JSON of the query API (contract 2.2, alpha).
#[derive(Clone, Debug, Default)]
pub struct QueryRequest {
    /// The JSON query.
    pub query: serde_json::Value,
    /// Request metadata.
    pub metadata: RequestMetadata,
}

/// The rows of a query.
#[derive(Debug, Default)]
pub struct QueryResponse {
    /// Keys and values in the order asked for.
    pub items: Vec<BulkItem>,
    /// Where the next page begins, if there is one.
    pub token: Option<String>,
    /// Metadata for the caller.
    pub metadata: BTreeMap<String, String>,
}

/// Most reads of one bulk request that are under way at once when the caller does not say.
pub const DEFAULT_PARALLELISM: usize = 10;

/// A store of keys and values. Every future is cancel-safe: a cancelled one discards its connection.
#[async_trait]
pub trait StateStore: Send + Sync + 'static {
    /// What works here; the one statement that callers decide by.
    fn capabilities(&self) -> Capabilities;

    /// Reads a key; nothing where it is absent or expired.
    ///
    /// # Errors
    /// The backend's.
    async fn get(&self, request: GetRequest) -> Result<Option<Item>>;

    /// Writes a key.
    ///
    /// # Errors
    /// [`crate::ErrorKind::EtagMismatch`] or [`crate::ErrorKind::EtagInvalid`] where the write lost.
    async fn set(&self, request: SetRequest) -> Result<()>;

    /// Deletes a key.
    ///
    /// # Errors
    /// As [`StateStore::set`].
    async fn delete(&self, request: DeleteRequest) -> Result<()>;

    /// Reads several keys, `parallelism` at a time (0: [`DEFAULT_PARALLELISM`]), in the order asked for.
    ///
    /// # Errors
    /// Only where nothing could be read at all; a single key's failure stands in its row.
    async fn bulk_get(
        &self,
        requests: Vec<GetRequest>,
        parallelism: usize,
    ) -> Result<Vec<BulkItem>> {
        let parallelism = match parallelism {
            0 => DEFAULT_PARALLELISM,
            given => given,
        };
        let rows = stream::iter(requests)
            .map(|request| async move {
                let key = request.key.clone();
                let result = self.get(request).await;
                BulkItem { key, result }
            })
            .buffered(parallelism)
            .collect()
            .await;
        Ok(rows)
    }

    /// Writes several keys, each on its own: one that fails does not keep the others from being written.
    ///
    /// # Errors
    /// As [`StateStore::set`], all of them (see [`all_of`]).
    async fn bulk_set(&self, requests: Vec<SetRequest>) -> Result<()> {
        let mut outcomes = Vec::with_capacity(requests.len());
        for request in requests {
            outcomes.push(self.set(request).await);
        }
        all_of(outcomes)
    }

    /// Deletes several keys, each on its own: one that fails does not keep the others from being deleted.
    ///
    /// # Errors
    /// As [`StateStore::delete`], all of them (see [`all_of`]).
    async fn bulk_delete(&self, requests: Vec<DeleteRequest>) -> Result<()> {
        let mut outcomes = Vec::with_capacity(requests.len());
        for request in requests {
            outcomes.push(self.delete(request).await);
        }
        all_of(outcomes)
    }

    /// Applies all operations or none, in order.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] without [`Capability::Transactional`]; else as [`StateStore::set`].
    async fn transact(
        &self,
        _operations: Vec<Operation>,
        _metadata: RequestMetadata,
    ) -> Result<()> {
        Err(Error::unsupported("a transaction"))
    }

    /// Most operations of one transaction, where the backend has a limit. Asked before each transaction.
    async fn max_transaction_operations(&self) -> Option<usize> {
        None
    }

    /// Answers a JSON query.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] without [`Capability::QueryApi`].
    async fn query(&self, _request: QueryRequest) -> Result<QueryResponse> {
        Err(Error::unsupported("a query"))
    }

    /// Deletes every key that begins with `prefix`; the number deleted.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] without [`Capability::DeleteWithPrefix`].
    async fn delete_with_prefix(&self, _prefix: &str) -> Result<u64> {
        Err(Error::unsupported("deleting by prefix"))
    }

    /// Lists keys by a SQL LIKE pattern (`%`, `_`, `\` escapes), a page at a time.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] without [`Capability::KeysLike`].
    async fn keys_like(&self, _request: KeysLikeRequest) -> Result<KeysLikeResponse> {
        Err(Error::unsupported("listing keys"))
    }

    /// Whether the backend answers.
    ///
    /// # Errors
    /// The backend's.
    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    /// Releases what the component holds; calls after it fail.
    async fn close(&self) {}
}

/// Asks for a page of keys.
#[derive(Clone, Debug, Default)]
pub struct KeysLikeRequest {
    /// SQL LIKE pattern.
    pub pattern: String,
    /// Most keys of the page; nothing for no limit.
    pub page_size: Option<u32>,
    /// The token of the page before.
    pub continuation: Option<String>,
}

/// A page of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeysLikeResponse {
    /// Full keys.
    pub keys: Vec<String>,
    /// Token of the next page, if there is one.
    pub continuation: Option<String>,
}
