//! State stores.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture, stream};

use crate::{
    Component, Error, Result, capabilities, capabilities::Set, error::all_of, query::Query,
};

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

/// A query and its page (contract 2.2, alpha).
#[derive(Clone, Debug, Default)]
pub struct QueryRequest {
    /// The query.
    pub query: Query,
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

/// Most writes of one bulk request that are under way at once.
pub const WRITES_AT_ONCE: usize = 10;

/// A store of keys and values. Requests are lent, so that a call which is not repeated copies nothing. Every future is
/// cancel-safe: a cancelled one discards its connection.
#[async_trait]
pub trait StateStore: Component {
    /// What works here; the one statement that callers decide by.
    fn capabilities(&self) -> Capabilities;

    /// Reads a key; nothing where it is absent or expired.
    ///
    /// # Errors
    /// The backend's.
    async fn get(&self, request: &GetRequest) -> Result<Option<Item>>;

    /// Writes a key.
    ///
    /// # Errors
    /// [`crate::ErrorKind::EtagMismatch`] or [`crate::ErrorKind::EtagInvalid`] where the write lost.
    async fn set(&self, request: &SetRequest) -> Result<()>;

    /// Deletes a key.
    ///
    /// # Errors
    /// As [`StateStore::set`].
    async fn delete(&self, request: &DeleteRequest) -> Result<()>;

    /// Reads several keys, `parallelism` at a time (0: [`DEFAULT_PARALLELISM`]), in the order asked for.
    ///
    /// # Errors
    /// Only where nothing could be read at all; a single key's failure stands in its row.
    async fn bulk_get(&self, requests: &[GetRequest], parallelism: usize) -> Result<Vec<BulkItem>> {
        let parallelism = match parallelism {
            0 => DEFAULT_PARALLELISM,
            given => given,
        };
        let mut reads = Vec::with_capacity(requests.len());
        for request in requests {
            reads.push(async move {
                let result = self.get(request).await;
                let key = request.key.clone();
                BulkItem { key, result }
            });
        }
        let rows = stream::iter(reads).buffered(parallelism).collect().await;
        Ok(rows)
    }

    /// Writes several keys, each on its own: one that fails does not keep the others from being written. Those of one key
    /// are written in order; of others, [`WRITES_AT_ONCE`] are under way at a time.
    ///
    /// # Errors
    /// As [`StateStore::set`], all of them (see [`all_of`]).
    async fn bulk_set(&self, requests: &[SetRequest]) -> Result<()> {
        each(
            requests,
            |request| &request.key,
            |request| self.set(request),
        )
        .await
    }

    /// Deletes several keys, each on its own, as [`StateStore::bulk_set`] writes them.
    ///
    /// # Errors
    /// As [`StateStore::delete`], all of them (see [`all_of`]).
    async fn bulk_delete(&self, requests: &[DeleteRequest]) -> Result<()> {
        each(
            requests,
            |request| &request.key,
            |request| self.delete(request),
        )
        .await
    }

    /// Applies all operations or none, in order.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] without [`Capability::Transactional`]; else as [`StateStore::set`].
    async fn transact(&self, _operations: &[Operation], _metadata: &RequestMetadata) -> Result<()> {
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
    async fn query(&self, _request: &QueryRequest) -> Result<QueryResponse> {
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
    async fn keys_like(&self, _request: &KeysLikeRequest) -> Result<KeysLikeResponse> {
        Err(Error::unsupported("listing keys"))
    }
}

/// Writes side by side what has different keys, and in order what has the same.
async fn each<'r, R: Sync>(
    requests: &'r [R],
    key: fn(&R) -> &String,
    write: impl Fn(&'r R) -> BoxFuture<'r, Result<()>> + Send + Sync,
) -> Result<()> {
    let mut by_key: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, request) in requests.iter().enumerate() {
        by_key.entry(key(request)).or_default().push(index);
    }
    let write = &write;
    let mut runs = Vec::with_capacity(by_key.len());
    for run in by_key.into_values() {
        runs.push(async move {
            let mut outcomes = Vec::with_capacity(run.len());
            for index in run {
                outcomes.push((index, write(&requests[index]).await));
            }
            outcomes
        });
    }
    let outcomes = stream::iter(runs).buffer_unordered(WRITES_AT_ONCE);
    let mut outcomes: Vec<_> = outcomes.concat().await;
    outcomes.sort_unstable_by_key(|(index, _)| *index);
    all_of(outcomes.into_iter().map(|(_, outcome)| outcome))
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
