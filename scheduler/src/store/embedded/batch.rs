//! What a batch of transactions makes of the keys: all of it in one write of the file.

use bytes::Bytes;
use redb::{Database, ReadableTable as _};

use super::super::record::{self, Head};
use super::super::{Change, Committed, Compare, End, Error, Op, Txn};
use super::{KEYS, MARGIN, NUMBERS, REVISION, USED};

/// What limits a store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of keys and values.
    pub quota: u64,
    /// Nothing may become more: there is no room on the disk.
    pub closed: bool,
    /// Nothing may become more: something was refused because of the quota, and nothing has been deleted since.
    pub exhausted: bool,
}

/// Keys that are deleted together with others' writes, as many as one batch takes.
pub(super) struct Slice {
    start: Bytes,
    pub end: End,
    /// Of the last write before the first slice: what is newer stays.
    since: Option<u64>,
}

impl Slice {
    pub fn new((start, end): (Bytes, End), since: Option<u64>) -> Self {
        Self { start, end, since }
    }
}

/// What became of a slice.
pub(super) struct Cleared {
    pub deleted: usize,
    pub since: u64,
    pub revision: u64,
    /// Where the next begins, if there is more.
    pub next: Option<Bytes>,
}

/// What became of a batch.
pub(super) struct Applied {
    /// Of each transaction,
    pub outcomes: Vec<Result<Committed, Error>>,
    /// and of the slice.
    pub cleared: Option<Cleared>,
    /// [`Limits::exhausted`] for the next.
    pub exhausted: bool,
}

/// All transactions of a batch, and behind them a slice of what is to be deleted, in one write of the file.
pub(super) fn apply(
    database: &Database,
    limits: Limits,
    txns: &[Txn],
    slice: Option<&Slice>,
    changes: &mut Vec<Change>,
) -> Result<Applied, redb::Error> {
    let writing = database.begin_write()?;
    let mut outcomes = Vec::with_capacity(txns.len());
    let (cleared, exhausted);
    {
        let mut numbers = writing.open_table(NUMBERS)?;
        let number = |name| Ok::<_, redb::Error>(numbers.get(name)?.map_or(0, |n| n.value()));
        let mut batch = Batch {
            keys: writing.open_table(KEYS)?,
            revision: number(REVISION)?,
            used: number(USED)?,
            limits,
            changes,
        };
        for txn in txns {
            outcomes.push(batch.txn(txn)?);
        }
        cleared = slice.map(|slice| batch.clear(slice)).transpose()?;
        exhausted = batch.limits.exhausted;
        let (revision, used) = (batch.revision, batch.used);
        numbers.insert(REVISION, revision)?;
        numbers.insert(USED, used)?;
    }
    if changes.is_empty() {
        writing.abort()?;
    } else {
        writing.commit()?;
    }
    Ok(Applied {
        outcomes,
        cleared,
        exhausted,
    })
}

/// Keys and their records, in order.
type Rows<'a> = redb::Range<'a, &'static [u8], &'static [u8]>;

struct Batch<'a> {
    keys: redb::Table<'a, &'static [u8], &'static [u8]>,
    revision: u64,
    used: u64,
    limits: Limits,
    changes: &'a mut Vec<Change>,
}

impl Batch<'_> {
    fn txn(&mut self, txn: &Txn) -> Result<Result<Committed, Error>, redb::Error> {
        let mut outcome = Committed {
            held: false,
            revision: self.revision,
            deleted: 0,
        };
        for compare in &txn.compare {
            if !self.holds(compare)? {
                return Ok(Ok(outcome));
            }
        }
        outcome.held = true;
        if let Err(error) = self.has_room(txn)? {
            return Ok(Err(error));
        }
        let before = self.changes.len();
        let revision = self.revision + 1;
        for op in &txn.then {
            match op {
                Op::Put { key, value, lease } => self.put(revision, key, value, *lease)?,
                Op::Delete { start, end } => {
                    outcome.deleted += self.delete(revision, start, end)?
                }
            }
        }
        if self.changes.len() > before {
            self.revision = revision;
        }
        outcome.revision = self.revision;
        Ok(Ok(outcome))
    }

    fn holds(&self, compare: &Compare) -> Result<bool, redb::Error> {
        Ok(match compare {
            Compare::Absent(key) => self.keys.get(&key[..])?.is_none(),
            Compare::Modified(key, revision) => {
                let record = self.keys.get(&key[..])?;
                let head = record.and_then(|record| Head::read(record.value()));
                head.is_some_and(|head| head.modified == *revision)
            }
        })
    }

    /// What only deletes always finds room, and so does what replaces something that is as large: without that, a job that
    /// comes again and again would stand still. Q-scheduler-quota
    fn has_room(&mut self, txn: &Txn) -> Result<Result<(), Error>, redb::Error> {
        let puts = || {
            txn.then.iter().filter_map(|op| match op {
                Op::Put { key, value, .. } => Some((key, record::weight_of(key, value) + MARGIN)),
                Op::Delete { .. } => None,
            })
        };
        let most: u64 = puts().map(|(_, weight)| weight).sum();
        let Limits {
            quota,
            closed,
            exhausted,
        } = self.limits;
        if !closed && !exhausted && self.used.saturating_add(most) <= quota {
            return Ok(Ok(()));
        }
        let mut more = 0_u64;
        for (key, weight) in puts() {
            let known = self.keys.get(&key[..])?;
            let known = known.map_or(0, |record| record::weight(key, record.value()) + MARGIN);
            more += weight.saturating_sub(known);
        }
        Ok(if more == 0 {
            Ok(())
        } else if closed {
            Err(Error::Disk)
        } else if exhausted || self.used.saturating_add(more) > quota {
            self.limits.exhausted = true;
            Err(Error::Full)
        } else {
            Ok(())
        })
    }

    fn put(
        &mut self,
        revision: u64,
        key: &Bytes,
        value: &Bytes,
        lease: i64,
    ) -> Result<(), redb::Error> {
        let known = self.keys.get(&key[..])?.map(|record| {
            (
                Head::read(record.value()),
                record::weight(key, record.value()),
            )
        });
        let (head, weight) = known.unwrap_or_default();
        let record = Head {
            created: head.map_or(revision, |head| head.created),
            modified: revision,
            version: head.map_or(1, |head| head.version + 1),
            lease,
        }
        .with(value);
        self.keys.insert(&key[..], &record[..])?;
        self.used = self.used.saturating_sub(weight) + record::weight(key, &record);
        self.changes.push(Change {
            key: key.clone(),
            revision,
            value: Some(value.clone()),
        });
        Ok(())
    }

    fn delete(&mut self, revision: u64, start: &Bytes, end: &End) -> Result<usize, redb::Error> {
        let mut keys = Vec::new();
        if *end == End::Single {
            keys.push(start.clone());
        } else if let Some(rows) = self.rows(start, end)? {
            for row in rows {
                keys.push(Bytes::copy_from_slice(row?.0.value()));
            }
        }
        self.remove(revision, keys)
    }

    /// Deletes the first keys of a slice that are no newer than it.
    fn clear(&mut self, slice: &Slice) -> Result<Cleared, redb::Error> {
        let since = slice.since.unwrap_or(self.revision);
        let (mut keys, mut next) = (Vec::new(), None);
        if slice.end == End::Single {
            keys.push(slice.start.clone());
        } else if let Some(rows) = self.rows(&slice.start, &slice.end)? {
            for (read, row) in rows.enumerate() {
                let (key, record) = row?;
                let key = Bytes::copy_from_slice(key.value());
                if read == SLICE {
                    next = Some(key);
                    break;
                }
                if Head::read(record.value()).is_none_or(|head| head.modified <= since) {
                    keys.push(key);
                }
            }
        }
        let deleted = self.remove(self.revision + 1, keys)?;
        if deleted > 0 {
            self.revision += 1;
        }
        Ok(Cleared {
            deleted,
            since,
            revision: self.revision,
            next,
        })
    }

    fn rows(&self, start: &Bytes, end: &End) -> Result<Option<Rows<'_>>, redb::Error> {
        Ok(match end {
            End::Before(end) if end > start => Some(self.keys.range(&start[..]..&end[..])?),
            End::Single | End::Before(_) => None,
            End::Open => Some(self.keys.range(&start[..]..)?),
        })
    }

    fn remove(&mut self, revision: u64, keys: Vec<Bytes>) -> Result<usize, redb::Error> {
        let mut deleted = 0;
        for key in keys {
            let weight = self
                .keys
                .remove(&key[..])?
                .map(|record| record::weight(&key, record.value()));
            if let Some(weight) = weight {
                deleted += 1;
                self.limits.exhausted = false;
                self.used = self.used.saturating_sub(weight);
                self.changes.push(Change {
                    key,
                    revision,
                    value: None,
                });
            }
        }
        Ok(deleted)
    }
}

/// Keys of a slice. A job that is written meanwhile waits about as long as for a batch of others.
pub(super) const SLICE: usize = 2000;
