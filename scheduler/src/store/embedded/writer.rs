//! The thread that writes: it takes all transactions that wait, and flushes once. What deletes many keys is cut into slices,
//! and others write between them.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::batch::{Applied, Cleared, Limits, Slice, apply};
use crate::store::{Change, Committed, End, Error, Txn};

/// How a request is answered.
type Reply = oneshot::Sender<Result<Committed, Error>>;

/// What is asked of the thread.
pub(super) enum Request {
    Commit(Txn, Reply),
    Clear(Clear),
}

/// Ranges whose keys are deleted.
pub(super) struct Clear {
    /// What comes next; nothing where there is nothing to do.
    slice: Option<Slice>,
    ranges: VecDeque<(Bytes, End)>,
    deleted: usize,
    reply: Reply,
}

impl Clear {
    pub fn new(ranges: Vec<(Bytes, End)>, reply: Reply) -> Self {
        let mut ranges = VecDeque::from(ranges);
        Self {
            slice: ranges.pop_front().map(|range| Slice::new(range, None)),
            ranges,
            deleted: 0,
            reply,
        }
    }

    /// A slice has been deleted. What is left; nothing once it is answered.
    fn went_on(mut self, cleared: Option<Cleared>) -> Option<Self> {
        let mut revision = 0;
        if let (Some(cleared), Some(slice)) = (cleared, self.slice.take()) {
            self.deleted += cleared.deleted;
            revision = cleared.revision;
            let rest = cleared.next.map(|next| (next, slice.end));
            let next = rest.or_else(|| self.ranges.pop_front());
            self.slice = next.map(|range| Slice::new(range, Some(cleared.since)));
        }
        if self.slice.is_some() {
            return Some(self);
        }
        let _ = self.reply.send(Ok(Committed {
            held: true,
            revision,
            deleted: self.deleted,
        }));
        None
    }
}

/// Writes what waits until nobody can ask any more.
pub(super) fn write(shared: &Shared, mut waiting: mpsc::Receiver<Request>) -> Result<(), Error> {
    let mut batch = Vec::new();
    let mut clears = VecDeque::<Clear>::new();
    let mut room = Room::default();
    loop {
        if clears.is_empty() {
            if waiting.blocking_recv_many(&mut batch, BATCH) == 0 {
                return Ok(());
            }
        } else {
            let more = std::iter::from_fn(|| waiting.try_recv().ok());
            batch.extend(more.take(BATCH));
        }
        let (mut txns, mut replies) = (Vec::new(), Vec::new());
        for request in batch.drain(..) {
            match request {
                Request::Commit(txn, reply) => {
                    txns.push(txn);
                    replies.push(reply);
                }
                Request::Clear(clear) => clears.push_back(clear),
            }
        }
        let mut changes = Vec::new();
        let slice = clears.front().and_then(|clear| clear.slice.as_ref());
        match room.write(shared, &txns, slice, &mut changes) {
            Ok(applied) => {
                tell(shared, &changes);
                for (reply, outcome) in replies.into_iter().zip(applied.outcomes) {
                    // Who does not wait any more does not need to know.
                    let _ = reply.send(outcome);
                }
                if let Some(clear) = clears.pop_front()
                    && let Some(left) = clear.went_on(applied.cleared)
                {
                    clears.push_front(left);
                }
            }
            Err(error) => {
                let all = replies.into_iter();
                for reply in all.chain(clears.pop_front().map(|clear| clear.reply)) {
                    let _ = reply.send(Err(error.clone()));
                }
                if !matches!(error, Error::Disk) {
                    return Err(error);
                }
            }
        }
    }
}

/// How the writer gets along with a disk that is full (Q-scheduler-disk).
#[derive(Default)]
pub(super) struct Room {
    /// When room was looked for last, in vain.
    pub looked: Option<Instant>,
    /// When it was last told that the quota is reached: under load it is, and is not, many times a second.
    told: Option<Instant>,
}

impl Room {
    /// Writes a batch, and a slice behind it.
    pub fn write(
        &mut self,
        shared: &Shared,
        txns: &[Txn],
        slice: Option<&Slice>,
        changes: &mut Vec<Change>,
    ) -> Result<Applied, Error> {
        self.look(shared)?;
        for _ in 0..ATTEMPTS {
            let written = {
                let database = shared.database.read();
                let database = database.as_ref().ok_or(Error::Disk)?;
                let limits = Limits {
                    quota: shared.quota,
                    closed: shared.closed.load(Ordering::Acquire),
                    exhausted: shared.exhausted.load(Ordering::Acquire),
                };
                apply(database, limits, txns, slice, changes)
            };
            match written.map_err(|error| shared.failed(error)) {
                Err(Error::Disk) => {
                    changes.clear();
                    self.make(shared)?;
                }
                Ok(applied) => {
                    let exhausted = applied.exhausted;
                    if !shared.exhausted.swap(exhausted, Ordering::AcqRel) && exhausted {
                        self.tell_exhausted(shared.quota);
                    }
                    return Ok(applied);
                }
                failed @ Err(_) => return failed,
            }
        }
        Err(Error::Disk)
    }

    fn tell_exhausted(&mut self, quota: u64) {
        if self.told.is_some_and(|told| told.elapsed() < TELL) {
            return;
        }
        self.told = Some(Instant::now());
        tracing::error!(
            "the store has reached its quota of {quota} bytes: nothing new is taken until something is deleted"
        );
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

/// Transactions that are flushed together.
const BATCH: usize = 4096;
/// How often it is told that the quota is reached, at most.
const TELL: Duration = Duration::from_secs(60);
/// How long a full disk is left alone before room is looked for again.
const LOOK: Duration = Duration::from_secs(1);
/// A write that finds no room is tried once more: what makes nothing larger has that of the reserve.
const ATTEMPTS: usize = 2;
