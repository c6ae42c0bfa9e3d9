//! One kind of resource, shared by all sidecars: the store behind the lists, and the subscribers of its changes. What is
//! not known yet is not served: an empty list would tell a sidecar to drop what it has.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kubernetes::{Change, Cluster, Key, Reflector, Signal, Store};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::entry::Raw;
use super::queue::{Event, Queue};
use super::{Entry, Kind};

/// The handle of a kind of resource. Cheap to clone.
#[derive(Clone)]
pub struct Informer {
    shared: Arc<Shared>,
}

struct Shared {
    kind: Kind,
    state: Mutex<State>,
    known: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    store: Store<Entry>,
    /// By namespace, because a change concerns one namespace only.
    subscribers: HashMap<String, Vec<Arc<Subscriber>>>,
    recent: VecDeque<(Instant, Change<Entry>)>,
    closed: bool,
}

/// A change this short before a subscription counts as after it. To the caller the stream began when it sent its
/// request, and a change right behind that may come through the API server before the request does.
const GRACE: Duration = Duration::from_millis(20);

/// Changes remembered for [`GRACE`].
const MOST_RECENT: usize = 64;

impl State {
    fn remember(&mut self, change: Change<Entry>, now: Instant) {
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

/// There has been no complete list yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotKnown;

/// No subscription is possible: the operator stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl Informer {
    /// A informer that [`Informer::run`] has to fill.
    pub fn new(kind: Kind) -> Self {
        Self {
            shared: Arc::new(Shared {
                kind,
                state: Mutex::default(),
                known: watch::Sender::new(false),
            }),
        }
    }

    /// Watches the kind until shutdown, then ends all subscriptions.
    pub async fn run(self, cluster: Cluster, shutdown: CancellationToken) -> anyhow::Result<()> {
        let kind = self.shared.kind;
        let api = |cluster: &Cluster| cluster.watched_as::<Raw>(&kind.resource());
        let reflector = Reflector::new(kind.plural(), &cluster, api);
        reflector.run(&shutdown, |signal| self.apply(signal)).await;
        self.close();
        Ok(())
    }

    /// Waits until all resources are known. Never, if [`Informer::run`] ends before.
    pub async fn known(&self) {
        let mut known = self.shared.known.subscribe();
        // The sender lives as long as `self`.
        let _ = known.wait_for(|known| *known).await;
    }

    /// The kind of the informer.
    pub fn kind(&self) -> Kind {
        self.shared.kind
    }

    /// The resources of a namespace, by name.
    pub fn list(&self, namespace: &str) -> Result<Vec<Arc<Entry>>, NotKnown> {
        let state = self.shared.state.lock();
        if !state.store.is_known() {
            return Err(NotKnown);
        }
        let here = state.store.within(namespace);
        Ok(here.map(|(_, entry)| Arc::clone(entry)).collect())
    }

    /// One resource, if it is known.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        let state = self.shared.state.lock();
        state.store.get(&Key::new(namespace, name)).cloned()
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
            if change.key.namespace == namespace
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
            informer: self.clone(),
            namespace: namespace.to_owned(),
            subscriber,
        })
    }

    pub fn apply(&self, signal: impl Into<Signal<Raw>>) {
        let kind = self.shared.kind;
        let mut state = self.shared.state.lock();
        // The first list changes nothing: whoever connects reads it with a list of its own.
        let told = state.store.is_known();
        let changes = state.store.apply(signal, |raw| Some(Entry::new(kind, raw)));
        for change in changes.into_iter().filter(|_| told) {
            tracing::debug!(
                namespace = %change.key.namespace,
                name = %change.key.name,
                gone = change.new.is_none(),
                "{} changed",
                kind.plural()
            );
            let subscribers = state.subscribers.get(&change.key.namespace);
            for subscriber in subscribers.into_iter().flatten() {
                if let Some(event) = Event::of(&change, &subscriber.app_id) {
                    subscriber.push(event);
                }
            }
            state.remember(change, Instant::now());
        }
        if state.store.is_known() {
            self.shared
                .known
                .send_if_modified(|known| !std::mem::replace(known, true));
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
    informer: Informer,
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
        let mut state = self.informer.shared.state.lock();
        if let Some(subscribers) = state.subscribers.get_mut(&self.namespace) {
            subscribers.retain(|other| !Arc::ptr_eq(other, &self.subscriber));
            if subscribers.is_empty() {
                state.subscribers.remove(&self.namespace);
            }
        }
    }
}

#[cfg(test)]
mod readers;

#[cfg(test)]
mod tests {
    use super::super::entry::tests::raw;
    use super::super::queue::EventType;
    use super::*;
    use kube::runtime::watcher::Event as Watched;
    use serde_json::json;

    fn component(name: &str, namespace: &str, kind: &str) -> Raw {
        raw(json!({"metadata": {"name": name, "namespace": namespace}, "spec": {"type": kind}}))
    }

    fn listed(informer: &Informer, components: Vec<Raw>) {
        informer.apply(Watched::Init);
        for component in components {
            informer.apply(Watched::InitApply(component));
        }
        informer.apply(Watched::InitDone);
    }

    #[tokio::test(start_paused = true)]
    async fn subscribers_hear_of_their_namespace_only() {
        let informer = Informer::new(Kind::Component);
        listed(&informer, vec![component("a", "n", "x")]);
        informer.known().await;
        let mut mine = informer.subscribe("n", "app").unwrap();
        let mut other = informer.subscribe("m", "app").unwrap();
        informer.apply(Watched::Apply(component("b", "n", "x")));
        informer.apply(Watched::Apply(component("a", "n", "y")));
        informer.apply(Watched::Apply(component("a", "m", "y")));
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
        assert_eq!(informer.list("n").unwrap().len(), 2);
        assert!(informer.find("m", "a").is_some());
    }

    #[tokio::test]
    async fn the_end_comes_after_what_is_waiting() {
        let informer = Informer::new(Kind::Component);
        listed(&informer, vec![]);
        let mut subscription = informer.subscribe("n", "app").unwrap();
        informer.apply(Watched::Apply(component("a", "n", "x")));
        informer.close();
        assert!(subscription.next().await.is_ok());
        assert_eq!(subscription.next().await, Err(End::Shutdown));
        assert_eq!(subscription.next().await, Err(End::Shutdown));
        assert_eq!(informer.subscribe("n", "app").err(), Some(Closed));
    }

    #[tokio::test(start_paused = true)]
    async fn what_just_changed_is_not_missed() {
        let informer = Informer::new(Kind::Component);
        listed(&informer, vec![]);
        informer.apply(Watched::Apply(component("old", "n", "x")));
        tokio::time::advance(GRACE + Duration::from_millis(1)).await;
        informer.apply(Watched::Apply(component("new", "n", "x")));
        informer.apply(Watched::Apply(component("other", "m", "x")));
        let mut subscription = informer.subscribe("n", "app").unwrap();
        assert_eq!(subscription.next().await.unwrap().entry.name, "new");
        informer.close();
        assert_eq!(subscription.next().await, Err(End::Shutdown));
    }

    #[test]
    fn nothing_is_listed_before_everything_is_known() {
        let informer = Informer::new(Kind::Component);
        informer.apply(Watched::Init);
        informer.apply(Watched::InitApply(component("a", "n", "x")));
        assert_eq!(informer.list("n"), Err(NotKnown));
        informer.apply(Signal::Lost);
        assert_eq!(informer.list("n"), Err(NotKnown));
        listed(&informer, vec![component("a", "n", "x")]);
        informer.apply(Signal::Lost);
        assert_eq!(
            informer.list("n").unwrap().len(),
            1,
            "what was known is served on"
        );
    }

    #[tokio::test]
    async fn dropped_subscriptions_leave_nothing_behind() {
        let informer = Informer::new(Kind::Component);
        let first = informer.subscribe("n", "app").unwrap();
        let second = informer.subscribe("n", "app").unwrap();
        drop(first);
        assert_eq!(informer.shared.state.lock().subscribers["n"].len(), 1);
        drop(second);
        assert!(informer.shared.state.lock().subscribers.is_empty());
    }
}
