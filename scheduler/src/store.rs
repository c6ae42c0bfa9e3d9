//! Ordered keys and values with revisions, as etcd has them: ranges, transactions that compare and swap, leases, and a watch.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

pub(crate) mod embedded;
pub(crate) mod etcd;
mod record;

/// A store.
#[async_trait]
pub(crate) trait Store: Send + Sync + 'static {
    /// Reads one key or several, in their order, all of one moment.
    async fn range(&self, range: Range) -> Result<Page, Error>;

    /// Compares and writes, all or nothing. Back when it is durable.
    async fn commit(&self, txn: Txn) -> Result<Committed, Error>;

    /// Deletes the keys of these ranges that are there now. Others may write meanwhile, and see a part of them gone.
    async fn clear(&self, ranges: Vec<(Bytes, End)>) -> Result<Committed, Error> {
        let deletions = ranges.into_iter();
        let deletions = deletions.map(|(start, end)| Op::Delete { start, end });
        self.commit(deletions.collect::<Vec<_>>().into()).await
    }

    /// Every later change of keys that begin so, in the order in which they happened. It is at work while it is polled.
    fn watch(&self, prefix: &str) -> Watch;

    /// Begins a lease, under which keys may be written that go with it. It lasts for about `ttl` unless it is renewed.
    async fn grant(&self, ttl: Duration) -> Result<Lease, Error>;

    /// Renews a lease: how long it lasts from now. `None` if it has ended.
    async fn renew(&self, lease: i64) -> Result<Option<Duration>, Error>;

    /// Ends a lease. False if it has ended.
    async fn revoke(&self, lease: i64) -> Result<bool, Error>;

    /// How much there is.
    async fn size(&self) -> Result<Size, Error>;
}

/// A shared store.
pub(crate) type Shared = Arc<dyn Store>;

/// What a watch says. It ends with the store.
pub(crate) type Watch = BoxStream<'static, Seen>;

/// News of a watch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Changes(Vec<Change>),
    /// Changes may have been missed: what is there is to be read anew. What changes from now on is told.
    Resync,
}

/// A lease as it was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub id: i64,
    pub ttl: Duration,
}

/// Why a store did not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Error {
    /// The quota is used up; deletions go on.
    #[error("etcdserver: mvcc: database space exceeded")]
    Full,
    /// There is no room on the disk; deletions go on.
    #[error("no space left on the disk of the store: jobs are not taken until there is")]
    Disk,
    /// The store cannot be read or written any more.
    #[error("the store is broken")]
    Broken(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The store is closing.
    #[error("the store is closed")]
    Closed,
    /// The store is elsewhere, and did not do it in time, or refused to. It may have done it.
    #[error("etcd: {0}")]
    Unavailable(Arc<str>),
}

impl Error {
    /// Whether it may work later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Full | Self::Disk | Self::Unavailable(_))
    }
}

/// Keys from `start`.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    pub start: Bytes,
    pub end: End,
    /// Keys at most; `None` is all.
    pub limit: Option<usize>,
    /// Leave the values out.
    pub keys_only: bool,
}

/// Where a range ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Behind its first key.
    Single,
    /// Before this key.
    Before(Bytes),
    /// With the last key there is.
    Open,
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    pub entries: Vec<Entry>,
    /// There are further keys behind the limit.
    pub more: bool,
    /// Of the last write before.
    pub revision: u64,
}

impl Page {
    /// Where the next page begins, if there is one.
    pub fn next(&self) -> Option<Bytes> {
        let last = self.entries.last().filter(|_| self.more)?;
        Some([&last.key[..], b"\0"].concat().into())
    }
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub key: Bytes,
    pub value: Bytes,
    /// When the key was written first, and last.
    pub created: u64,
    pub modified: u64,
    /// How often it was written since it is there.
    pub version: u64,
    pub lease: i64,
}

/// Comparisons, and what is written if they hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Txn {
    pub compare: Vec<Compare>,
    pub then: Vec<Op>,
}

/// A comparison.
#[derive(Clone, Debug)]
pub(crate) enum Compare {
    /// There is no such key.
    Absent(Bytes),
    /// The key was written last at this revision.
    Modified(Bytes, u64),
}

impl From<Vec<Op>> for Txn {
    /// Writes without a comparison.
    fn from(then: Vec<Op>) -> Self {
        Self {
            compare: Vec::new(),
            then,
        }
    }
}

/// A write.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Put {
        key: Bytes,
        value: Bytes,
        lease: i64,
    },
    Delete {
        start: Bytes,
        end: End,
    },
}

/// What came of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    /// The comparisons held.
    pub held: bool,
    pub revision: u64,
    /// Keys that were deleted.
    pub deleted: usize,
}

/// A change that is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub key: Bytes,
    pub revision: u64,
    /// `None`: deleted.
    pub value: Option<Bytes>,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Size {
    /// On disk.
    pub allocated: u64,
    /// Keys and values.
    pub used: u64,
    /// The quota is used up.
    pub full: bool,
    pub revision: u64,
}

impl Range {
    /// One key.
    pub fn one(key: impl Into<Bytes>) -> Self {
        Self {
            start: key.into(),
            end: End::Single,
            limit: None,
            keys_only: false,
        }
    }

    /// All keys that begin so.
    pub fn prefix(prefix: &str) -> Self {
        Self {
            start: Bytes::copy_from_slice(prefix.as_bytes()),
            end: End::of_prefix(prefix.as_bytes()),
            limit: None,
            keys_only: false,
        }
    }
}

impl End {
    /// Where the keys end that begin so.
    pub fn of_prefix(prefix: &[u8]) -> Self {
        let mut end = prefix.to_vec();
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                return Self::Before(end.into());
            }
        }
        Self::Open
    }
}

impl Op {
    /// Deletes one key.
    pub fn delete(key: impl Into<Bytes>) -> Self {
        Self::Delete {
            start: key.into(),
            end: End::Single,
        }
    }

    /// Deletes all keys that begin so.
    pub fn delete_prefix(prefix: &str) -> Self {
        let Range { start, end, .. } = Range::prefix(prefix);
        Self::Delete { start, end }
    }

    /// Writes a key.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self::Put {
            key: key.into(),
            value: value.into(),
            lease: 0,
        }
    }
}

#[cfg(test)]
mod tests;
