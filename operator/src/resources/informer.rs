//! One kind of resource, shared by all sidecars: the store behind the lists, and the subscribers of its changes. What is
//! not known yet is not served: an empty list would tell a sidecar to drop what it has.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use kubernetes::{Cluster, Key, Reflector, Signal, Store};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::entry::Raw;
use super::history::{Cursor, Forgotten, History};
use super::queue::{Event, Queue};
use super::{Caller, Entry, Kind};

/// Streams of one kind for all sidecars, and for one connection of a sidecar, which needs one.
pub const MOST_STREAMS: usize = 50_000;
/// See [`MOST_STREAMS`].
pub const MOST_STREAMS_OF_ONE: usize = 8;

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
    history: History,
    streams: usize,
    closed: bool,
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

/// Why there is no subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The operator stops.
    Closed,
    /// There are too many.
    Full,
    /// The list that the caller has read is too old; the next one may be followed.
    Forgotten,
}

impl Informer {
    /// An informer that [`Informer::run`] has to fill.
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

    /// The resources of a namespace, by name. A stream on the same connection goes on from here.
    pub fn list(
        &self,
        namespace: &str,
        connection: Option<SocketAddr>,
    ) -> Result<Vec<Arc<Entry>>, NotKnown> {
        let mut state = self.shared.state.lock();
        if !state.store.is_known() {
            return Err(NotKnown);
        }
        state.listed(connection);
        let here = state.store.within(namespace);
        Ok(here.map(|(_, entry)| Arc::clone(entry)).collect())
    }

    /// One resource, if it is known. It counts as a list.
    pub fn find(
        &self,
        namespace: &str,
        name: &str,
        connection: Option<SocketAddr>,
    ) -> Option<Arc<Entry>> {
        let mut state = self.shared.state.lock();
        state.listed(connection);
        state.store.get(&Key::new(namespace, name)).cloned()
    }

    /// All that are known.
    pub fn keys(&self) -> Vec<Key> {
        let state = self.shared.state.lock();
        state.store.iter().map(|(key, _)| key.clone()).collect()
    }

    /// One resource, if it has changed since a moment.
    pub fn changed_since(&self, at: Cursor, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        let key = Key::new(namespace, name);
        let state = self.shared.state.lock();
        let mut changes = state.history.since(at).ok()?;
        changes.any(|change| change.key == key).then_some(())?;
        state.store.get(&key).cloned()
    }

    /// Whether a connection has a stream, so that its lists only make sure.
    pub fn is_streaming(&self, connection: Option<SocketAddr>) -> bool {
        let state = self.shared.state.lock();
        connection.is_some_and(|connection| state.history.is_streaming(connection))
    }

    /// Subscribes an app to all changes from now on, or from the list on that it has read before.
    pub fn subscribe(&self, caller: &Caller) -> Result<Subscription, Refusal> {
        let subscriber = Arc::new(Subscriber {
            app_id: caller.app_id.clone(),
            queue: Mutex::default(),
            wake: Notify::new(),
        });
        let mut state = self.shared.state.lock();
        let from = state.admit(caller.connection)?;
        let missed = state.history.since(from);
        let missed = missed.map_err(|Forgotten| Refusal::Forgotten)?;
        for change in missed.filter(|change| change.key.namespace == caller.namespace) {
            if let Some(event) = Event::of(change, &caller.app_id) {
                subscriber.push(event);
            }
        }
        if let Some(connection) = caller.connection {
            state.history.opened(connection);
        }
        state.streams += 1;
        let here = state.subscribers.entry(caller.namespace.clone());
        here.or_default().push(Arc::clone(&subscriber));
        drop(state);
        Ok(Subscription {
            informer: self.clone(),
            caller: caller.clone(),
            from,
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
            state.history.push(change, Instant::now());
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

impl State {
    fn listed(&mut self, connection: Option<SocketAddr>) {
        if let Some(connection) = connection {
            let now = self.history.now();
            self.history.listed(connection, now);
        }
    }

    /// Where a new stream begins, if there may be one.
    fn admit(&mut self, connection: Option<SocketAddr>) -> Result<Cursor, Refusal> {
        if self.closed {
            return Err(Refusal::Closed);
        }
        let its = connection.map_or(0, |connection| self.history.streams(connection));
        if self.streams >= MOST_STREAMS || its >= MOST_STREAMS_OF_ONE {
            return Err(Refusal::Full);
        }
        let listed = connection.and_then(|connection| self.history.take_list(connection));
        Ok(listed.unwrap_or_else(|| self.history.call(Instant::now())))
    }
}

/// The changes of one kind for one app. Ends with the operator, or when dropped.
pub struct Subscription {
    informer: Informer,
    caller: Caller,
    from: Cursor,
    subscriber: Arc<Subscriber>,
}

impl Subscription {
    /// The moment that its changes follow.
    pub const fn from(&self) -> Cursor {
        self.from
    }

    /// Waits for its end, whatever is still to come before.
    pub async fn ended(&self) -> End {
        loop {
            let end = self.subscriber.queue.lock().end;
            if let Some(end) = end {
                return end;
            }
            self.subscriber.wake.notified().await;
        }
    }

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
        state.streams -= 1;
        if let Some(connection) = self.caller.connection {
            state.history.closed(connection);
        }
        if let Some(subscribers) = state.subscribers.get_mut(&self.caller.namespace) {
            subscribers.retain(|other| !Arc::ptr_eq(other, &self.subscriber));
            if subscribers.is_empty() {
                state.subscribers.remove(&self.caller.namespace);
            }
        }
    }
}

#[cfg(test)]
mod readers;
#[cfg(test)]
mod tests;
