//! One kind of resource, shared by all sidecars: the store behind the lists, and the subscribers of its changes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::entry::Raw;
use super::queue::{Event, Queue};
use super::store::{Change, Store};
use super::{Entry, Kind};
use crate::cluster::Cluster;
use crate::watch::{News, follow};

/// The handle of a kind of resource. Cheap to clone.
#[derive(Clone)]
pub struct Feed {
    shared: Arc<Shared>,
}

struct Shared {
    kind: Kind,
    state: Mutex<State>,
    complete: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    store: Store,
    /// By namespace, because a change concerns one namespace only.
    subscribers: HashMap<String, Vec<Arc<Subscriber>>>,
    recent: VecDeque<(Instant, Change)>,
    closed: bool,
}

/// A change this short before a subscription counts as after it. To the caller the stream began when it sent its
/// request, and a change right behind that may come through the API server before the request does.
const GRACE: Duration = Duration::from_millis(20);

/// Changes remembered for [`GRACE`].
const MOST_RECENT: usize = 64;

impl State {
    fn remember(&mut self, change: Change, now: Instant) {
        if self.recent.len() >= MOST_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((now, change));
    }

    fn forget_old(&mut self, now: Instant) {
        let is_old = |at: Instant| now.saturating_duration_since(at) > GRACE;
        while self.recent.front().is_some_and(|(at, _)| is_old(*at)) {
            self.recent.pop_front();
        }
    }
}

struct Subscriber {
    app_id: String,
    queue: Mutex<Inbox>,
    wake: Notify,
}

#[derive(Default)]
struct Inbox {
    queue: Queue,
    end: Option<End>,
}

/// Why a subscription is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The operator stops.
    Shutdown,
    /// The sidecar took its events too slowly.
    Overflow,
}

/// No subscription is possible: the operator stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl Feed {
    /// A feed that [`Feed::run`] has to fill.
    pub fn new(kind: Kind) -> Self {
        Self {
            shared: Arc::new(Shared {
                kind,
                state: Mutex::default(),
                complete: watch::Sender::new(false),
            }),
        }
    }

    /// Watches the kind until shutdown, then ends all subscriptions.
    pub async fn run(self, cluster: Cluster, shutdown: CancellationToken) -> anyhow::Result<()> {
        let kind = self.shared.kind;
        let api = cluster.watched_as::<Raw>(&kind.resource());
        follow(kind.plural(), api, None, &shutdown, |news| self.apply(news)).await;
        self.close();
        Ok(())
    }

    /// Waits for the first complete list. Never, if [`Feed::run`] ends before.
    pub async fn complete(&self) {
        let mut complete = self.shared.complete.subscribe();
        // The sender lives as long as `self`.
        let _ = complete.wait_for(|complete| *complete).await;
    }

    /// The kind of the feed.
    pub fn kind(&self) -> Kind {
        self.shared.kind
    }

    /// The resources of a namespace, by name.
    pub fn list(&self, namespace: &str) -> Vec<Arc<Entry>> {
        let state = self.shared.state.lock();
        state.store.list(namespace).cloned().collect()
    }

    /// One resource.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        let state = self.shared.state.lock();
        state.store.find(namespace, name).cloned()
    }

    /// Subscribes an app to all changes from now on.
    pub fn subscribe(&self, namespace: &str, app_id: &str) -> Result<Subscription, Closed> {
        let subscriber = Arc::new(Subscriber {
            app_id: app_id.to_owned(),
            queue: Mutex::default(),
            wake: Notify::new(),
        });
        let mut state = self.shared.state.lock();
        if state.closed {
            return Err(Closed);
        }
        state.forget_old(Instant::now());
        for (_, change) in &state.recent {
            if change.namespace() == namespace
                && let Some(event) = Event::of(change, app_id)
            {
                subscriber.push(event);
            }
        }
        state
            .subscribers
            .entry(namespace.to_owned())
            .or_default()
            .push(Arc::clone(&subscriber));
        drop(state);
        Ok(Subscription {
            feed: self.clone(),
            namespace: namespace.to_owned(),
            subscriber,
        })
    }

    pub fn apply(&self, news: News<Raw>) {
        let kind = self.shared.kind;
        let entry = |raw| Entry::new(kind, raw);
        let news = match news {
            News::Listing => News::Listing,
            News::Listed(raw) => News::Listed(entry(raw)),
            News::Complete => News::Complete,
            News::Applied(raw) => News::Applied(entry(raw)),
            News::Deleted(raw) => News::Deleted(entry(raw)),
            News::UnknownKind => News::UnknownKind,
        };
        let mut state = self.shared.state.lock();
        for change in state.store.apply(news) {
            tracing::debug!(
                namespace = %change.namespace(),
                name = %change.name(),
                gone = change.new.is_none(),
                "{} changed",
                kind.plural()
            );
            let subscribers = state.subscribers.get(change.namespace());
            for subscriber in subscribers.into_iter().flatten() {
                if let Some(event) = Event::of(&change, &subscriber.app_id) {
                    subscriber.push(event);
                }
            }
            state.remember(change, Instant::now());
        }
        if state.store.is_complete() {
            self.shared
                .complete
                .send_if_modified(|complete| !std::mem::replace(complete, true));
        }
    }

    pub fn close(&self) {
        let mut state = self.shared.state.lock();
        state.closed = true;
        for subscriber in state.subscribers.drain().flat_map(|(_, all)| all) {
            subscriber.end(End::Shutdown);
        }
    }
}

impl Subscriber {
    fn push(&self, event: Event) {
        let pushed = self.queue.lock().queue.push(event);
        match pushed {
            Ok(()) => self.wake.notify_one(),
            Err(_) => self.end(End::Overflow),
        }
    }

    fn end(&self, end: End) {
        self.queue.lock().end.get_or_insert(end);
        self.wake.notify_one();
    }
}

/// The changes of one kind for one app. Ends with the operator, or when dropped.
pub struct Subscription {
    feed: Feed,
    namespace: String,
    subscriber: Arc<Subscriber>,
}

impl Subscription {
    /// Waits for the next event. After an end, there is none any more.
    pub async fn next(&mut self) -> Result<Event, End> {
        loop {
            {
                let mut inbox = self.subscriber.queue.lock();
                if let Some(event) = inbox.queue.pop() {
                    return Ok(event);
                }
                if let Some(end) = inbox.end {
                    return Err(end);
                }
            }
            // A permit is kept when the event came in between, so nothing is slept through.
            self.subscriber.wake.notified().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.feed.shared.state.lock();
        if let Some(subscribers) = state.subscribers.get_mut(&self.namespace) {
            subscribers.retain(|other| !Arc::ptr_eq(other, &self.subscriber));
            if subscribers.is_empty() {
                state.subscribers.remove(&self.namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::raw;
    use super::super::queue::EventType;
    use super::*;
    use serde_json::json;

    fn component(name: &str, namespace: &str, kind: &str) -> Raw {
        raw(json!({"metadata": {"name": name, "namespace": namespace}, "spec": {"type": kind}}))
    }

    fn listed(feed: &Feed, components: Vec<Raw>) {
        feed.apply(News::Listing);
        for component in components {
            feed.apply(News::Listed(component));
        }
        feed.apply(News::Complete);
    }

    #[tokio::test(start_paused = true)]
    async fn subscribers_hear_of_their_namespace_only() {
        let feed = Feed::new(Kind::Component);
        listed(&feed, vec![component("a", "n", "x")]);
        feed.complete().await;
        let mut mine = feed.subscribe("n", "app").unwrap();
        let mut other = feed.subscribe("m", "app").unwrap();
        feed.apply(News::Applied(component("b", "n", "x")));
        feed.apply(News::Applied(component("a", "n", "y")));
        feed.apply(News::Applied(component("a", "m", "y")));
        let event = mine.next().await.unwrap();
        assert_eq!(
            (event.kind, event.entry.name.as_str()),
            (EventType::Created, "b")
        );
        let event = mine.next().await.unwrap();
        assert_eq!(
            (event.kind, event.entry.name.as_str()),
            (EventType::Updated, "a")
        );
        let event = other.next().await.unwrap();
        assert_eq!(
            (event.kind, event.entry.namespace.as_str()),
            (EventType::Created, "m")
        );
        assert_eq!(feed.list("n").len(), 2);
        assert!(feed.find("m", "a").is_some());
    }

    #[tokio::test]
    async fn the_end_comes_after_what_is_waiting() {
        let feed = Feed::new(Kind::Component);
        listed(&feed, vec![]);
        let mut subscription = feed.subscribe("n", "app").unwrap();
        feed.apply(News::Applied(component("a", "n", "x")));
        feed.close();
        assert!(subscription.next().await.is_ok());
        assert_eq!(subscription.next().await, Err(End::Shutdown));
        assert_eq!(subscription.next().await, Err(End::Shutdown));
        assert_eq!(feed.subscribe("n", "app").err(), Some(Closed));
    }

    #[tokio::test(start_paused = true)]
    async fn what_just_changed_is_not_missed() {
        let feed = Feed::new(Kind::Component);
        listed(&feed, vec![]);
        feed.apply(News::Applied(component("old", "n", "x")));
        tokio::time::advance(GRACE + Duration::from_millis(1)).await;
        feed.apply(News::Applied(component("new", "n", "x")));
        feed.apply(News::Applied(component("other", "m", "x")));
        let mut subscription = feed.subscribe("n", "app").unwrap();
        assert_eq!(subscription.next().await.unwrap().entry.name, "new");
        feed.close();
        assert_eq!(subscription.next().await, Err(End::Shutdown));
    }

    #[tokio::test]
    async fn dropped_subscriptions_leave_nothing_behind() {
        let feed = Feed::new(Kind::Component);
        let first = feed.subscribe("n", "app").unwrap();
        let second = feed.subscribe("n", "app").unwrap();
        drop(first);
        assert_eq!(feed.shared.state.lock().subscribers["n"].len(), 1);
        drop(second);
        assert!(feed.shared.state.lock().subscribers.is_empty());
    }
}
