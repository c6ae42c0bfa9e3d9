//! The suite for state stores.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use component::{
    Error, ErrorKind, Result, StateStore,
    state::{
        Capabilities, Capability, Concurrency, DeleteRequest, GetRequest, Item, KeysLikeRequest,
        Operation, QueryRequest, SetRequest,
    },
};
use tokio::time::Instant;
use uuid::Uuid;

/// Longest wait for a key to expire, which clocks of whole seconds make late.
const EXPIRY_PATIENCE: Duration = Duration::from_secs(10);

const TTL: &str = "ttlInSeconds";

/// Runs the suite on keys of its own; the store is closed at the end.
///
/// # Panics
/// With the name of the case that failed.
pub async fn suite(store: &dyn StateStore, table: &[Capability]) {
    let table: Capabilities = table.iter().copied().collect();
    assert_eq!(store.capabilities(), table, "declares what the table says");
    store.ping().await.expect("answers a ping");
    let suite = Suite {
        store,
        prefix: format!("conformance||{}||", Uuid::new_v4().simple()),
    };
    let has = |capability| table.contains(capability);
    suite.values().await;
    suite.bulk().await;
    suite.tags(has(Capability::Etag)).await;
    suite.first_write(has(Capability::Etag)).await;
    suite.transactions(has(Capability::Transactional)).await;
    suite.lifetimes(has(Capability::Ttl)).await;
    suite.listing(has(Capability::KeysLike)).await;
    suite.prefixes(has(Capability::DeleteWithPrefix)).await;
    suite.queries(has(Capability::QueryApi)).await;
    suite.writers_meet(has(Capability::Etag)).await;
    store.close().await;
}

struct Suite<'a> {
    store: &'a dyn StateStore,
    prefix: String,
}

fn refused<T>(result: Result<T>, kinds: &[ErrorKind], case: &str) {
    let kind = result.err().as_ref().map(Error::kind);
    let fits = kind.is_some_and(|kind| kinds.contains(&kind));
    assert!(fits, "{case}: expected {kinds:?}, got {kind:?}");
}

const LOST: &[ErrorKind] = &[ErrorKind::EtagMismatch];
const UNSUPPORTED: &[ErrorKind] = &[ErrorKind::Unsupported];

impl Suite<'_> {
    fn set(&self, key: &str, value: &str) -> SetRequest {
        SetRequest {
            key: format!("{}{key}", self.prefix),
            value: Bytes::copy_from_slice(value.as_bytes()),
            ..SetRequest::default()
        }
    }

    fn remove(&self, key: &str, etag: Option<String>) -> DeleteRequest {
        DeleteRequest {
            key: format!("{}{key}", self.prefix),
            etag,
            ..DeleteRequest::default()
        }
    }

    fn read(&self, key: &str) -> GetRequest {
        GetRequest {
            key: format!("{}{key}", self.prefix),
            ..GetRequest::default()
        }
    }

    async fn item(&self, key: &str) -> Option<Item> {
        self.store
            .get(&self.read(key))
            .await
            .expect("a key is read, or is absent")
    }

    async fn value(&self, key: &str) -> Option<Bytes> {
        self.item(key).await.map(|item| item.value)
    }

    async fn save(&self, request: SetRequest) {
        self.store.set(&request).await.expect("a key is written");
    }

    async fn values(&self) {
        assert_eq!(self.value("v").await, None, "values: absent at first");
        for bytes in [
            &b"\"text\""[..],
            b"",
            b"\x00\xff\xfe",
            "\u{fc}\u{1f600}'\"".as_bytes(),
        ] {
            let mut request = self.set("v", "");
            request.value = Bytes::copy_from_slice(bytes);
            self.save(request).await;
            assert_eq!(
                self.value("v").await.as_deref(),
                Some(bytes),
                "values: as written"
            );
        }
        let mut json = self.set("v", "{\"b\": 1, \"a\": [\"x\", null]}");
        json.content_type = Some("application/json".to_owned());
        let expected: serde_json::Value =
            serde_json::from_slice(&json.value).expect("the sample is json");
        self.save(json).await;
        let stored = self.value("v").await.expect("values: json is there");
        let stored: serde_json::Value = serde_json::from_slice(&stored).expect("values: json");
        assert_eq!(stored, expected, "values: json keeps its meaning");
        for round in ["once", "twice"] {
            let gone = self.store.delete(&self.remove("v", None)).await;
            gone.unwrap_or_else(|error| panic!("values: deleting {round}: {error}"));
            assert_eq!(self.value("v").await, None, "values: deleted {round}");
        }
    }

    async fn bulk(&self) {
        let written = vec![self.set("b1", "1"), self.set("b2", "2")];
        self.store.bulk_set(&written).await.expect("bulk: written");
        let keys = ["b2", "absent", "b1", "b2"];
        let requests = keys.map(|key| self.read(key));
        let rows = self.store.bulk_get(&requests, 2).await.expect("bulk: read");
        let found: Vec<_> = rows
            .into_iter()
            .map(|row| {
                let item = row.result.expect("bulk: a row is read");
                let key = row
                    .key
                    .strip_prefix(&self.prefix)
                    .expect("bulk: its key")
                    .to_owned();
                (key, item.map(|item| item.value))
            })
            .collect();
        let expected = [
            ("b2", Some("2")),
            ("absent", None),
            ("b1", Some("1")),
            ("b2", Some("2")),
        ]
        .map(|(key, value)| (key.to_owned(), value.map(Bytes::from)));
        assert_eq!(found, expected, "bulk: in the order asked for");
        // More than are under way at once, and one key of them several times: the last of it counts.
        let mut many: Vec<_> = (0..40)
            .map(|number| self.set(&format!("m{number}"), &number.to_string()))
            .collect();
        many.extend((0..40).map(|number| self.set("b1", &number.to_string())));
        self.store.bulk_set(&many).await.expect("bulk: many");
        for number in 0..40 {
            let value = self.value(&format!("m{number}")).await;
            assert_eq!(value, Some(number.to_string().into()), "bulk: m{number}");
        }
        assert_eq!(
            self.value("b1").await.as_deref(),
            Some(&b"39"[..]),
            "bulk: in order"
        );
        let many: Vec<_> = (0..40)
            .map(|number| self.remove(&format!("m{number}"), None))
            .collect();
        self.store.bulk_delete(&many).await.expect("bulk: many go");
        assert_eq!(self.value("m39").await, None, "bulk: many are gone");
        self.store.bulk_set(&[]).await.expect("bulk: none");
        self.store.bulk_delete(&[]).await.expect("bulk: none");
        let none = self.store.bulk_get(&[], 0).await.expect("bulk: none");
        assert!(none.is_empty(), "bulk: none");
        let gone = vec![self.remove("b1", None), self.remove("b2", None)];
        self.store.bulk_delete(&gone).await.expect("bulk: deleted");
        assert_eq!(self.value("b1").await, None, "bulk: gone");
    }

    async fn tags(&self, supported: bool) {
        self.save(self.set("t", "1")).await;
        let first = self.item("t").await.and_then(|item| item.etag);
        if !supported {
            assert_eq!(first, None, "tags: none where none are declared");
            return;
        }
        assert!(
            first.as_ref().is_some_and(|tag| !tag.is_empty()),
            "tags: one is given"
        );
        let mut update = self.set("t", "2");
        update.etag = first.clone();
        self.save(update.clone()).await;
        let second = self.item("t").await.and_then(|item| item.etag);
        assert_ne!(first, second, "tags: a write changes it");
        refused(
            self.store.set(&update).await,
            LOST,
            "tags: an old one loses",
        );
        assert_eq!(
            self.value("t").await.as_deref(),
            Some(&b"2"[..]),
            "tags: nothing written"
        );
        let stale = self.store.delete(&self.remove("t", first.clone())).await;
        refused(stale, LOST, "tags: an old one does not delete");
        let mut foreign = self.set("t", "3");
        foreign.etag = Some("\u{1f600} no tag".to_owned());
        refused(
            self.store.set(&foreign).await,
            &[ErrorKind::EtagInvalid, ErrorKind::EtagMismatch],
            "tags: one that was never issued",
        );
        let current = self.store.delete(&self.remove("t", second.clone())).await;
        current.expect("tags: the current one deletes");
        let absent = self.store.delete(&self.remove("t", second.clone())).await;
        refused(absent, LOST, "tags: nothing to delete any more");
        let mut late = self.set("t", "4");
        late.etag = second;
        refused(
            self.store.set(&late).await,
            LOST,
            "tags: nothing to update any more",
        );
        assert_eq!(self.value("t").await, None, "tags: stays deleted");
        let mut loser = self.set("t", "5");
        loser.etag = first;
        let several = vec![loser, self.set("t2", "6")];
        refused(
            self.store.bulk_set(&several).await,
            LOST,
            "tags: one of several loses",
        );
        assert_eq!(
            self.value("t2").await.as_deref(),
            Some(&b"6"[..]),
            "tags: and the others are written"
        );
        let mut stale = self.remove("t2", None);
        stale.etag = self.item("t2").await.and_then(|item| item.etag);
        self.save(self.set("t2", "7")).await;
        self.save(self.set("t3", "8")).await;
        let several = [stale, self.remove("t3", None)];
        refused(
            self.store.bulk_delete(&several).await,
            LOST,
            "tags: one of several is not deleted",
        );
        assert!(self.value("t2").await.is_some(), "tags: it stays");
        assert_eq!(self.value("t3").await, None, "tags: the others go");
        self.store
            .delete(&self.remove("t2", None))
            .await
            .expect("tags: t2 is deleted");
    }

    async fn first_write(&self, supported: bool) {
        if !supported {
            return;
        }
        let mut first = self.set("f", "1");
        first.concurrency = Concurrency::FirstWrite;
        self.save(first.clone()).await;
        refused(
            self.store.set(&first).await,
            LOST,
            "first write: only creates",
        );
        first.etag = self.item("f").await.and_then(|item| item.etag);
        self.save(first.clone()).await;
        refused(
            self.store.set(&first).await,
            LOST,
            "first write: the second loses",
        );
        let mut last = self.set("f", "2");
        last.concurrency = Concurrency::LastWrite;
        self.save(last).await;
        assert_eq!(
            self.value("f").await.as_deref(),
            Some(&b"2"[..]),
            "last write wins"
        );
    }

    async fn transactions(&self, supported: bool) {
        let operations = vec![
            Operation::Upsert(self.set("x1", "1")),
            Operation::Upsert(self.set("x2", "1")),
            Operation::Upsert(self.set("x1", "2")),
            Operation::Delete(self.remove("x2", None)),
        ];
        let done = self.store.transact(&operations, &BTreeMap::new()).await;
        if !supported {
            refused(done, UNSUPPORTED, "transactions: not declared");
            assert_eq!(
                self.value("x1").await,
                None,
                "transactions: nothing written"
            );
            return;
        }
        done.expect("transactions: applied");
        assert_eq!(
            self.value("x1").await.as_deref(),
            Some(&b"2"[..]),
            "transactions: in order"
        );
        assert_eq!(self.value("x2").await, None, "transactions: in order");
        let old = self.item("x1").await.and_then(|item| item.etag);
        self.save(self.set("x1", "3")).await;
        let mut stale = self.set("x1", "4");
        stale.etag = old;
        let operations = vec![
            Operation::Upsert(self.set("x3", "1")),
            Operation::Delete(self.remove("x1", None)),
            Operation::Upsert(stale),
        ];
        let lost = self.store.transact(&operations, &BTreeMap::new()).await;
        refused(lost, LOST, "transactions: a step loses");
        assert_eq!(self.value("x3").await, None, "transactions: all or nothing");
        assert_eq!(
            self.value("x1").await.as_deref(),
            Some(&b"3"[..]),
            "transactions: nothing"
        );
        let none = self.store.transact(&[], &BTreeMap::new()).await;
        none.expect("transactions: an empty one succeeds");
    }

    async fn lifetimes(&self, supported: bool) {
        if !supported {
            return;
        }
        let with = |key: &str, ttl: &str| {
            let mut request = self.set(key, "v");
            request.metadata = BTreeMap::from([(TTL.to_owned(), ttl.to_owned())]);
            request
        };
        for wrong in ["soon", "1.5", "-2", "99999999999999999999"] {
            let error = self.store.set(&with("l", wrong)).await.err();
            let error = error.unwrap_or_else(|| panic!("lifetimes: {wrong} is taken"));
            assert_eq!(
                error.kind(),
                ErrorKind::InvalidRequest,
                "lifetimes: {wrong}"
            );
            assert!(
                error.to_string().contains(wrong),
                "lifetimes: names {wrong}: {error}"
            );
        }
        self.save(with("never", "-1")).await;
        let never = self.item("never").await.expect("lifetimes: never expires");
        assert!(
            !never.metadata.contains_key("ttlExpireTime"),
            "lifetimes: never"
        );
        self.save(with("long", "100")).await;
        let long = self.item("long").await.expect("lifetimes: long");
        let expires = long
            .metadata
            .get("ttlExpireTime")
            .expect("lifetimes: is told");
        assert!(
            expires.len() == 20 && expires.ends_with('Z'),
            "lifetimes: {expires}"
        );
        self.save(with("long", "-1")).await;
        let long = self.item("long").await.expect("lifetimes: prolonged");
        assert!(
            !long.metadata.contains_key("ttlExpireTime"),
            "lifetimes: prolonged"
        );
        self.save(with("short", "1")).await;
        assert!(self.item("short").await.is_some(), "lifetimes: lives");
        let deadline = Instant::now() + EXPIRY_PATIENCE;
        while self.item("short").await.is_some() {
            assert!(Instant::now() < deadline, "lifetimes: does not expire");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let mut again = with("short", "100");
        again.concurrency = Concurrency::FirstWrite;
        self.save(again).await;
    }

    async fn listing(&self, supported: bool) {
        let keys = ["k||a1", "k||a2", "k||a3", "k||b1", "k_c", "k*d"];
        for key in keys {
            self.save(self.set(key, "v")).await;
        }
        let list = async |pattern: &str, page_size| {
            let mut request = KeysLikeRequest {
                pattern: format!("{}{pattern}", self.prefix),
                page_size,
                continuation: None,
            };
            let mut found = Vec::new();
            for _ in 0..10 {
                let page = self.store.keys_like(&request).await?;
                let most = page_size.map_or(usize::MAX, |size| size as usize);
                assert!(
                    page.keys.len() <= most,
                    "listing: pages are no longer than asked"
                );
                found.extend(page.keys);
                match page.continuation {
                    Some(token) => request.continuation = Some(token),
                    None => break,
                }
            }
            found.sort_unstable();
            Ok(found)
        };
        let all = list("k%", None).await;
        if !supported {
            return refused(all, UNSUPPORTED, "listing: not declared");
        }
        for (pattern, page, expected) in [
            ("k||a%", None, &["k||a1", "k||a2", "k||a3"][..]),
            ("k||a%", Some(2), &["k||a1", "k||a2", "k||a3"]),
            ("k||a%", Some(3), &["k||a1", "k||a2", "k||a3"]),
            ("k||_1", None, &["k||a1", "k||b1"]),
            ("k\\_%", None, &["k_c"]),
            ("k*%", None, &["k*d"]),
            ("nothing%", Some(1), &[]),
        ] {
            let found = list(pattern, page).await.expect("listing: lists");
            let expected: Vec<_> = expected
                .iter()
                .map(|key| format!("{}{key}", self.prefix))
                .collect();
            assert_eq!(found, expected, "listing: {pattern} in pages of {page:?}");
        }
        let empty = self.store.keys_like(&KeysLikeRequest::default()).await;
        if let Ok(page) = empty {
            assert!(
                page.keys.is_empty(),
                "listing: an empty pattern matches nothing"
            );
        }
    }

    async fn prefixes(&self, supported: bool) {
        for key in ["p||1", "p||2", "q||1"] {
            self.save(self.set(key, "v")).await;
        }
        let deleted = self
            .store
            .delete_with_prefix(&format!("{}p||", self.prefix))
            .await;
        if !supported {
            return refused(deleted, UNSUPPORTED, "prefixes: not declared");
        }
        assert_eq!(
            deleted.expect("prefixes: deletes"),
            2,
            "prefixes: tells how many"
        );
        assert_eq!(self.value("p||1").await, None, "prefixes: gone");
        assert!(
            self.value("q||1").await.is_some(),
            "prefixes: the others stay"
        );
    }

    async fn queries(&self, supported: bool) {
        let answer = self.store.query(&QueryRequest::default()).await;
        if !supported {
            refused(answer, UNSUPPORTED, "queries: not declared");
        }
    }

    /// Of several writers with the same tag one wins.
    async fn writers_meet(&self, supported: bool) {
        if !supported {
            return;
        }
        self.save(self.set("w", "0")).await;
        let etag = self.item("w").await.and_then(|item| item.etag);
        let requests = [0, 1, 2, 3, 4, 5, 6, 7].map(|writer| {
            let mut request = self.set("w", &writer.to_string());
            request.etag = etag.clone();
            request
        });
        let writes = requests.iter().map(|request| self.store.set(request));
        let results = futures::future::join_all(writes).await;
        let won = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(won, 1, "writers meet: one wins");
        for lost in results.into_iter().filter(Result::is_err) {
            refused(lost, LOST, "writers meet: the others lose");
        }
    }
}
