//! `lock.redis`: a key per resource whose value is the owner, as upstream keeps it. It lapses by itself, and only its owner
//! deletes it.

use async_trait::async_trait;
use component::{
    Component, Error, ErrorKind, Lock, Open, Result,
    fields::{Fields, MILLISECOND},
    lock::{LockRequest, UnlockRequest, Unlocked},
};
use redis::Script;
use values::GoDuration;

use crate::{
    client::{Client, Request, failure},
    metadata::{Declared, MIN_RETRY_INTERVAL, Settings, Topology},
    replication,
};

/// Deletes the key where its value is the owner's. Answers 1 then, 0 where there is no key, and -1 where it is another's.
const RELEASE: &str = "local owner = redis.call('GET', KEYS[1])
if owner == false then return 0 end
if owner ~= ARGV[1] then return -1 end
redis.call('DEL', KEYS[1])
return 1";

component::metadata! {
    /// The fields that only the lock store has.
    struct Own {
        /// Shortest pause before a request is sent again.
        min_retry_interval: GoDuration => "redisMinRetryInterval", default(MIN_RETRY_INTERVAL), unit(MILLISECOND);
    }
    // These are of the broker and the state store; the list of the reference names them here, too.
    ignored {
        "maxRetryBackoff": Duration,
        "redeliverInterval": Duration,
        "processingTimeout": Duration,
    }
}

/// All fields of the lock store.
pub fn fields() -> Fields {
    Declared::fields().and(Own::fields())
}

/// Locks on a Redis server.
pub struct Redis {
    client: Client,
    release: Script,
}

impl Redis {
    /// Connects.
    ///
    /// # Errors
    /// Wrong metadata, a server that cannot be reached, or servers that could forget a lock: those of a cluster, and a single
    /// one with replicas that nobody watches.
    pub async fn open(open: Open) -> Result<Self> {
        let own = Own::read(&open.metadata)?;
        let settings = Settings::read(&open.metadata, own.min_retry_interval)?;
        let topology = settings.topology;
        if topology == Topology::Cluster {
            let problem = "this component does not support connecting to Redis Cluster";
            return Err(Error::new(ErrorKind::InvalidMetadata, problem));
        }
        let client = Client::open(settings, &open.name, &open.tasks).await?;
        if topology == Topology::Node && replication::replicas(&client).await > 0 {
            client.close();
            let problem = "replication is not supported";
            return Err(Error::new(ErrorKind::InvalidMetadata, problem));
        }
        Ok(Self {
            client,
            release: Script::new(RELEASE),
        })
    }
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

#[async_trait]
impl Lock for Redis {
    async fn try_lock(&self, request: &LockRequest) -> Result<bool> {
        let mut set = redis::cmd("SET");
        set.arg(&request.resource).arg(&request.owner).arg("NX");
        let expiry = u64::try_from(request.expiry.as_millis()).unwrap_or(u64::MAX);
        set.arg("PX").arg(expiry);
        // Nothing is answered where the key is there.
        let answer: Option<String> = self
            .client
            .query(&set)
            .await
            .map_err(|error| failure("failed to take a lock", error))?;
        Ok(answer.is_some())
    }

    async fn unlock(&self, request: &UnlockRequest) -> Result<Unlocked> {
        let mut release = self.release.key(&request.resource);
        release.arg(&request.owner);
        let answer: i64 = self
            .client
            .query(Request::Script(&release))
            .await
            .map_err(|error| failure("failed to release a lock", error))?;
        Ok(match answer {
            0 => Unlocked::DoesNotExist,
            1 => Unlocked::Success,
            _ => Unlocked::BelongsToOthers,
        })
    }
}
