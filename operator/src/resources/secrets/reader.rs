//! Reads of Secrets that many sidecars share: they ask for the same few at the same time, and again every minute. A Secret is
//! used only for as long as somebody may be content with it, and is gone with the next read behind that. Q-operator-secrets

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1;
use kube::Api;
use kube::api::{ApiResource, ObjectMeta};
use kubernetes::Cluster;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// How old a Secret may be for a sidecar that starts, or whose resource has changed: those that start together share a read,
/// and no pod starts this soon after somebody has changed a Secret for it.
pub const FRESH: Duration = Duration::from_secs(1);

/// How old it may be for a sidecar that only makes sure, every minute.
pub const RECENT: Duration = Duration::from_secs(30);

/// Secrets that are read at the same time; sidecars that start together would flood the API server.
const MOST_READS: usize = 16;

/// How long one may take; those that wait behind it belong to other sidecars.
const PATIENCE: Duration = Duration::from_secs(5);

/// Secrets that are kept, and how large they are altogether. What is beyond is read each time.
const MOST_HELD: usize = 4096;
/// See [`MOST_HELD`].
const MOST_BYTES: usize = 8 << 20;

/// What is read of a Secret.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Secret {
    metadata: ObjectMeta,
    pub data: Option<BTreeMap<String, ByteString>>,
}

kubernetes::excerpt!(Secret);

impl Secret {
    #[cfg(test)]
    pub fn of(data: BTreeMap<String, ByteString>) -> Self {
        Self {
            data: Some(data),
            ..Self::default()
        }
    }

    fn size(&self) -> usize {
        let values = self.data.iter().flatten();
        values.map(|(key, value)| key.len() + value.0.len()).sum()
    }
}

/// Why a Secret is not read.
#[derive(Clone, Debug)]
pub enum Failure {
    Read(Arc<kube::Error>),
    Silent,
    /// It is not asked for what is no name.
    NoName,
}

type Read = Result<Arc<Secret>, Failure>;

/// Namespace and name.
type Key = (String, String);

/// Reads Secrets by name.
pub struct Reader {
    cluster: Cluster,
    reads: Arc<Semaphore>,
    held: Mutex<HashMap<Key, Held>>,
}

/// A Secret that was read, or is being read.
struct Held {
    began: Instant,
    /// The newest resource that it was read for. A resource that is newer than that may be so because of the Secret.
    version: u64,
    state: State,
}

enum State {
    /// Goes on for as long as somebody waits for it.
    UnderWay(WeakShared<BoxFuture<'static, Read>>),
    Done(Read),
}

impl Held {
    /// Whether it will do.
    fn serves(&self, version: u64, age: Duration) -> bool {
        // Who is told of a failure asks again; the server is spared the crowd.
        let age = match self.state {
            State::Done(Err(_)) => age.min(FRESH),
            _ => age,
        };
        self.version >= version && self.began.elapsed() < age
    }

    fn size(&self) -> usize {
        match &self.state {
            State::Done(Ok(secret)) => secret.size(),
            _ => 0,
        }
    }
}

impl Reader {
    pub fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            reads: Arc::new(Semaphore::new(MOST_READS)),
            held: Mutex::default(),
        }
    }

    /// A Secret, no older than `age`, and read for a resource of this version or a newer one.
    pub async fn read(&self, namespace: &str, name: &str, version: u64, age: Duration) -> Read {
        if !(kubernetes::is_name(namespace) && kubernetes::is_name(name)) {
            return Err(Failure::NoName);
        }
        let key = (namespace.to_owned(), name.to_owned());
        let (read, began) = {
            let mut held = self.held.lock();
            let found = held.get(&key).filter(|held| held.serves(version, age));
            let under_way = match found.map(|held| (&held.state, held.began)) {
                Some((State::Done(read), _)) => return read.clone(),
                Some((State::UnderWay(read), began)) => read.upgrade().map(|read| (read, began)),
                None => None,
            };
            under_way.unwrap_or_else(|| {
                let read = self.get(namespace, name);
                let began = Instant::now();
                if let Some(weak) = read.downgrade() {
                    let state = State::UnderWay(weak);
                    keep(
                        &mut held,
                        key.clone(),
                        Held {
                            began,
                            version,
                            state,
                        },
                    );
                }
                (read, began)
            })
        };
        let result = read.await;
        let mut held = self.held.lock();
        // A read that began later may have been done first.
        if let Some(held) = held.get_mut(&key).filter(|held| held.began == began)
            && let State::UnderWay(_) = held.state
        {
            held.state = State::Done(result.clone());
        }
        shrink(&mut held);
        result
    }

    fn get(&self, namespace: &str, name: &str) -> Shared<BoxFuture<'static, Read>> {
        let resource = ApiResource::erase::<v1::Secret>(&());
        let secrets: Api<Secret> =
            Api::namespaced_with(self.cluster.client(), namespace, &resource);
        let (name, reads) = (name.to_owned(), Arc::clone(&self.reads));
        let read = async move {
            // Never closed.
            let _permit = reads.acquire().await;
            match tokio::time::timeout(PATIENCE, secrets.get(&name)).await {
                Ok(Ok(secret)) => Ok(Arc::new(secret)),
                Ok(Err(error)) => Err(Failure::Read(Arc::new(error))),
                Err(_) => Err(Failure::Silent),
            }
        };
        read.boxed().shared()
    }
}

fn keep(held: &mut HashMap<Key, Held>, key: Key, new: Held) {
    held.retain(|_, held| held.began.elapsed() < RECENT);
    if held.len() < MOST_HELD || held.contains_key(&key) {
        held.insert(key, new);
    }
}

/// Gives up what is too much, in no order: whoever needs it reads it again.
fn shrink(held: &mut HashMap<Key, Held>) {
    let mut left = MOST_BYTES;
    held.retain(|_, held| {
        let fits = held.size() <= left;
        left = left.saturating_sub(held.size());
        fits
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use kubernetes_fake::{Fake, Fault, On};
    use serde_json::json;

    const SECRETS: &str = "/api/v1/secrets";

    fn reader(fake: &Fake) -> Reader {
        Reader::new(Cluster::new(fake.client(), ""))
    }

    fn rotate(fake: &Fake, value: &str) {
        let metadata = json!({"name": "s", "namespace": "n"});
        fake.put(SECRETS, json!({"metadata": metadata, "data": {"k": value}}));
    }

    async fn value(reader: &Reader, version: u64, age: Duration) -> Option<String> {
        let secret = reader.read("n", "s", version, age).await.ok()?;
        let value = &secret.data.as_ref()?["k"].0;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_ask_at_once_share_a_read() {
        let fake = Fake::new();
        rotate(&fake, "YQ==");
        fake.fault(On::verb("get"), Fault::Latency(Duration::from_millis(100)));
        let reader = reader(&fake);
        let asked = (0..1000).map(|count| value(&reader, count % 7, FRESH));
        let read = futures::future::join_all(asked).await;
        assert!(read.iter().all(|value| value.as_deref() == Some("a")));
        assert!(fake.seen().len() <= 7, "{} reads", fake.seen().len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_minute_of_lists_reads_a_secret_twice_at_most() {
        let fake = Fake::new();
        rotate(&fake, "YQ==");
        let reader = reader(&fake);
        for _ in 0..1000 {
            value(&reader, 5, RECENT).await.expect("a value");
            tokio::time::advance(Duration::from_millis(60)).await;
        }
        assert!(fake.seen().len() <= 2, "{} reads", fake.seen().len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_resource_and_a_sidecar_that_starts_have_it_read_again() {
        let fake = Fake::new();
        rotate(&fake, "YQ==");
        let reader = reader(&fake);
        let age = Duration::from_secs(2);
        assert_eq!(value(&reader, 5, RECENT).await.as_deref(), Some("a"));
        rotate(&fake, "Yg==");
        tokio::time::advance(age).await;
        assert_eq!(value(&reader, 5, RECENT).await.as_deref(), Some("a"));
        assert_eq!(value(&reader, 6, RECENT).await.as_deref(), Some("b"));
        rotate(&fake, "Yw==");
        tokio::time::advance(age).await;
        assert_eq!(value(&reader, 4, RECENT).await.as_deref(), Some("b"));
        assert_eq!(value(&reader, 4, FRESH).await.as_deref(), Some("c"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_shared_for_a_moment_and_not_kept() {
        let fake = Fake::new();
        let reader = reader(&fake);
        for _ in 0..10 {
            assert_eq!(value(&reader, 1, RECENT).await, None);
        }
        assert_eq!(fake.seen().len(), 1);
        rotate(&fake, "YQ==");
        tokio::time::advance(FRESH).await;
        assert_eq!(value(&reader, 1, RECENT).await.as_deref(), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn reads_that_hang_or_are_given_up_do_not_hold_up_those_of_others() {
        let fake = Fake::new();
        rotate(&fake, "YQ==");
        fake.fault(On::verb("get").times(MOST_READS * 2), Fault::Hang);
        let reader = reader(&fake);
        let names: Vec<_> = (0..MOST_READS).map(|count| format!("x{count}")).collect();
        let hang =
            || futures::future::join_all(names.iter().map(|name| reader.read("n", name, 1, FRESH)));
        let given_up = tokio::time::timeout(Duration::from_millis(1), hang()).await;
        assert!(given_up.is_err());
        let last = async { tokio::join!(hang(), value(&reader, 1, FRESH)) };
        let (hung, last) = tokio::time::timeout(PATIENCE * 2, last)
            .await
            .expect("in time");
        assert!(hung.iter().all(|read| matches!(read, Err(Failure::Silent))));
        assert_eq!(last.as_deref(), Some("a"));
    }

    #[tokio::test]
    async fn what_is_kept_is_limited() {
        let fake = Fake::new();
        let reader = reader(&fake);
        let large = "QUFB".repeat(300_000);
        for count in 0..20 {
            let name = format!("s{count}");
            let metadata = json!({"name": name, "namespace": "n"});
            fake.put(SECRETS, json!({"metadata": metadata, "data": {"k": large}}));
            reader.read("n", &name, 1, FRESH).await.expect("a secret");
        }
        let held = reader.held.lock();
        assert!(held.values().map(Held::size).sum::<usize>() <= MOST_BYTES);
        assert!(held.len() >= 5);
    }
}
