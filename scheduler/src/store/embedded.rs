//! The store in one file. A thread of its own takes all transactions that wait, writes them together and flushes once; only
//! then are they answered. When the disk is full, what was not written is refused, and the file opened again: deletions go on
//! in the room of a reserve, and all else when there is room again. After any other I/O error nothing is written any more, as
//! nobody knows what is on the disk.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use redb::{Database, StorageBackend, TableDefinition};
use tokio::sync::{mpsc, oneshot};

use super::{Change, Committed, Error, Txn};
use batch::{Limits, apply};
use leases::Leases;
use medium::{Failures, Folder, Medium, Watched};

mod answer;
mod batch;
mod leases;
mod medium;

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
    /// None while the disk has no room for it to be opened.
    database: RwLock<Option<Database>>,
    medium: Box<dyn Medium>,
    failures: RwLock<Arc<Failures>>,
    /// Nothing may become more: the disk was full, and nobody has seen room on it since.
    closed: AtomicBool,
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
        Self::on(Box::new(Folder::of(path)), quota)
    }

    fn on(medium: Box<dyn Medium>, quota: u64) -> anyhow::Result<(Self, Writer)> {
        let shared = Arc::new(Shared::open(medium, quota)?);
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

impl Shared {
    fn open(medium: Box<dyn Medium>, quota: u64) -> anyhow::Result<Self> {
        let shared = Self {
            database: RwLock::new(None),
            closed: AtomicBool::new(medium.reserve().is_err()),
            medium,
            failures: RwLock::default(),
            quota,
            watchers: Mutex::default(),
            leases: Leases::default(),
        };
        if shared.closed.load(Ordering::Relaxed) {
            tracing::error!("{}", Error::Disk);
        }
        let database = shared.database()?;
        *shared.database.write() = Some(database);
        Ok(shared)
    }

    /// The file, opened anew.
    fn database(&self) -> anyhow::Result<Database> {
        if !self.medium.is_made() {
            // One that was only begun when the program ended would never be opened again.
            drop(self.on(self.medium.draft()?)?);
            self.medium.finish()?;
        }
        self.on(self.medium.open()?)
    }

    fn on(&self, backend: Box<dyn StorageBackend>) -> anyhow::Result<Database> {
        let failures = Arc::new(Failures::default());
        *self.failures.write() = failures.clone();
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE);
        let database = builder.create_with_backend(Watched { backend, failures })?;
        let first = database.begin_write()?;
        first.open_table(KEYS)?;
        first.open_table(NUMBERS)?;
        first.commit()?;
        Ok(database)
    }

    /// The kind of failure that an error of the file is.
    fn failed(&self, error: impl std::error::Error + Send + Sync + 'static) -> Error {
        if self.failures.read().only_full() {
            Error::Disk
        } else {
            broken(error)
        }
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
    let mut room = Room::default();
    while waiting.blocking_recv_many(&mut batch, BATCH) > 0 {
        let (txns, replies): (Vec<_>, Vec<_>) = batch
            .drain(..)
            .map(|request| (request.txn, request.reply))
            .unzip();
        let mut changes = Vec::new();
        match room.write(shared, &txns, &mut changes) {
            Ok(outcomes) => {
                tell(shared, &changes);
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    // Who does not wait any more does not need to know.
                    let _ = reply.send(outcome);
                }
            }
            Err(error) => {
                for reply in replies {
                    let _ = reply.send(Err(error.clone()));
                }
                if !matches!(error, Error::Disk) {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// How the writer gets along with a disk that is full (Q-scheduler-disk).
#[derive(Default)]
struct Room {
    /// When room was looked for last, in vain.
    looked: Option<Instant>,
}

impl Room {
    fn write(
        &mut self,
        shared: &Shared,
        txns: &[Txn],
        changes: &mut Vec<Change>,
    ) -> Result<Vec<Result<Committed, Error>>, Error> {
        self.look(shared)?;
        for _ in 0..ATTEMPTS {
            let written = {
                let database = shared.database.read();
                let database = database.as_ref().ok_or(Error::Disk)?;
                let limits = Limits {
                    quota: shared.quota,
                    closed: shared.closed.load(Ordering::Acquire),
                };
                apply(database, limits, txns, changes)
            };
            match written.map_err(|error| shared.failed(error)) {
                Err(Error::Disk) => {
                    changes.clear();
                    self.make(shared)?;
                }
                written => return written,
            }
        }
        Err(Error::Disk)
    }

    /// Looks for room where there was none. An error other than that there is still none is one of the file.
    fn look(&mut self, shared: &Shared) -> Result<(), Error> {
        if !shared.closed.load(Ordering::Acquire)
            || self.looked.is_some_and(|looked| looked.elapsed() < LOOK)
        {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        if shared.database.read().is_none() {
            self.open(shared)?;
        }
        if shared.database.read().is_some() && shared.medium.reserve().is_ok() {
            tracing::info!("there is room on the disk of the store again");
            shared.closed.store(false, Ordering::Release);
            self.looked = None;
        }
        Ok(())
    }

    /// Behind a write that found no room: the file takes no more before it was opened again.
    fn make(&mut self, shared: &Shared) -> Result<(), Error> {
        if !shared.closed.swap(true, Ordering::AcqRel) {
            tracing::error!("{}", Error::Disk);
        }
        self.looked = Some(Instant::now());
        self.open(shared)
    }

    fn open(&self, shared: &Shared) -> Result<(), Error> {
        let mut database = shared.database.write();
        // The file is in use by nobody else for as long as one has it.
        *database = None;
        shared.medium.release();
        match shared.database() {
            Ok(opened) => *database = Some(opened),
            Err(_) if shared.failures.read().only_full() => {}
            Err(error) => {
                let error = error.context("the store cannot be opened again");
                return Err(Error::Broken(error.into_boxed_dyn_error().into()));
            }
        }
        Ok(())
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
/// How long a full disk is left alone before room is looked for again.
const LOOK: Duration = Duration::from_secs(1);
/// A write that finds no room is tried once more: what makes nothing larger has that of the reserve.
const ATTEMPTS: usize = 2;
/// What a key costs beside its bytes.
const MARGIN: u64 = 64;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;
