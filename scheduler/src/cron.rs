//! The engine at work: it drives the jobs that are this replica's, follows their changes, and does what the engine asks for.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use prost::Message as _;
use proto::scheduler::v1::WatchJobsResponse;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use values::Clock;

use crate::engine::{Effect, Engine, Save};
use crate::leadership::Leadership;
use crate::metrics::Metrics;
use crate::names::{self, COUNTERS, JOBS};
use crate::ownership::Owned;
use crate::routes::StreamId;
use crate::spec;
use crate::store::{self, Change, Compare, Op, Seen, Txn};
use streams::{Ended, Event};

pub(crate) mod reading;
mod streams;

pub(crate) use streams::{Joined, Streams};

/// The engine with its surroundings.
pub(crate) struct Cron {
    engine: Engine,
    store: store::Shared,
    leadership: Leadership,
    changes: store::Watch,
    /// The page of jobs that is being read. Changes wait: they tell nothing of how far a job has come.
    reading: Option<BoxFuture<'static, Result<reading::Page, store::Error>>>,
    /// Jobs that were written by somebody else than a scheduler, and may have come some way. Changes wait for them, too.
    counting: Option<BoxFuture<'static, Result<reading::Page, store::Error>>>,
    /// The revision that reading began at. What happened before is known.
    since: Option<u64>,
    events: mpsc::Receiver<Event>,
    ended: Arc<Ended>,
    streams: HashMap<StreamId, mpsc::Sender<WatchJobsResponse>>,
    /// What writes of this replica are compared with.
    fence: Option<Compare>,
    /// Until when jobs of others by now are waited for.
    grace: Instant,
    /// What is to be stored, and waits for its turn.
    saves: VecDeque<Save>,
    saving: FuturesUnordered<BoxFuture<'static, Saved>>,
    /// What could not be stored.
    unsaved: VecDeque<Save>,
    clock: Arc<dyn Clock>,
    health: Health,
}

/// What came of storing.
type Saved = (Save, Result<store::Committed, store::Error>);

/// What the engine says of itself.
pub(crate) struct Health {
    /// There is a store, and room in it.
    pub storing: daemon::Target,
    /// Jobs fire.
    pub firing: daemon::Target,
}

impl Cron {
    /// An engine that has no jobs before it runs.
    pub fn new(
        store: store::Shared,
        leadership: Leadership,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
        health: Health,
    ) -> (Self, Streams) {
        let (streams, events, ended) = Streams::new();
        let cron = Self {
            engine: Engine::new(metrics),
            leadership,
            changes: store.watch(JOBS),
            store,
            reading: None,
            counting: None,
            since: None,
            events,
            ended,
            streams: HashMap::new(),
            fence: None,
            grace: Instant::now(),
            saves: VecDeque::new(),
            saving: FuturesUnordered::new(),
            unsaved: VecDeque::new(),
            clock,
            health,
        };
        (cron, streams)
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
            // Whoever was paused finds its lease lost before it fires.
            if let Some(owned) = self.leadership.lapsed() {
                self.own(&owned);
            }
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
            let free = self.is_free();
            if !free {
                next = next.min(self.grace);
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                owned = self.leadership.next(), if free => self.own(&owned?),
                Some(page) = next_page(&mut self.reading) => self.read(page?),
                Some(page) = next_page(&mut self.counting) => self.counted(&page?),
                seen = self.changes.next(), if self.is_up_to_date() => match seen {
                    Some(Seen::Changes(changes)) => self.changed(changes),
                    Some(Seen::Resync) => self.resync(),
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
        // The store waits for whoever watches.
        drop(self.changes);
        // What is being stored is stored under the lease, or not at all.
        let last = async {
            while self.saving.next().await.is_some() {}
            self.leadership.resign().await;
        };
        if timeout(GRACE, last).await.is_err() {
            tracing::warn!("the lease of this replica ends by itself");
        }
        Ok(())
    }

    /// Whether the replica may go on to what it may drive next: what it may not drive any more is back.
    fn is_free(&mut self) -> bool {
        if self.engine.leaving() > 0 && Instant::now() >= self.grace {
            self.engine.abandon();
        }
        self.engine.leaving() == 0
    }

    fn own(&mut self, owned: &Owned) {
        self.fence = Some(self.leadership.fence(owned));
        self.engine.own(&owned.shares);
        self.grace = Instant::now() + GRACE;
        if owned.shares.is_empty() {
            self.health.firing.not_ready();
            self.reading = None;
            self.saves.clear();
            self.unsaved.clear();
        } else if owned.settled.is_some() {
            self.resync();
        }
    }

    /// Reads all jobs anew.
    fn resync(&mut self) {
        if self.engine.owns_any() {
            self.engine.begin_reading();
            self.since = None;
            self.reading = Some(reading::page(self.store.clone(), reading::first()).boxed());
        }
    }

    fn read(&mut self, page: reading::Page) {
        if self.since.is_none() {
            self.engine.forget_later(page.revision);
        }
        let since = *self.since.get_or_insert(page.revision);
        for job in &page.jobs {
            if let Some(name) = names::of_key(&job.key, JOBS) {
                let counter = page.counters.get(name);
                self.engine.read(name, job.modified, &job.value, counter);
            }
        }
        self.reading = match page.next {
            Some(next) => Some(reading::page(self.store.clone(), next).boxed()),
            None => {
                self.engine.end_reading(since);
                tracing::info!("{} jobs are this replica's", self.engine.len());
                self.health.storing.ready();
                self.health.firing.ready();
                None
            }
        };
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
            Event::Refused(stream, id) => self.engine.refused(now, stream, id),
        }
    }

    fn is_up_to_date(&self) -> bool {
        self.reading.is_none() && self.counting.is_none()
    }

    fn changed(&mut self, changes: Vec<Change>) {
        let old = self.clock.now().saturating_sub(NEW);
        let old = old.unwrap_or(Timestamp::MIN);
        let mut moved = Vec::new();
        for Change {
            key,
            revision,
            value,
        } in changes
        {
            let Some(name) = names::of_key(&key, JOBS) else {
                continue;
            };
            if self.since.is_some_and(|since| revision <= since) {
                continue;
            }
            match value {
                Some(value) if spec::begins(&value).is_some_and(|begin| begin < old) => {
                    moved.push(key);
                }
                // A job that is written new begins anew, whatever was counted under its name.
                Some(value) => self.engine.put(name, revision, &value, None),
                None => self.engine.remove(name, revision),
            }
        }
        if !moved.is_empty() {
            self.counting = Some(reading::keys(self.store.clone(), moved).boxed());
        }
    }

    fn counted(&mut self, page: &reading::Page) {
        for job in &page.jobs {
            if let Some(name) = names::of_key(&job.key, JOBS) {
                let counter = page.counters.get(name);
                self.engine.put(name, job.modified, &job.value, counter);
            }
        }
    }

    fn saved(
        &mut self,
        save: Save,
        outcome: Result<store::Committed, store::Error>,
    ) -> Result<(), store::Error> {
        match outcome {
            Ok(done) if done.held => {
                self.is_stored();
                self.engine.saved(save.slot, save.revision);
            }
            // The job has changed, of which the watch tells, or this replica's record, of which the leadership does.
            Ok(_) => self.unsaved.push_back(save),
            Err(error) if error.is_passing() => {
                if self.unsaved.is_empty() {
                    tracing::error!("jobs that ran cannot be counted, and go no further: {error}");
                }
                self.health.storing.not_ready();
                self.unsaved.push_back(save);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Something has been stored, or need not be any more.
    fn is_stored(&self) {
        if self.unsaved.is_empty() && self.reading.is_none() && self.engine.owns_any() {
            self.health.storing.ready();
        }
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
            if !self.engine.knows(save.slot, save.revision) {
                self.is_stored();
                continue;
            }
            let (store, fence) = (self.store.clone(), self.fence.clone());
            self.saving.push(Box::pin(async move {
                let outcome = store.commit(transaction(&save, fence)).await;
                (save, outcome)
            }));
        }
    }
}

/// What is written only if the job is still the same; one that was replaced has its own counter.
fn transaction(save: &Save, fence: Option<Compare>) -> Txn {
    let job = Bytes::from(format!("{JOBS}{}", save.name));
    let counter = Bytes::from(format!("{COUNTERS}{}", save.name));
    let job_is_same = Compare::Modified(job.clone(), save.revision);
    let compare = std::iter::once(job_is_same).chain(fence).collect();
    let then = match &save.counter {
        Some(value) => vec![Op::put(counter, value.encode_to_vec())],
        None => vec![Op::delete(counter), Op::delete(job)],
    };
    Txn { compare, then }
}

/// The page that is being read, if one is.
async fn next_page(
    reading: &mut Option<BoxFuture<'static, Result<reading::Page, store::Error>>>,
) -> Option<Result<reading::Page, store::Error>> {
    let page = reading.as_mut()?.await;
    *reading = None;
    Some(page)
}

/// Events that are taken before jobs fire again.
const EVENTS_AT_ONCE: usize = 1024;

/// A job that is written by a scheduler begins at that time, or later, as far as clocks agree.
const NEW: Duration = Duration::from_secs(10);

/// Jobs that are being stored at a time.
const SAVING: usize = 8192;

/// The clock of the machine may be set: it is looked at this often.
const SWEEP: Duration = Duration::from_secs(1);

/// What is out when its job becomes another replica's is waited for so long; whoever takes longer may see it there again.
const GRACE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
