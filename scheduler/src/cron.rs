//! The engine at work: it reads all jobs from the store, follows their changes, and does what the engine asks for.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use parking_lot::Mutex;
use prost::Message as _;
use proto::cron::Counter;
use proto::scheduler::v1::{
    WatchJobsRequestInitial, WatchJobsRequestResultStatus, WatchJobsResponse,
};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use values::Clock;

use crate::engine::{Effect, Engine, Save};
use crate::metrics::Metrics;
use crate::names::{self, COUNTERS, JOBS};
use crate::routes::{MESSAGES, StreamId};
use crate::store::{self, Change, Compare, Op, Range, Txn};

/// Where streams meet the engine. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Streams {
    events: mpsc::Sender<Event>,
    ended: Arc<Ended>,
}

#[derive(Default)]
struct Ended {
    streams: Mutex<Vec<StreamId>>,
    next: std::sync::atomic::AtomicU64,
    notify: Notify,
}

enum Event {
    Began(
        StreamId,
        Box<WatchJobsRequestInitial>,
        mpsc::Sender<WatchJobsResponse>,
    ),
    Taken(StreamId, usize, usize),
    Result(StreamId, u64, WatchJobsRequestResultStatus),
}

/// A stream's place with the engine, given up when it is dropped.
pub(crate) struct Joined {
    id: StreamId,
    streams: Streams,
    messages: mpsc::Receiver<WatchJobsResponse>,
    /// What was passed on and is not reported yet.
    taken: (usize, usize),
}

impl Streams {
    /// A sidecar takes jobs from now on. `None` when the program stops.
    pub async fn join(&self, initial: WatchJobsRequestInitial) -> Option<Joined> {
        use std::sync::atomic::Ordering;
        let id = self.ended.next.fetch_add(1, Ordering::Relaxed);
        let (sender, messages) = mpsc::channel(MESSAGES);
        let joined = Joined {
            id,
            streams: self.clone(),
            messages,
            taken: (0, 0),
        };
        let event = Event::Began(id, Box::new(initial), sender);
        self.events.send(event).await.ok()?;
        Some(joined)
    }
}

impl Joined {
    /// The next job to send; `None` when the program stops. Nothing is lost where it is broken off.
    pub async fn next(&mut self) -> Option<WatchJobsResponse> {
        let (messages, bytes) = self.taken;
        if messages >= REPORT || bytes >= REPORT_BYTES || messages > 0 && self.messages.is_empty() {
            let place = self.streams.events.reserve().await.ok()?;
            place.send(Event::Taken(self.id, messages, bytes));
            self.taken = (0, 0);
        }
        let message = self.messages.recv().await?;
        self.taken.0 += 1;
        self.taken.1 += message.encoded_len();
        Some(message)
    }

    /// What became of a job.
    pub async fn result(&self, id: u64, status: WatchJobsRequestResultStatus) {
        let event = Event::Result(self.id, id, status);
        // The engine ends with the program only.
        let _ = self.streams.events.send(event).await;
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.streams.ended.streams.lock().push(self.id);
        self.streams.ended.notify.notify_one();
    }
}

/// The engine with its surroundings.
pub(crate) struct Cron {
    engine: Engine,
    store: store::Shared,
    changes: store::Watch,
    events: mpsc::Receiver<Event>,
    ended: Arc<Ended>,
    streams: HashMap<StreamId, mpsc::Sender<WatchJobsResponse>>,
    /// What is to be stored, and waits for its turn.
    saves: VecDeque<Save>,
    saving: FuturesUnordered<BoxFuture<'static, (Save, Result<(), store::Error>)>>,
    /// What found no room in the store.
    unsaved: VecDeque<Save>,
    clock: Arc<dyn Clock>,
    storing: daemon::Target,
}

impl Cron {
    /// An engine with every job of the store. `storing` says whether there is room in it.
    ///
    /// # Errors
    /// What reading the store gives.
    pub async fn load(
        store: store::Shared,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
        storing: daemon::Target,
    ) -> Result<(Self, Streams), store::Error> {
        let mut engine = Engine::new(metrics);
        let changes = store.watch(JOBS);
        let mut range = Range {
            limit: Some(PAGE),
            ..Range::prefix(JOBS)
        };
        loop {
            let page = store.range(range.clone()).await?;
            let Some(last) = page.entries.last() else {
                break;
            };
            range.start = [&last.key[..], b"\0"].concat().into();
            let mut counters = counters(&store, &page.entries).await?;
            for entry in &page.entries {
                if let Some(name) = names::of_key(&entry.key, JOBS) {
                    let counter = counters.remove(name);
                    engine.put(name, entry.modified, &entry.value, counter.as_ref());
                }
            }
            if !page.more {
                break;
            }
        }
        tracing::info!("{} jobs are stored", engine.len());
        storing.ready();
        let (sender, events) = mpsc::channel(EVENTS);
        let ended = Arc::new(Ended::default());
        let streams = Streams {
            events: sender,
            ended: ended.clone(),
        };
        let cron = Self {
            engine,
            store,
            changes,
            events,
            ended,
            streams: HashMap::new(),
            saves: VecDeque::new(),
            saving: FuturesUnordered::new(),
            unsaved: VecDeque::new(),
            clock,
            storing,
        };
        Ok((cron, streams))
    }

    /// Fires jobs until shutdown.
    ///
    /// # Errors
    /// When the store breaks.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), store::Error> {
        let ended = self.ended.clone();
        let mut events = Vec::new();
        let mut swept = Instant::now();
        loop {
            let now = self.clock.now();
            let mut next = swept + SWEEP;
            if let Some(due) = self.engine.advance(now) {
                let pause = Duration::try_from(due.duration_since(now)).unwrap_or_default();
                next = next.min(Instant::now() + pause.min(SWEEP));
            }
            if Instant::now() >= swept + SWEEP {
                swept = Instant::now();
                self.engine.sweep(now);
                self.saves.append(&mut self.unsaved);
            }
            self.bring_about();
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                changes = self.changes.recv() => match changes {
                    Some(changes) => self.changed(changes),
                    None => return Err(store::Error::Closed),
                },
                Some((save, outcome)) = self.saving.next() => self.saved(save, outcome)?,
                () = ended.notify.notified() => {
                    let now = self.clock.now();
                    for stream in std::mem::take(&mut *ended.streams.lock()) {
                        self.streams.remove(&stream);
                        self.engine.disconnect(now, stream);
                    }
                }
                1.. = self.events.recv_many(&mut events, EVENTS_AT_ONCE) => {
                    let now = self.clock.now();
                    for event in events.drain(..) {
                        self.take(now, event);
                    }
                }
                () = sleep_until(next) => {}
            }
        }
    }

    fn take(&mut self, now: Timestamp, event: Event) {
        match event {
            Event::Began(stream, initial, messages) => {
                if !messages.is_closed() {
                    self.streams.insert(stream, messages);
                    self.engine.connect(now, stream, &initial);
                }
            }
            Event::Taken(stream, messages, bytes) => {
                self.engine.taken(now, stream, messages, bytes);
            }
            Event::Result(stream, id, status) => self.engine.result(now, stream, id, status),
        }
    }

    fn changed(&mut self, changes: Vec<Change>) {
        for Change {
            key,
            revision,
            value,
        } in changes
        {
            let Some(name) = names::of_key(&key, JOBS) else {
                continue;
            };
            match value {
                // A job that is written new begins anew, whatever was counted under its name.
                Some(value) => self.engine.put(name, revision, &value, None),
                None => self.engine.remove(name, revision),
            }
        }
    }

    fn saved(&mut self, save: Save, outcome: Result<(), store::Error>) -> Result<(), store::Error> {
        match outcome {
            Ok(()) => {
                if self.unsaved.is_empty() {
                    self.storing.ready();
                }
                self.engine.saved(save.slot, save.revision);
            }
            Err(store::Error::Full) => {
                if self.unsaved.is_empty() {
                    tracing::error!(
                        "the store is full: jobs that ran cannot be counted, and go no further"
                    );
                }
                self.storing.not_ready();
                self.unsaved.push_back(save);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn bring_about(&mut self) {
        while let Some(effect) = self.engine.effect() {
            match effect {
                Effect::Send(stream, message) => {
                    if let Some(messages) = self.streams.get(&stream) {
                        // The engine knows the room; a stream that is gone is about to be told of.
                        let _ = messages.try_send(message);
                    }
                }
                Effect::Save(save) => self.saves.push_back(save),
            }
        }
        while self.saving.len() < SAVING {
            let Some(save) = self.saves.pop_front() else {
                break;
            };
            let store = self.store.clone();
            self.saving.push(Box::pin(async move {
                let outcome = store.commit(transaction(&save)).await;
                (save, outcome.map(drop))
            }));
        }
    }
}

/// What is written only if the job is still the same; one that was replaced has its own counter.
fn transaction(save: &Save) -> Txn {
    let job = Bytes::from(format!("{JOBS}{}", save.name));
    let counter = Bytes::from(format!("{COUNTERS}{}", save.name));
    let compare = vec![Compare::Modified(job.clone(), save.revision)];
    let then = match &save.counter {
        Some(value) => vec![Op::put(counter, value.encode_to_vec())],
        None => vec![Op::delete(counter), Op::delete(job)],
    };
    Txn { compare, then }
}

/// The counters of a page of jobs, by name.
async fn counters(
    store: &store::Shared,
    jobs: &[store::Entry],
) -> Result<HashMap<String, Counter>, store::Error> {
    let name = |job: Option<&store::Entry>| {
        let name = job.and_then(|job| names::of_key(&job.key, JOBS));
        format!("{COUNTERS}{}", name.unwrap_or_default())
    };
    let range = Range {
        start: name(jobs.first()).into(),
        end: store::End::Before(format!("{}\0", name(jobs.last())).into()),
        limit: None,
        keys_only: false,
    };
    let page = store.range(range).await?;
    let read = page.entries.iter().filter_map(|entry| {
        let name = names::of_key(&entry.key, COUNTERS)?;
        Some((name.to_owned(), Counter::decode(&entry.value[..]).ok()?))
    });
    Ok(read.collect())
}

/// Events of streams that wait,
const EVENTS: usize = 8192;
/// and how many are taken before jobs fire again.
const EVENTS_AT_ONCE: usize = 1024;

/// Jobs that are being stored at a time.
const SAVING: usize = 8192;

/// Jobs that are read at a time.
const PAGE: usize = 1000;

/// The clock of the machine may be set: it is looked at this often.
const SWEEP: Duration = Duration::from_secs(1);

/// A stream says after so many messages or bytes that it has room again.
const REPORT: usize = 256;
const REPORT_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests;
