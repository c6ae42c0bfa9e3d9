//! Streaming subscriptions: events go out on a channel, acknowledgements come back by event id. The transport is the API's.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use proto::runtime::v1::TopicEventRequest;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::outcome::Failure;

/// What a stream subscribes to.
#[derive(Clone, Debug, Default)]
pub struct StreamRequest {
    pub pubsub: String,
    pub topic: String,
    pub metadata: BTreeMap<String, String>,
    /// Empty for none.
    pub dead_letter_topic: String,
}

/// The app's end of a streaming subscription. Dropping it ends the subscription; what is unacknowledged goes back to the
/// broker.
pub struct Streaming {
    pub(crate) events: mpsc::Receiver<TopicEventRequest>,
    pub(crate) session: Arc<Session>,
    /// Takes the subscription out again.
    pub(crate) withdraw: Box<dyn Fn() + Send + Sync>,
}

impl Streaming {
    /// The next event; nothing once the subscription is over, because its component is gone or the sidecar shuts down.
    pub async fn next(&mut self) -> Option<TopicEventRequest> {
        tokio::select! {
            biased;
            () = self.session.closed.cancelled() => None,
            event = self.events.recv() => event,
        }
    }

    /// Takes the app's answer to an event: a `TopicEventResponseStatus`. Answers to unknown events are ignored.
    pub fn acknowledge(&self, id: &str, status: i32) {
        if !self.session.answer(id, status) {
            tracing::error!(target: "dapr.runtime.pubsub.streamer", "no event {id} waits for a response on this stream");
        }
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.session.closed.cancel();
        (self.withdraw)();
    }
}

/// The engine's end of a streaming subscription.
pub struct Session {
    events: mpsc::Sender<TopicEventRequest>,
    /// By event id; the same id may be under way more than once.
    waiting: Mutex<HashMap<String, VecDeque<oneshot::Sender<i32>>>>,
    closed: CancellationToken,
}

impl Session {
    pub fn new() -> (Arc<Self>, mpsc::Receiver<TopicEventRequest>) {
        let (events, receiver) = mpsc::channel(MOST_QUEUED);
        let session = Self {
            events,
            waiting: Mutex::default(),
            closed: CancellationToken::new(),
        };
        (Arc::new(session), receiver)
    }

    /// Sends an event and waits for its answer, as long as the caller does.
    pub async fn deliver(&self, event: TopicEventRequest) -> Result<i32, Failure> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting {
            session: self,
            id: event.id.clone(),
        };
        self.waiting
            .lock()
            .entry(event.id.clone())
            .or_default()
            .push_back(answer);
        let exchange = async {
            self.events.send(event).await.ok()?;
            answered.await.ok()
        };
        let status = self.closed.run_until_cancelled(exchange).await.flatten();
        drop(waiting);
        status.ok_or_else(|| Failure::new("stream closed"))
    }

    pub fn close(&self) {
        self.closed.cancel();
    }

    pub fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }

    fn answer(&self, id: &str, status: i32) -> bool {
        let mut waiting = self.waiting.lock();
        let Some(queue) = waiting.get_mut(id) else {
            return false;
        };
        while let Some(answer) = queue.pop_front() {
            if answer.send(status).is_ok() {
                return true;
            }
        }
        false
    }
}

/// Takes the place back where nobody waits any more.
struct Waiting<'s> {
    session: &'s Session,
    id: String,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.session.waiting.lock();
        if let Some(queue) = waiting.get_mut(&self.id) {
            queue.retain(|answer| !answer.is_closed());
            if queue.is_empty() {
                waiting.remove(&self.id);
            }
        }
    }
}

/// Events that wait for the transport; the rest stays with the broker.
const MOST_QUEUED: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str) -> TopicEventRequest {
        TopicEventRequest {
            id: id.into(),
            ..TopicEventRequest::default()
        }
    }

    #[tokio::test]
    async fn answers_find_their_event() {
        let (session, mut events) = Session::new();
        let app = async {
            let first = events.recv().await.unwrap();
            let second = events.recv().await.unwrap();
            assert!(!session.answer("unknown", 0));
            assert!(session.answer(&second.id, 2));
            assert!(session.answer(&first.id, 1));
        };
        let (a, b, ()) = tokio::join!(
            session.deliver(event("a")),
            session.deliver(event("b")),
            app
        );
        assert_eq!((a.unwrap(), b.unwrap()), (1, 2));
        assert!(session.waiting.lock().is_empty());
    }

    #[tokio::test]
    async fn closing_ends_every_wait() {
        let (session, _events) = Session::new();
        let (answer, ()) = tokio::join!(session.deliver(event("a")), async { session.close() });
        assert_eq!(answer.unwrap_err().problem, "stream closed");
        assert!(session.waiting.lock().is_empty());
    }

    #[tokio::test]
    async fn the_same_id_may_be_under_way_twice() {
        let (session, mut events) = Session::new();
        let app = async {
            for status in [0, 1] {
                let id = events.recv().await.unwrap().id;
                assert!(session.answer(&id, status));
            }
        };
        let (a, b, ()) = tokio::join!(
            session.deliver(event("a")),
            session.deliver(event("a")),
            app
        );
        assert_eq!((a.unwrap(), b.unwrap()), (0, 1));
    }
}
