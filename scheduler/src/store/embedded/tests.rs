//! The store against a file.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};

use super::*;
use crate::store::{Compare, End, Entry, Op, Range, Seen, Store as _, Txn};

fn put(key: &str, value: &str) -> Txn {
    Txn {
        compare: Vec::new(),
        then: vec![Op::put(key.to_owned(), value.to_owned())],
    }
}

fn key(key: &str) -> Bytes {
    Bytes::copy_from_slice(key.as_bytes())
}

struct Opened {
    store: Embedded,
    writer: Writer,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

fn opened(quota: u64) -> Opened {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let (store, writer) = Embedded::open(&path, quota).expect("a new file");
    Opened {
        store,
        writer,
        path,
        _folder: folder,
    }
}

async fn keys(store: &Embedded, range: Range) -> Vec<(String, u64, u64)> {
    let page = store.range(range).await.expect("it is readable");
    let entry = |entry: Entry| {
        let key = String::from_utf8(entry.key.to_vec()).expect("keys of tests are text");
        (key, entry.created, entry.modified)
    };
    page.entries.into_iter().map(entry).collect()
}

#[tokio::test]
async fn revisions_and_ranges() {
    let opened = opened(u64::MAX);
    let store = &opened.store;
    for name in ["a/1", "a/2", "b/1", "a/1"] {
        assert!(store.commit(put(name, "v")).await.unwrap().held);
    }
    let all = keys(store, Range::prefix("a/")).await;
    assert_eq!(all, [("a/1".to_owned(), 1, 4), ("a/2".to_owned(), 2, 2)]);
    let first = Range {
        limit: Some(1),
        ..Range::prefix("")
    };
    let page = store.range(first).await.unwrap();
    assert_eq!((page.entries.len(), page.more, page.revision), (1, true, 4));
    assert_eq!(page.entries[0].version, 2);
    assert_eq!(keys(store, Range::one("b/1")).await.len(), 1);
    assert_eq!(keys(store, Range::one("b/2")).await.len(), 0);
    let nothing = Range {
        end: End::Before(key("a")),
        ..Range::one("b")
    };
    assert_eq!(keys(store, nothing).await.len(), 0);
}

#[tokio::test]
async fn comparisons_hold_or_nothing_is_written() {
    let opened = opened(u64::MAX);
    let store = &opened.store;
    let txn = |compare| Txn {
        compare: vec![compare],
        ..put("k", "v")
    };
    let absent = || txn(Compare::Absent(key("k")));
    assert!(store.commit(absent()).await.unwrap().held);
    assert!(!store.commit(absent()).await.unwrap().held);
    let at = |revision| txn(Compare::Modified(key("k"), revision));
    assert!(!store.commit(at(2)).await.unwrap().held);
    assert!(store.commit(at(1)).await.unwrap().held);
    assert!(!store.commit(at(1)).await.unwrap().held);
    let deleted = Txn {
        compare: Vec::new(),
        then: vec![Op::delete_prefix(""), Op::delete("x")],
    };
    assert_eq!(store.commit(deleted.clone()).await.unwrap().deleted, 1);
    let nothing = store.commit(deleted).await.unwrap();
    assert_eq!((nothing.deleted, nothing.revision), (0, 3));
}

#[tokio::test]
async fn watchers_hear_every_change_in_order() {
    let opened = opened(u64::MAX);
    let store = &opened.store;
    let mut watch = store.watch("a/");
    store.commit(put("a/1", "x")).await.unwrap();
    store.commit(put("b/1", "y")).await.unwrap();
    let both = Txn {
        compare: Vec::new(),
        then: vec![Op::delete("a/1"), Op::put("a/2", "z")],
    };
    store.commit(both).await.unwrap();
    let change = |name, revision, value: Option<&'static str>| Change {
        key: key(name),
        revision,
        value: value.map(Bytes::from),
    };
    assert_eq!(
        watch.next().await.unwrap(),
        Seen::Changes(vec![change("a/1", 1, Some("x"))])
    );
    let both = vec![change("a/1", 3, None), change("a/2", 3, Some("z"))];
    assert_eq!(watch.next().await.unwrap(), Seen::Changes(both));
}

#[tokio::test]
async fn a_store_that_is_full_takes_deletions_and_then_more() {
    let opened = opened(1000);
    let store = &opened.store;
    let large = "x".repeat(500);
    store.commit(put("a", &large)).await.unwrap();
    assert!(matches!(
        store.commit(put("b", &large)).await,
        Err(Error::Full)
    ));
    // What is small would fit, but who looks is told that the store is full: it is, until something is deleted.
    assert!(matches!(
        store.commit(put("c", "small")).await,
        Err(Error::Full)
    ));
    assert!(store.size().await.unwrap().full);
    store.commit(put("a", &large)).await.unwrap();
    let free = Txn {
        compare: Vec::new(),
        then: vec![Op::delete("a")],
    };
    assert_eq!(store.commit(free).await.unwrap().deleted, 1);
    let size = store.size().await.unwrap();
    assert_eq!((size.used, size.full), (0, false));
    store.commit(put("b", &large)).await.unwrap();
}

#[tokio::test]
async fn what_is_acknowledged_is_there_after_the_program() {
    let Opened {
        store,
        writer,
        path,
        _folder,
    } = opened(u64::MAX);
    let writes = (0..200).map(|n| store.commit(put(&format!("k{n:03}"), "v")).boxed());
    for done in futures::future::join_all(writes).await {
        assert!(done.unwrap().held);
    }
    let locked = Embedded::open(&path, u64::MAX).err().unwrap();
    assert!(format!("{locked:#}").contains("open"), "{locked:#}");
    drop(store);
    writer.ended().await.unwrap();
    let (again, _writer) = Embedded::open(&path, u64::MAX).unwrap();
    assert_eq!(keys(&again, Range::prefix("k")).await.len(), 200);
    assert_eq!(again.commit(put("n", "v")).await.unwrap().revision, 201);
}

#[tokio::test]
async fn what_is_under_a_lease_goes_with_it() {
    let opened = opened(u64::MAX);
    let store = &opened.store;
    let ttl = Duration::from_secs(20);
    let lease = store.grant(ttl).await.unwrap();
    let op = Op::Put {
        key: key("a"),
        value: key("x"),
        lease: lease.id,
    };
    store
        .commit(vec![op, Op::put("b", "y")].into())
        .await
        .unwrap();
    assert_eq!(store.renew(lease.id).await.unwrap(), Some(ttl));
    assert_eq!(store.leases(), [lease.id]);
    assert!(store.revoke(lease.id).await.unwrap());
    assert_eq!(keys(store, Range::prefix("")).await.len(), 1);
    assert_eq!(store.renew(lease.id).await.unwrap(), None);
    assert!(!store.revoke(lease.id).await.unwrap());
}

/// Who deletes much keeps nobody from writing, and takes nothing away that was written since.
#[tokio::test]
async fn others_write_while_much_is_deleted() {
    let opened = opened(u64::MAX);
    let store = &opened.store;
    let many = 10 * batch::SLICE;
    let all = (0..many).map(|number| Op::put(format!("a/{number:06}"), "v"));
    store.commit(all.collect::<Vec<_>>().into()).await.unwrap();
    let Range { start, end, .. } = Range::prefix("a/");
    let clear = store.clear(vec![(start, end)]);
    let last = format!("a/{:06}", many - 1);
    let meanwhile = async {
        // Asked for once the deletion has begun.
        let first = Range::one("a/000000");
        while !store.range(first.clone()).await.unwrap().entries.is_empty() {
            tokio::task::yield_now().await;
        }
        store.commit(put(&last, "new")).await.unwrap()
    };
    let (cleared, written) = tokio::join!(clear, meanwhile);
    let cleared = cleared.unwrap();
    assert!(written.revision < cleared.revision, "it did not wait");
    assert_eq!(cleared.deleted, many - 1);
    let left = keys(store, Range::prefix("a/")).await;
    assert_eq!(left, [(last, 1, written.revision)]);
}
