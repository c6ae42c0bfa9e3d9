//! What the embedded store answers: reading in the caller's place, writing by the thread that writes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use redb::{Database, ReadableDatabase as _};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use super::writer::{Clear, Request};
use super::{BATCHES, Embedded, KEYS, MARGIN, NUMBERS, REVISION, Shared, USED, broken};
use crate::store::{
    Committed, End, Error, Lease, Op, Page, Range, Seen, Size, Store, Txn, Watch, record,
};

#[async_trait]
impl Store for Embedded {
    async fn range(&self, range: Range) -> Result<Page, Error> {
        // While the file is opened again, nobody may stand in the way of others.
        if range.end == End::Single && !self.shared.closed.load(Ordering::Acquire) {
            return self.shared.read(&range);
        }
        let shared = self.shared.clone();
        let reading = tokio::task::spawn_blocking(move || shared.read(&range));
        reading.await.map_err(broken)?
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, Error> {
        self.shared.leases.note(&txn);
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Commit(txn, reply), answer).await
    }

    async fn clear(&self, ranges: Vec<(Bytes, End)>) -> Result<Committed, Error> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Clear(Clear::new(ranges, reply)), answer)
            .await
    }

    fn watch(&self, prefix: &str) -> Watch {
        let (sender, receiver) = mpsc::channel(BATCHES);
        let mut watchers = self.shared.watchers.lock();
        watchers.push((prefix.to_owned(), sender));
        ReceiverStream::new(receiver).map(Seen::Changes).boxed()
    }

    async fn grant(&self, ttl: Duration) -> Result<Lease, Error> {
        Ok(self.shared.leases.grant(ttl))
    }

    async fn renew(&self, lease: i64) -> Result<Option<Duration>, Error> {
        Ok(self.shared.leases.ttl(lease))
    }

    async fn revoke(&self, lease: i64) -> Result<bool, Error> {
        let Some(keys) = self.shared.leases.end(lease) else {
            return Ok(false);
        };
        let then: Vec<_> = keys.into_iter().map(Op::delete).collect();
        self.commit(then.into()).await?;
        Ok(true)
    }

    async fn size(&self) -> Result<Size, Error> {
        let shared = self.shared.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let database = shared.database.read();
            let database = database.as_ref().ok_or(Error::Disk)?;
            let (used, revision) = numbers(database).map_err(|error| shared.failed(error))?;
            Ok(Size {
                allocated: shared.medium.size().map_err(broken)?,
                used,
                full: shared.closed.load(Ordering::Acquire)
                    || shared.exhausted.load(Ordering::Acquire)
                    || used.saturating_add(MARGIN) > shared.quota,
                revision,
            })
        });
        reading.await.map_err(broken)?
    }
}

impl Embedded {
    async fn ask(
        &self,
        request: Request,
        answer: oneshot::Receiver<Result<Committed, Error>>,
    ) -> Result<Committed, Error> {
        let sent = self.requests.send(request).await;
        sent.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

impl Shared {
    pub(super) fn read(&self, range: &Range) -> Result<Page, Error> {
        let database = self.database.read();
        let database = database.as_ref().ok_or(Error::Disk)?;
        read(database, range).map_err(|error| self.failed(error))
    }
}

/// The bytes that are used, and the last revision.
pub(super) fn numbers(database: &Database) -> Result<(u64, u64), redb::Error> {
    let numbers = database.begin_read()?.open_table(NUMBERS)?;
    let number = |name| Ok::<_, redb::Error>(numbers.get(name)?.map_or(0, |n| n.value()));
    Ok((number(USED)?, number(REVISION)?))
}

fn read(database: &Database, range: &Range) -> Result<Page, redb::Error> {
    let reading = database.begin_read()?;
    let keys = reading.open_table(KEYS)?;
    let numbers = reading.open_table(NUMBERS)?;
    let mut page = Page {
        revision: numbers
            .get(REVISION)?
            .map_or(0, |revision| revision.value()),
        ..Page::default()
    };
    let mut take = |key: &[u8], record: &[u8]| {
        page.entries
            .extend(record::entry(key, record, range.keys_only))
    };
    let rows = match &range.end {
        End::Single => {
            if let Some(record) = keys.get(&range.start[..])? {
                take(&range.start, record.value());
            }
            return Ok(page);
        }
        End::Before(end) if *end <= range.start => return Ok(page),
        End::Before(end) => keys.range(&range.start[..]..&end[..])?,
        End::Open => keys.range(&range.start[..]..)?,
    };
    for (read, row) in rows.enumerate() {
        let (key, record) = row?;
        if range.limit.is_some_and(|limit| read >= limit) {
            page.more = true;
            break;
        }
        take(key.value(), record.value());
    }
    Ok(page)
}
