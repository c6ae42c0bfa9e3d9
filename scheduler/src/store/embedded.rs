//! The store in one file. A thread of its own takes all transactions that wait, writes them together and flushes once; only
//! then are they answered. After an I/O error nothing is written any more, as nobody knows what is on the disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use redb::{Database, ReadableTable as _, TableDefinition};
use tokio::sync::{mpsc, oneshot};

use super::record::{self, Head};
use super::{Change, Committed, Compare, End, Error, Op, Txn};
use leases::Leases;

mod answer;
mod leases;

/// Where the keys are.
const KEYS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("keys");
/// The last revision, and the bytes that are used.
const NUMBERS: TableDefinition<'static, &str, u64> = TableDefinition::new("numbers");
const REVISION: &str = "revision";
const USED: &str = "used";

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Embedded {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
}

struct Shared {
    database: Database,
    path: PathBuf,
    quota: u64,
    watchers: Mutex<Vec<(String, mpsc::Sender<Vec<Change>>)>>,
    leases: Leases,
}

/// The thread that writes. It ends when the last [`Embedded`] is dropped.
pub(crate) struct Writer(JoinHandle<Result<(), Error>>);

struct Request {
    txn: Txn,
    reply: oneshot::Sender<Result<Committed, Error>>,
}

impl Embedded {
    /// Opens the file, or makes it. It holds no more than `quota` bytes of keys and values.
    ///
    /// # Errors
    /// For a file that cannot be opened, is in use, or is of something else.
    pub fn open(path: &Path, quota: u64) -> anyhow::Result<(Self, Writer)> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE);
        let database = builder.create(path)?;
        let first = database.begin_write()?;
        first.open_table(KEYS)?;
        first.open_table(NUMBERS)?;
        first.commit()?;
        let shared = Arc::new(Shared {
            database,
            path: path.to_owned(),
            quota,
            watchers: Mutex::default(),
            leases: Leases::default(),
        });
        let (requests, waiting) = mpsc::channel(REQUESTS);
        let writer = shared.clone();
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || write(&writer, waiting))?;
        Ok((Self { shared, requests }, Writer(thread)))
    }

    /// The leases there are.
    pub fn leases(&self) -> Vec<i64> {
        self.shared.leases.list()
    }
}

impl Writer {
    /// Waits for the end of the thread; why it ended early.
    pub async fn ended(self) -> Result<(), Error> {
        let joined = tokio::task::spawn_blocking(move || self.0.join()).await;
        match joined {
            Ok(Ok(ended)) => ended,
            _ => Err(Error::Closed),
        }
    }
}

/// Writes what waits until nobody can ask any more.
fn write(shared: &Shared, mut waiting: mpsc::Receiver<Request>) -> Result<(), Error> {
    let mut batch = Vec::new();
    while waiting.blocking_recv_many(&mut batch, BATCH) > 0 {
        let (txns, replies): (Vec<_>, Vec<_>) = batch
            .drain(..)
            .map(|request| (request.txn, request.reply))
            .unzip();
        let mut changes = Vec::new();
        match apply(shared, &txns, &mut changes) {
            Ok(outcomes) => {
                tell(shared, &changes);
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    // Who does not wait any more does not need to know.
                    let _ = reply.send(outcome);
                }
            }
            Err(error) => {
                let error = broken(error);
                for reply in replies {
                    let _ = reply.send(Err(error.clone()));
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

/// All transactions of a batch in one write of the file.
fn apply(
    shared: &Shared,
    txns: &[Txn],
    changes: &mut Vec<Change>,
) -> Result<Vec<Result<Committed, Error>>, redb::Error> {
    let writing = shared.database.begin_write()?;
    let mut outcomes = Vec::with_capacity(txns.len());
    {
        let mut numbers = writing.open_table(NUMBERS)?;
        let number = |name| Ok::<_, redb::Error>(numbers.get(name)?.map_or(0, |n| n.value()));
        let mut batch = Batch {
            keys: writing.open_table(KEYS)?,
            revision: number(REVISION)?,
            used: number(USED)?,
            quota: shared.quota,
            changes,
        };
        for txn in txns {
            outcomes.push(batch.txn(txn)?);
        }
        let (revision, used) = (batch.revision, batch.used);
        numbers.insert(REVISION, revision)?;
        numbers.insert(USED, used)?;
    }
    if changes.is_empty() {
        writing.abort()?;
    } else {
        writing.commit()?;
    }
    Ok(outcomes)
}

struct Batch<'a> {
    keys: redb::Table<'a, &'static [u8], &'static [u8]>,
    revision: u64,
    used: u64,
    quota: u64,
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
        if !self.has_room(txn) {
            return Ok(Err(Error::Full));
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

    /// What only deletes always finds room.
    fn has_room(&self, txn: &Txn) -> bool {
        let puts = txn.then.iter().map(|op| match op {
            Op::Put { key, value, .. } => (key.len() + value.len()) as u64 + MARGIN,
            Op::Delete { .. } => 0,
        });
        let more: u64 = puts.sum();
        more == 0 || self.used.saturating_add(more) <= self.quota
    }

    fn put(
        &mut self,
        revision: u64,
        key: &bytes::Bytes,
        value: &bytes::Bytes,
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

    fn delete(
        &mut self,
        revision: u64,
        start: &bytes::Bytes,
        end: &End,
    ) -> Result<usize, redb::Error> {
        let keys = match end {
            End::Single => vec![start.clone()],
            End::Before(end) if end <= start => Vec::new(),
            End::Before(end) => self.listed(self.keys.range(&start[..]..&end[..])?)?,
            End::Open => self.listed(self.keys.range(&start[..]..)?)?,
        };
        let mut deleted = 0;
        for key in keys {
            let weight = self
                .keys
                .remove(&key[..])?
                .map(|record| record::weight(&key, record.value()));
            if let Some(weight) = weight {
                deleted += 1;
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

    fn listed(
        &self,
        rows: redb::Range<'_, &'static [u8], &'static [u8]>,
    ) -> Result<Vec<bytes::Bytes>, redb::Error> {
        rows.map(|row| Ok(bytes::Bytes::copy_from_slice(row?.0.value())))
            .collect()
    }
}

/// Tells the watchers; one that is slow is waited for, so that none misses anything.
fn tell(shared: &Shared, changes: &[Change]) {
    let watchers = shared.watchers.lock().clone();
    for (prefix, watcher) in &watchers {
        let wanted = |change: &&Change| change.key.starts_with(prefix.as_bytes());
        let wanted: Vec<_> = changes.iter().filter(wanted).cloned().collect();
        if !wanted.is_empty() && watcher.blocking_send(wanted).is_err() {
            shared
                .watchers
                .lock()
                .retain(|(_, watcher)| !watcher.is_closed());
        }
    }
}

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Broken(Arc::new(error))
}

/// Transactions that wait,
const REQUESTS: usize = 8192;
/// and how many of them are flushed together.
const BATCH: usize = 4096;
/// Batches that a watcher is behind.
const BATCHES: usize = 16;
/// Pages of the file that are kept in memory, in bytes.
const CACHE: usize = 32 << 20;
/// What a key costs beside its bytes.
const MARGIN: u64 = 64;

#[cfg(test)]
mod tests;
