//! The store in one file. A thread of its own takes all transactions that wait, writes them together and flushes once; only
//! then are they answered. When the disk is full, what was not written is refused, and the file opened again: deletions go on
//! in the room of a reserve, and all else when there is room again. After any other I/O error nothing is written any more, as
//! nobody knows what is on the disk.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};
use redb::{Database, StorageBackend, TableDefinition};
use tokio::sync::mpsc;

use super::{Change, Error};
use leases::Leases;
use medium::{Failures, Folder, Medium, Watched};
use writer::{Request, write};

mod answer;
mod batch;
mod leases;
mod medium;
mod writer;

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
    /// Nothing may become more: something was refused because of the quota, and nothing has been deleted since.
    exhausted: AtomicBool,
    quota: u64,
    watchers: Mutex<Vec<(String, mpsc::Sender<Vec<Change>>)>>,
    leases: Leases,
}

/// The thread that writes. It ends when the last [`Embedded`] is dropped.
pub(crate) struct Writer(JoinHandle<Result<(), Error>>);

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
            exhausted: AtomicBool::new(false),
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

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Broken(Arc::new(error))
}

/// Requests that wait.
const REQUESTS: usize = 8192;
/// Batches that a watcher is behind.
const BATCHES: usize = 16;
/// Pages of the file that are kept in memory, in bytes.
const CACHE: usize = 32 << 20;
/// What a key costs beside its bytes.
const MARGIN: u64 = 64;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;
