//! What the embedded store answers: reading in the caller's place, writing by the thread that writes.

use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use redb::{Database, ReadableDatabase as _};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use super::{BATCHES, Embedded, KEYS, MARGIN, NUMBERS, REVISION, Request, USED, broken};
use crate::store::{
    Committed, End, Error, Lease, Op, Page, Range, Seen, Size, Store, Txn, Watch, record,
};

#[async_trait]
impl Store for Embedded {
    async fn range(&self, range: Range) -> Result<Page, Error> {
        if range.end == End::Single {
            return read(&self.shared.database, &range);
        }
        let shared = self.shared.clone();
        let reading = tokio::task::spawn_blocking(move || read(&shared.database, &range));
        reading.await.map_err(broken)?
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, Error> {
        self.shared.leases.note(&txn);
        let (reply, answer) = oneshot::channel();
        let request = Request { txn, reply };
        let sent = self.requests.send(request).await;
        sent.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
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
        let reading = self.shared.database.begin_read().map_err(broken)?;
        let numbers = reading.open_table(NUMBERS).map_err(broken)?;
        let number = |name| Ok(numbers.get(name).map_err(broken)?.map_or(0, |n| n.value()));
        let used = number(USED)?;
        let metadata = std::fs::metadata(&self.shared.path).map_err(broken)?;
        Ok(Size {
            allocated: metadata.len(),
            used,
            full: used.saturating_add(MARGIN) > self.shared.quota,
            revision: number(REVISION)?,
        })
    }
}

fn read(database: &Database, range: &Range) -> Result<Page, Error> {
    let reading = database.begin_read().map_err(broken)?;
    let keys = reading.open_table(KEYS).map_err(broken)?;
    let numbers = reading.open_table(NUMBERS).map_err(broken)?;
    let revision = numbers.get(REVISION).map_err(broken)?;
    let mut page = Page {
        revision: revision.map_or(0, |revision| revision.value()),
        ..Page::default()
    };
    let mut take = |key: &[u8], record: &[u8]| {
        page.entries
            .extend(record::entry(key, record, range.keys_only))
    };
    let rows = match &range.end {
        End::Single => {
            if let Some(record) = keys.get(&range.start[..]).map_err(broken)? {
                take(&range.start, record.value());
            }
            return Ok(page);
        }
        End::Before(end) if *end <= range.start => return Ok(page),
        End::Before(end) => keys.range(&range.start[..]..&end[..]),
        End::Open => keys.range(&range.start[..]..),
    };
    for (read, row) in rows.map_err(broken)?.enumerate() {
        let (key, record) = row.map_err(broken)?;
        if range.limit.is_some_and(|limit| read >= limit) {
            page.more = true;
            break;
        }
        page.entries
            .extend(record::entry(key.value(), record.value(), range.keys_only));
    }
    Ok(page)
}
