//! State in memory: entity tags, transactions, expiry, deletion by prefix, listing by pattern.

mod like;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use component::{
    Component, Error, ErrorKind, Open, Result, Scope, StateStore,
    state::{
        Capabilities, Capability, Concurrency, DeleteRequest, GetRequest, Item, KeysLikeRequest,
        KeysLikeResponse, Operation, RequestMetadata, SetRequest,
    },
};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use uuid::Uuid;

/// How often expired entries are thrown out; reads never see them meanwhile.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// Request metadata: seconds until the entry expires; -1 for never.
const TTL: &str = "ttlInSeconds";

/// Response metadata: when the entry expires, RFC 3339.
const EXPIRY: &str = "ttlExpireTime";

/// What it can do.
pub const CAPABILITIES: [Capability; 5] = [
    Capability::Etag,
    Capability::Transactional,
    Capability::Ttl,
    Capability::DeleteWithPrefix,
    Capability::KeysLike,
];

/// A store in this process.
pub struct InMemory {
    entries: Arc<Mutex<BTreeMap<String, Entry>>>,
    scope: Scope,
}

#[derive(Clone)]
struct Entry {
    value: Bytes,
    etag: String,
    expires: Option<Timestamp>,
}

impl Entry {
    fn is_live(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| expires > now)
    }
}

/// What a write does once it has been checked.
enum Change {
    Put(String, Entry),
    Remove(String),
}

impl InMemory {
    /// Opens a store and starts throwing out what has expired.
    pub fn open(open: Open) -> Self {
        let store = Self {
            entries: Arc::default(),
            scope: open.scope,
        };
        store.scope.spawn(sweep(Arc::clone(&store.entries)));
        store
    }

    /// Checks all changes against the entries, then applies them: all or none.
    fn apply(
        &self,
        check: impl FnOnce(&BTreeMap<String, Entry>, Timestamp) -> Result<Vec<Change>>,
    ) -> Result<()> {
        let now = Timestamp::now();
        let mut entries = self.entries.lock();
        for change in check(&entries, now)? {
            match change {
                Change::Put(key, entry) => entries.insert(key, entry),
                Change::Remove(key) => entries.remove(&key),
            };
        }
        Ok(())
    }
}

async fn sweep(entries: Arc<Mutex<BTreeMap<String, Entry>>>) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        let now = Timestamp::now();
        entries.lock().retain(|_, entry| entry.is_live(now));
    }
}

fn put(entries: &BTreeMap<String, Entry>, request: &SetRequest, now: Timestamp) -> Result<Change> {
    let SetRequest { key, etag, .. } = request;
    let live = entries.get(key).filter(|entry| entry.is_live(now));
    check(key, live, etag.as_deref(), request.concurrency)?;
    let entry = Entry {
        value: request.value.clone(),
        etag: Uuid::new_v4().to_string(),
        expires: expiry(request, now)?,
    };
    Ok(Change::Put(key.clone(), entry))
}

fn remove(
    entries: &BTreeMap<String, Entry>,
    request: &DeleteRequest,
    now: Timestamp,
) -> Result<Change> {
    let DeleteRequest { key, etag, .. } = request;
    let live = entries.get(key).filter(|entry| entry.is_live(now));
    check(key, live, etag.as_deref(), request.concurrency)?;
    Ok(Change::Remove(key.clone()))
}

/// A given tag must be the current one; first-write without a tag is for keys that are not there.
fn check(
    key: &str,
    entry: Option<&Entry>,
    etag: Option<&str>,
    concurrency: Concurrency,
) -> Result<()> {
    let problem = match (entry, etag) {
        (Some(entry), Some(etag)) if entry.etag != etag => format!(
            "state etag not match for key={key}: current={}, expect={etag}",
            entry.etag
        ),
        (None, Some(_)) => format!("state not exist or expired for key={key}"),
        (Some(_), None) if concurrency == Concurrency::FirstWrite => {
            "item already exists and no etag was passed".to_owned()
        }
        _ => return Ok(()),
    };
    Err(Error::new(
        ErrorKind::EtagMismatch,
        format!("possible etag mismatch. error from state store: {problem}"),
    ))
}

/// When the key expires. Q-state-ttl-negative
fn expiry(request: &SetRequest, now: Timestamp) -> Result<Option<Timestamp>> {
    let Some(text) = request.metadata.get(TTL).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let invalid = || {
        Error::invalid_request(format!(
            "metadata {TTL} of key {:?} must be a number of seconds, or -1, not {text:?}",
            request.key
        ))
    };
    let seconds: i64 = text.parse().map_err(|_| invalid())?;
    match seconds {
        -1 | 0 => Ok(None),
        1.. => now
            .checked_add(SignedDuration::from_secs(seconds))
            .map(Some)
            .map_err(|_| invalid()),
        _ => Err(invalid()),
    }
}

#[async_trait]
impl Component for InMemory {
    async fn close(&self) {
        self.scope.end();
    }
}

#[async_trait]
impl StateStore for InMemory {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES.into()
    }

    async fn get(&self, request: &GetRequest) -> Result<Option<Item>> {
        let now = Timestamp::now();
        let entries = self.entries.lock();
        let entry = entries.get(&request.key).filter(|entry| entry.is_live(now));
        Ok(entry.map(|entry| Item {
            value: entry.value.clone(),
            etag: Some(entry.etag.clone()),
            metadata: entry
                .expires
                .map(|expires| {
                    (
                        EXPIRY.to_owned(),
                        expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                    )
                })
                .into_iter()
                .collect(),
        }))
    }

    async fn set(&self, request: &SetRequest) -> Result<()> {
        self.apply(|entries, now| Ok(vec![put(entries, request, now)?]))
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<()> {
        self.apply(|entries, now| Ok(vec![remove(entries, request, now)?]))
    }

    async fn transact(&self, operations: &[Operation], _: &RequestMetadata) -> Result<()> {
        self.apply(|entries, now| {
            let changes = operations.iter().map(|operation| match operation {
                Operation::Upsert(request) => put(entries, request, now),
                Operation::Delete(request) => remove(entries, request, now),
            });
            changes.collect()
        })
    }

    async fn delete_with_prefix(&self, prefix: &str) -> Result<u64> {
        let mut entries = self.entries.lock();
        let before = entries.len();
        entries.retain(|key, _| !key.starts_with(prefix));
        Ok((before - entries.len()) as u64)
    }

    async fn keys_like(&self, request: &KeysLikeRequest) -> Result<KeysLikeResponse> {
        let now = Timestamp::now();
        let entries = self.entries.lock();
        // The token is the last key of the page before: keys are in order, so it needs no memory here.
        let after = request.continuation.as_deref().unwrap_or_default();
        let mut keys = entries
            .iter()
            .filter(|(key, entry)| key.as_str() > after && entry.is_live(now))
            .map(|(key, _)| key)
            .filter(|key| like::matches(&request.pattern, key));
        let most = request
            .page_size
            .filter(|size| *size > 0)
            .map_or(usize::MAX, |size| size as usize);
        let page: Vec<String> = keys.by_ref().take(most).cloned().collect();
        let continuation = keys.next().and(page.last().cloned());
        Ok(KeysLikeResponse {
            keys: page,
            continuation,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &str, ttl: &str, etag: Option<&str>, concurrency: Concurrency) -> SetRequest {
        SetRequest {
            key: key.into(),
            value: Bytes::from_static(b"v"),
            etag: etag.map(str::to_owned),
            metadata: BTreeMap::from([(TTL.to_owned(), ttl.to_owned())]),
            concurrency,
            ..SetRequest::default()
        }
    }

    async fn etag(store: &InMemory, key: &str) -> Option<String> {
        let request = GetRequest {
            key: key.into(),
            ..GetRequest::default()
        };
        store.get(&request).await.unwrap()?.etag
    }

    #[tokio::test]
    async fn the_first_write_wins_when_asked() {
        let store = InMemory::open(component_conformance::open("store", &[]));
        let first = Concurrency::FirstWrite;
        store.set(&set("k", "", None, first)).await.unwrap();
        let error = store.set(&set("k", "", None, first)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::EtagMismatch);
        let tag = etag(&store, "k").await.unwrap();
        store.set(&set("k", "", Some(&tag), first)).await.unwrap();
        let error = store
            .set(&set("k", "", Some(&tag), first))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::EtagMismatch);
        let error = store
            .set(&set("k", "", Some("x"), first))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::EtagMismatch);
    }

    #[tokio::test]
    async fn a_transaction_applies_all_or_nothing() {
        let store = InMemory::open(component_conformance::open("store", &[]));
        let last = Concurrency::LastWrite;
        let bad = Uuid::new_v4().to_string();
        let operations = vec![
            Operation::Upsert(set("a", "", None, last)),
            Operation::Upsert(set("b", "", Some(&bad), last)),
        ];
        assert!(store.transact(&operations, &BTreeMap::new()).await.is_err());
        assert_eq!(etag(&store, "a").await, None);
    }

    #[tokio::test]
    async fn a_wrong_lifetime_names_key_and_value() {
        let store = InMemory::open(component_conformance::open("store", &[]));
        let request = set("k", "soon", None, Concurrency::LastWrite);
        let error = store.set(&request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
        assert!(error.to_string().contains("\"soon\""), "{error}");
        store
            .set(&set("k", "-1", None, Concurrency::LastWrite))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn keys_are_listed_in_pages() {
        let store = InMemory::open(component_conformance::open("store", &[]));
        for key in ["app||a1", "app||a2", "app||a3", "app||b1"] {
            store
                .set(&set(key, "", None, Concurrency::LastWrite))
                .await
                .unwrap();
        }
        let mut request = KeysLikeRequest {
            pattern: "app||a%".into(),
            page_size: Some(2),
            continuation: None,
        };
        let page = store.keys_like(&request).await.unwrap();
        assert_eq!(page.keys, ["app||a1", "app||a2"]);
        request.continuation = page.continuation;
        let page = store.keys_like(&request).await.unwrap();
        assert_eq!(page.keys, ["app||a3"]);
        assert_eq!(page.continuation, None);
    }
}
