//! `state.redis`: a hash per key with the fields `data` and `version`, as upstream keeps it. Every write is one script, so
//! that a transaction is checked as a whole before any of it is applied, and a lifetime is set together with the value.

mod glob;
mod listing;
pub mod metadata;
mod script;

use std::collections::BTreeMap;

use async_trait::async_trait;
use component::{
    Error, ErrorKind, Open, Result, StateStore,
    state::{
        Capabilities, Capability, Consistency, DeleteRequest, GetRequest, Item, KeysLikeRequest,
        KeysLikeResponse, Operation, RequestMetadata, SetRequest,
    },
};
use jiff::{SignedDuration, Timestamp};
use redis::{RedisError, Script, Value};

use crate::{
    client::{Client, Request, failure},
    metadata::{Settings, Topology},
};
use script::Step;

/// Response metadata: when the key expires, RFC 3339.
const EXPIRY: &str = "ttlExpireTime";

/// Longest wait for replicas, in milliseconds.
const REPLICA_WAIT: u32 = 1000;

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
    replicas: u32,
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
        let info: redis::RedisResult<String> =
            client.query(redis::cmd("INFO").arg("replication")).await;
        Ok(Self {
            // In a cluster the answer is a map of servers, and waiting for replicas is not offered.
            replicas: info.ok().as_deref().map_or(0, replicas),
            script: Script::new(script::APPLY),
            client,
            lifetime: own.lifetime,
        })
    }

    async fn apply(&self, operations: &[Operation]) -> Result<()> {
        let steps = operations
            .iter()
            .map(|operation| Step::new(operation, self.lifetime))
            .collect::<Result<Vec<_>>>()?;
        for steps in self.groups(&steps) {
            let mut invocation = self.script.prepare_invoke();
            for step in &steps {
                step.write(&mut invocation);
            }
            let refused: usize = self
                .client
                .query(Request::Script(&invocation))
                .await
                .map_err(|error| failure("failed to write keys", error))?;
            if let Some(step) = refused.checked_sub(1).and_then(|index| steps.get(index)) {
                return Err(Error::new(
                    ErrorKind::EtagMismatch,
                    format!(
                        "possible etag mismatch. error from state store: failed to set key {}",
                        step.key()
                    ),
                ));
            }
        }
        self.wait_for_replicas(operations).await
    }

    /// Compat: Q-redis-cluster-transactions: a script reaches only keys of one slot, so a cluster applies a transaction
    /// slot by slot, as upstream does.
    fn groups<'a>(&self, steps: &'a [Step<'a>]) -> Vec<Vec<&'a Step<'a>>> {
        if self.client.settings().topology != Topology::Cluster {
            return vec![steps.iter().collect()];
        }
        let mut groups: Vec<(redis::cluster_routing::Slot, Vec<&Step<'_>>)> = Vec::new();
        for step in steps {
            let slot = redis::cluster_routing::Slot::for_key(step.key());
            match groups.iter_mut().find(|(other, _)| *other == slot) {
                Some((_, group)) => group.push(step),
                None => groups.push((slot, vec![step])),
            }
        }
        groups.into_iter().map(|(_, group)| group).collect()
    }

    async fn wait_for_replicas(&self, operations: &[Operation]) -> Result<()> {
        let is_strong = |operation: &Operation| matches!(operation, Operation::Upsert(set) if set.consistency == Consistency::Strong);
        if self.replicas == 0 || !operations.iter().any(is_strong) {
            return Ok(());
        }
        let mut wait = redis::cmd("WAIT");
        wait.arg(self.replicas).arg(REPLICA_WAIT);
        self.client
            .query::<Value>(&wait)
            .await
            .map(drop)
            .map_err(|error| failure("failed to wait for the replicas", error))
    }

    /// What sidecars wrote before they used hashes.
    async fn plain(&self, key: &str) -> Result<Option<Item>> {
        let value: Option<Vec<u8>> = self
            .client
            .query(redis::cmd("GET").arg(key))
            .await
            .map_err(|error| failure("failed to read a key", error))?;
        Ok(value.map(|value| Item {
            value: value.into(),
            ..Item::default()
        }))
    }
}

fn replicas(info: &str) -> u32 {
    info.lines()
        .find_map(|line| line.trim().strip_prefix("connected_slaves:"))
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or_default()
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
impl StateStore for Redis {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES.into()
    }

    async fn get(&self, request: GetRequest) -> Result<Option<Item>> {
        let mut read = redis::pipe();
        read.cmd("HMGET")
            .arg(&request.key)
            .arg("data")
            .arg("version");
        read.cmd("PTTL").arg(&request.key);
        let answer: redis::RedisResult<(Row, i64)> =
            self.client.query(Request::Pipeline(&read)).await;
        let ((value, etag), left) = match answer {
            Ok(answer) => answer,
            Err(error) if is_wrong_type(&error) => return self.plain(&request.key).await,
            Err(error) => return Err(failure("failed to read a key", error)),
        };
        Ok(value.map(|value| Item {
            value: value.into(),
            etag,
            metadata: expiry(left)
                .map(|expires| (EXPIRY.to_owned(), expires))
                .into_iter()
                .collect::<BTreeMap<_, _>>(),
        }))
    }

    async fn set(&self, request: SetRequest) -> Result<()> {
        self.apply(&[Operation::Upsert(request)]).await
    }

    async fn delete(&self, request: DeleteRequest) -> Result<()> {
        self.apply(&[Operation::Delete(request)]).await
    }

    async fn transact(&self, operations: Vec<Operation>, _: RequestMetadata) -> Result<()> {
        match operations.is_empty() {
            true => Ok(()),
            false => self.apply(&operations).await,
        }
    }

    async fn keys_like(&self, request: KeysLikeRequest) -> Result<KeysLikeResponse> {
        if request.pattern.is_empty() {
            return Err(Error::invalid_request("the pattern of keys is empty"));
        }
        let mut keys = listing::keys(&self.client, &glob::from_like(&request.pattern)).await?;
        keys.sort_unstable();
        // A scan may name a key twice.
        keys.dedup();
        // The token is the last key of the page before, so it needs no memory here.
        let after = request.continuation.unwrap_or_default();
        let begin = keys.partition_point(|key| *key <= after);
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

    async fn ping(&self) -> Result<()> {
        self.client.ping().await
    }

    async fn close(&self) {
        self.client.close();
    }
}
