//! What the file lies on: it is opened, may be opened again, and keeps a reserve with which deletions go on when the disk is
//! full. It says what kind of failure there was: a disk without room gets better, and one that does not keep what it was
//! given must not be written to any more.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::ops::Bound;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;
use redb::backends::FileBackend;

/// Where a store lies.
pub(super) trait Medium: Send + Sync + 'static {
    /// Whether there is a file, which then was whole once.
    fn is_made(&self) -> bool;

    /// Begins a file, under no name that it is looked for by.
    fn draft(&self) -> anyhow::Result<Box<dyn StorageBackend>>;

    /// Gives the file that was begun its name, for good.
    fn finish(&self) -> io::Result<()>;

    /// Opens the file.
    fn open(&self) -> anyhow::Result<Box<dyn StorageBackend>>;

    /// Has the reserve there.
    ///
    /// # Errors
    /// When there is no room for it.
    fn reserve(&self) -> io::Result<()>;

    /// Gives the room of the reserve to the file.
    fn release(&self);

    /// Bytes of the file.
    fn size(&self) -> io::Result<u64>;
}

/// A file in a folder of ours.
pub(super) struct Folder {
    file: PathBuf,
    draft: PathBuf,
    reserve: PathBuf,
}

impl Folder {
    pub fn of(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            draft: file.with_extension("draft"),
            reserve: file.with_extension("reserve"),
        }
    }
}

impl Medium for Folder {
    fn is_made(&self) -> bool {
        self.file.exists()
    }

    fn draft(&self) -> anyhow::Result<Box<dyn StorageBackend>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.mode(PRIVATE).open(&self.draft)?;
        Ok(Box::new(FileBackend::new(file)?))
    }

    fn finish(&self) -> io::Result<()> {
        std::fs::rename(&self.draft, &self.file)?;
        // What a file keeps is worth as much as its name.
        let mut folders = self.file.ancestors().skip(1).take(FOLDERS);
        if let Some(own) = folders.next() {
            File::open(own)?.sync_all()?;
        }
        // Those above may be of others.
        for folder in folders {
            let _ = File::open(folder).and_then(|folder| folder.sync_all());
        }
        Ok(())
    }

    fn open(&self) -> anyhow::Result<Box<dyn StorageBackend>> {
        let file = OpenOptions::new().read(true).write(true).open(&self.file)?;
        Ok(Box::new(FileBackend::new(file)?))
    }

    fn reserve(&self) -> io::Result<()> {
        if std::fs::metadata(&self.reserve).is_ok_and(|known| known.len() == RESERVE) {
            return Ok(());
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        let mut file = options.mode(PRIVATE).open(&self.reserve)?;
        // Written, not only claimed: a hole takes no room.
        let zeros = vec![0; STEP];
        let written = (0..RESERVE / STEP as u64).try_for_each(|_| file.write_all(&zeros));
        let kept = written.and_then(|()| file.sync_all());
        if kept.is_err() {
            self.release();
        }
        kept
    }

    fn release(&self) {
        // If there is none, there is none to give.
        let _ = std::fs::remove_file(&self.reserve);
    }

    fn size(&self) -> io::Result<u64> {
        Ok(std::fs::metadata(&self.file)?.len())
    }
}

/// What has gone wrong since the file was opened.
#[derive(Debug, Default)]
pub(super) struct Failures {
    full: AtomicBool,
    broken: AtomicBool,
}

impl Failures {
    /// Nothing worse has happened than that there was no room.
    pub fn only_full(&self) -> bool {
        self.full.load(Ordering::Acquire) && !self.broken.load(Ordering::Acquire)
    }

    fn note(&self, error: &io::Error) {
        let full = matches!(
            error.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
        );
        let which = if full { &self.full } else { &self.broken };
        which.store(true, Ordering::Release);
    }
}

/// A backend that notes what goes wrong.
#[derive(Debug)]
pub(super) struct Watched {
    pub backend: Box<dyn StorageBackend>,
    pub failures: Arc<Failures>,
}

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.backend
            .len()
            .inspect_err(|error| self.failures.note(error))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let read = self.backend.read(offset, out);
        read.inspect_err(|error| self.failures.note(error))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let set = self.backend.set_len(len);
        set.inspect_err(|error| self.failures.note(error))
    }

    fn sync_data(&self) -> io::Result<()> {
        // Whatever the reason: what the system has thrown away is taken for written from then on.
        let synced = self.backend.sync_data();
        synced.inspect_err(|_| self.failures.broken.store(true, Ordering::Release))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let written = self.backend.write(offset, data);
        written.inspect_err(|error| self.failures.note(error))
    }

    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }

    fn try_lock_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, redb::BackendError> {
        self.backend.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, redb::BackendError> {
        self.backend.try_lock_shared_range(start, end)
    }

    fn query_lock_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, redb::BackendError> {
        self.backend.query_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), redb::BackendError> {
        self.backend.unlock_range(start, end)
    }
}

/// Bytes that are kept for a full disk: pages for some thousand deletions, which then free more.
const RESERVE: u64 = 4 << 20;
/// How much of it is written at a time.
const STEP: usize = 64 << 10;

/// Only its owner reads and writes.
const PRIVATE: u32 = 0o600;

/// Folders that may have been made for the file.
const FOLDERS: usize = 4;
