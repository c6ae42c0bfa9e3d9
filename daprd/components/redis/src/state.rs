//! `state.redis`: a hash per key with the fields `data` and `version`, as upstream keeps it. Every write is one script, so
//! that a transaction is checked as a whole before any of it is applied, and a lifetime is set together with the value.

mod glob;
pub mod metadata;
mod script;
mod several;

use std::pin::{Pin, pin};

use async_trait::async_trait;
use component::{
    Component, Error, ErrorKind, Open, Result, StateStore,
    error::all_of,
    state::{
        BulkItem, Capabilities, Capability, Consistency, DeleteRequest, GetRequest, Item,
        KeysLikeRequest, KeysLikeResponse, Operation, RequestMetadata, SetRequest,
    },
};
use jiff::{SignedDuration, Timestamp};
use redis::{Pipeline, RedisError, Script, cluster_routing::Slot};

use crate::{
    client::{Client, Request, failure},
    listing,
    metadata::{Settings, Topology},
    replication::Replicated,
};
use script::Step;

/// Response metadata: when the key expires, RFC 3339.
const EXPIRY: &str = "ttlExpireTime";

/// What is said of a read that failed.
const UNREAD: &str = "failed to read a key";

/// What is said of a write that failed.
const FAILED: &str = "failed to write keys";

/// What it can do.
pub const CAPABILITIES: [Capability; 4] = [
    Capability::Etag,
    Capability::Transactional,
    Capability::Ttl,
    Capability::KeysLike,
];

/// A store on a Redis server.
pub struct Redis {
    client: Client,
    script: Script,
    /// Lifetime of keys whose request has none.
    lifetime: Option<i64>,
    /// How strong writes are made. In a cluster waiting for replicas is not offered.
    strong: Option<Box<Strong>>,
}

/// The same store over a connection of its own.
struct Strong {
    store: Redis,
    replicated: Replicated,
}

/// What a key may hold: nothing, upstream's hash, or the plain text of a sidecar from before the hashes.
type Row = (Option<Vec<u8>>, Option<String>);

impl Redis {
    /// Connects.
    ///
    /// # Errors
    /// Wrong metadata, or a server that cannot be reached.
    pub async fn open(open: Open) -> Result<Self> {
        let own = metadata::Own::read(&open.metadata)?;
        let settings = Settings::read(&open.metadata, own.min_retry_interval())?;
        let client = Client::open(settings, &open.name, &open.tasks).await?;
        let over = |client, strong| Self {
            client,
            script: Script::new(script::APPLY),
            lifetime: own.lifetime,
            strong,
        };
        let strong = (client.settings().topology != Topology::Cluster).then(|| {
            let beside = client.beside();
            Box::new(Strong {
                replicated: Replicated::new(beside.clone()),
                store: over(beside, None),
            })
        });
        Ok(over(client, strong))
    }

    /// Where a write is made, and what waits for replicas after it.
    fn through(&self, strong: bool) -> (&Self, Option<&Replicated>) {
        match &self.strong {
            Some(over) if strong => (&over.store, Some(&over.replicated)),
            _ => (self, None),
        }
    }

    /// All or none, as far as a script reaches.
    async fn apply(&self, steps: &[Step<'_>]) -> Result<()> {
        for group in self.by_slot(steps.iter().map(Step::key)) {
            let mut invocation = self.script.prepare_invoke();
            for index in &group {
                steps[*index].write(&mut invocation);
            }
            let refused: usize = self
                .client
                .query(Request::Script(&invocation))
                .await
                .map_err(|error| failure(FAILED, error))?;
            if let Some(index) = refused.checked_sub(1).and_then(|index| group.get(index)) {
                return Err(lost(steps[*index].key()));
            }
        }
        Ok(())
    }

    /// The places of keys that one script or one pipeline reaches.
    ///
    /// Compat: Q-redis-cluster-transactions: a script reaches only keys of one slot, so a cluster applies a transaction
    /// slot by slot, as upstream does.
    fn by_slot<'k>(&self, keys: impl Iterator<Item = &'k str>) -> Vec<Vec<usize>> {
        if self.client.settings().topology != Topology::Cluster {
            return vec![keys.enumerate().map(|(index, _)| index).collect()];
        }
        let mut groups: Vec<(Slot, Vec<usize>)> = Vec::new();
        for (index, key) in keys.enumerate() {
            let slot = Slot::for_key(key);
            match groups.iter_mut().find(|(other, _)| *other == slot) {
                Some((_, group)) => group.push(index),
                None => groups.push((slot, vec![index])),
            }
        }
        groups.into_iter().map(|(_, group)| group).collect()
    }

    /// What sidecars wrote before they used hashes.
    async fn plain(&self, key: &str) -> Result<Option<Item>> {
        let value: Option<Vec<u8>> = self
            .client
            .query(redis::cmd("GET").arg(key))
            .await
            .map_err(|error| failure(UNREAD, error))?;
        Ok(value.map(|value| Item {
            value: value.into(),
            ..Item::default()
        }))
    }
}

fn is_strong(set: &SetRequest) -> bool {
    set.consistency == Consistency::Strong
}

fn lost(key: &str) -> Error {
    Error::new(
        ErrorKind::EtagMismatch,
        format!("possible etag mismatch. error from state store: failed to set key {key}"),
    )
}

/// Asks for a key and how long it lives.
fn ask(pipeline: &mut Pipeline, key: &str) {
    pipeline.cmd("HMGET").arg(key).arg("data").arg("version");
    pipeline.cmd("PTTL").arg(key);
}

fn item((value, etag): Row, left: i64) -> Option<Item> {
    let expires = expiry(left).map(|expires| (EXPIRY.to_owned(), expires));
    value.map(|value| Item {
        value: value.into(),
        etag,
        metadata: expires.into_iter().collect(),
    })
}

/// The error of a pipeline holds those of its commands.
fn is_wrong_type(error: &RedisError) -> bool {
    let errors = error.clone().into_server_errors();
    errors.is_some_and(|errors| errors.iter().any(|(_, error)| error.code() == "WRONGTYPE"))
}

fn expiry(milliseconds: i64) -> Option<String> {
    let left = u64::try_from(milliseconds).ok()?;
    let at = Timestamp::now()
        .checked_add(SignedDuration::from_millis(i64::try_from(left).ok()?))
        .ok()?;
    Some(at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

#[async_trait]
impl Component for Redis {
    async fn ping(&self) -> Result<()> {
        self.client.ping().await
    }

    async fn close(&self) {
        self.client.close();
    }
}

/// A write, and where replicas are waited for what comes after it.
async fn replicated<T>(
    replicas: Option<&Replicated>,
    write: Pin<&mut impl Future<Output = T>>,
) -> Result<T> {
    match replicas {
        Some(replicas) => replicas.write(write).await,
        None => Ok(write.await),
    }
}

#[async_trait]
impl StateStore for Redis {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES.into()
    }

    async fn get(&self, request: &GetRequest) -> Result<Option<Item>> {
        let mut read = redis::pipe();
        ask(&mut read, &request.key);
        let answer: redis::RedisResult<(Row, i64)> =
            self.client.query(Request::Pipeline(&read)).await;
        match answer {
            Ok((row, left)) => Ok(item(row, left)),
            Err(error) if is_wrong_type(&error) => self.plain(&request.key).await,
            Err(error) => Err(failure(UNREAD, error)),
        }
    }

    async fn set(&self, request: &SetRequest) -> Result<()> {
        let step = Step::set(request, self.lifetime)?;
        let (store, replicas) = self.through(is_strong(request));
        let steps = [step];
        replicated(replicas, pin!(store.apply(&steps))).await?
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<()> {
        self.apply(&[Step::delete(request)?]).await
    }

    async fn bulk_get(&self, requests: &[GetRequest], _: usize) -> Result<Vec<BulkItem>> {
        Ok(self.read_several(requests).await)
    }

    async fn bulk_set(&self, requests: &[SetRequest]) -> Result<()> {
        let steps = requests.iter().map(|set| Step::set(set, self.lifetime));
        let steps = steps.collect();
        let strong = requests.iter().any(is_strong);
        let (store, replicas) = self.through(strong);
        let outcomes = replicated(replicas, pin!(store.write_several(steps))).await?;
        all_of(outcomes)
    }

    async fn bulk_delete(&self, requests: &[DeleteRequest]) -> Result<()> {
        let steps = requests.iter().map(Step::delete).collect();
        all_of(self.write_several(steps).await)
    }

    async fn transact(&self, operations: &[Operation], _: &RequestMetadata) -> Result<()> {
        if operations.is_empty() {
            return Ok(());
        }
        let steps = operations
            .iter()
            .map(|operation| Step::new(operation, self.lifetime))
            .collect::<Result<Vec<_>>>()?;
        let strong =
            |operation: &Operation| matches!(operation, Operation::Upsert(set) if is_strong(set));
        let strong = operations.iter().any(strong);
        let (store, replicas) = self.through(strong);
        replicated(replicas, pin!(store.apply(&steps))).await?
    }

    async fn keys_like(&self, request: &KeysLikeRequest) -> Result<KeysLikeResponse> {
        if request.pattern.is_empty() {
            return Err(Error::invalid_request("the pattern of keys is empty"));
        }
        let mut keys = listing::keys(&self.client, &glob::from_like(&request.pattern)).await?;
        keys.sort_unstable();
        // A scan may name a key twice.
        keys.dedup();
        // The token is the last key of the page before, so it needs no memory here.
        let after = request.continuation.as_deref().unwrap_or_default();
        let begin = keys.partition_point(|key| key.as_str() <= after);
        let mut keys = keys.split_off(begin);
        let size = request.page_size.filter(|size| *size > 0);
        let mut continuation = None;
        if let Some(size) = size.map(|size| size as usize)
            && keys.len() > size
        {
            keys.truncate(size);
            continuation = keys.last().cloned();
        }
        Ok(KeysLikeResponse { keys, continuation })
    }
}
