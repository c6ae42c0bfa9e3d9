//! Where the streams of sidecars meet the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use prost::Message as _;
use proto::scheduler::v1::{
    WatchJobsRequestInitial, WatchJobsRequestResultStatus, WatchJobsResponse,
};
use tokio::sync::{Notify, mpsc};

use crate::routes::{MESSAGES, StreamId};

/// Where streams meet the engine. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Streams {
    events: mpsc::Sender<Event>,
    ended: Arc<Ended>,
}

/// Streams that have ended, and were not heard of yet.
#[derive(Default)]
pub(super) struct Ended {
    pub streams: Mutex<Vec<StreamId>>,
    next: AtomicU64,
    pub notify: Notify,
}

/// What a stream says.
pub(super) enum Event {
    Began(
        StreamId,
        Box<WatchJobsRequestInitial>,
        mpsc::Sender<WatchJobsResponse>,
    ),
    Taken(StreamId, usize, usize),
    Result(StreamId, u64, WatchJobsRequestResultStatus),
    Refused(StreamId, u64),
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
    /// What the engine hears of them.
    pub(super) fn new() -> (Self, mpsc::Receiver<Event>, Arc<Ended>) {
        let (events, receiver) = mpsc::channel(EVENTS);
        let ended = Arc::<Ended>::default();
        let streams = Self {
            events,
            ended: ended.clone(),
        };
        (streams, receiver, ended)
    }

    /// A sidecar takes jobs from now on. `None` when the program stops.
    pub async fn join(&self, initial: WatchJobsRequestInitial) -> Option<Joined> {
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

    /// A job comes back, and no other is to be sent. Of the id 0 it is none.
    pub async fn refused(&self, id: u64) {
        let event = Event::Refused(self.id, id);
        let _ = self.streams.events.send(event).await;
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.streams.ended.streams.lock().push(self.id);
        self.streams.ended.notify.notify_one();
    }
}

/// Events of streams that wait.
const EVENTS: usize = 8192;

/// A stream says after so many messages or bytes that it has room again.
const REPORT: usize = 256;
const REPORT_BYTES: usize = 1 << 20;
