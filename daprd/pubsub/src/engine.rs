//! The engine: loaded components, what is subscribed, and which subscriptions are open. Everything that changes one of them
//! ends in `reconcile`, which opens and closes until the open ones are those that should be.

mod owner;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::Arc,
};

use app_channel::AppChannel;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use blocks::Intake;
use component::Catalog;
use futures::future::join_all;
use parking_lot::Mutex;
use resiliency::{Builtin, Outcome, Policies};
use telemetry::{Meter, trace::Tracer};
use tokio::sync::{Notify, watch};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use values::{Clock, SystemClock};

use crate::{
    Error, Listed, StreamRequest, Streaming,
    book::Book,
    brokers::{Broker, Brokers},
    delivery::{LOG, Line, Mode, Target},
    intake,
    metrics::Metrics,
    stream::Sink,
    subscription::Subscription,
};

/// What the engine is made of.
pub struct Options {
    pub catalog: Arc<Catalog>,
    pub app_id: String,
    pub namespace: String,
    pub policies: Arc<ArcSwap<Policies>>,
    pub meter: Meter,
    pub tracer: Tracer,
    pub app: AppChannel,
}

/// What most programs leave as it is.
#[derive(Clone)]
pub struct Settings {
    /// Whether the app is asked what it subscribes to (`disable-init-endpoints` turns it off).
    pub programmatic: bool,
    pub clock: Arc<dyn Clock>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            programmatic: true,
            clock: Arc::new(SystemClock),
        }
    }
}

/// Publishing and subscriptions. Clones share them.
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<Inner>);

pub struct Inner {
    pub options: Options,
    pub clock: Arc<dyn Clock>,
    programmatic: bool,
    pub brokers: Brokers,
    pub metrics: Metrics,
    book: Mutex<Book>,
    lines: tokio::sync::Mutex<Lines>,
    /// Something in the book has changed.
    changed: Notify,
    tasks: TaskTracker,
}

/// The open subscriptions; whoever holds the lock is the only one to open or close.
#[derive(Default)]
struct Lines {
    /// Whether the app takes events.
    active: bool,
    /// Whether the app has said what it subscribes to.
    asked: bool,
    closed: bool,
    open: BTreeMap<String, Vec<Open>>,
}

/// What an open subscription is known by, within its component.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    App(String),
    Stream(u64),
}

struct Open {
    key: Key,
    broker: Arc<Broker>,
    subscription: Arc<Subscription>,
    mode: watch::Sender<Mode>,
    ended: CancellationToken,
}

impl Open {
    async fn end(self, how: Mode) {
        self.mode.send_replace(how);
        self.ended.cancelled().await;
    }
}

/// A subscription that should be open.
struct Wanted {
    key: Key,
    subscription: Arc<Subscription>,
    target: Target,
}

impl Engine {
    /// An engine, and the task that keeps its subscriptions in step with what is declared.
    pub fn new(options: Options) -> (Self, Run) {
        Self::with_settings(options, Settings::default())
    }

    /// The same, with other settings than the usual ones.
    pub fn with_settings(options: Options, settings: Settings) -> (Self, Run) {
        let metrics = Metrics::new(&options.meter, &options.namespace);
        let engine = Self(Arc::new(Inner {
            metrics,
            options,
            clock: settings.clock,
            programmatic: settings.programmatic,
            brokers: Brokers::default(),
            book: Mutex::default(),
            lines: tokio::sync::Mutex::default(),
            changed: Notify::new(),
            tasks: TaskTracker::new(),
        }));
        (engine.clone(), Run(engine))
    }

    /// Every subscription, open or not, as the metadata API lists them.
    pub fn subscriptions(&self) -> Vec<Listed> {
        self.0.book.lock().listed()
    }

    /// Adds or replaces a resource's subscription; it is opened soon, by [`Run::run`] or the next [`Intake::start`].
    ///
    /// # Errors
    /// [`Error::Rule`]; what was there before stays.
    pub fn apply_subscription(&self, resource: crds::Subscription) -> Result<(), Error> {
        let name = crds::Kind::name(&resource).to_owned();
        let subscription = Subscription::declared(resource)?;
        self.0.book.lock().declare(name, subscription);
        self.0.changed.notify_one();
        Ok(())
    }

    /// Takes a resource's subscription away; unknown names are ignored.
    pub fn remove_subscription(&self, name: &str) {
        self.0.book.lock().withdraw(name);
        self.0.changed.notify_one();
    }

    /// Opens a streaming subscription.
    ///
    /// # Errors
    /// [`Error::NotConfigured`], [`Error::NotFound`], [`Error::NotSubscribable`], [`Error::Component`], [`Error::Closed`].
    pub async fn stream(&self, request: StreamRequest) -> Result<Streaming, Error> {
        let mut lines = self.0.lines.lock().await;
        if lines.closed {
            return Err(Error::Closed);
        }
        let broker = self.0.brokers.named(&request.pubsub)?;
        let subscription = Arc::new(Subscription::streaming(request));
        let (sink, events) = Sink::new();
        let id = self
            .0
            .book
            .lock()
            .add_stream(Arc::clone(&subscription), Arc::clone(&sink));
        // From here on, dropping the stream takes it out again.
        let streaming = Streaming {
            id,
            engine: self.clone(),
            events,
            sink: Arc::clone(&sink),
        };
        let wanted = Wanted {
            key: Key::Stream(id),
            subscription,
            target: Target::Stream(sink),
        };
        let name = broker.listed.name.clone();
        let open = self.0.open(&broker, wanted, false).await?;
        lines.open.entry(name).or_default().push(open);
        Ok(streaming)
    }

    pub(crate) fn stream_gone(&self, id: u64) {
        self.0.book.lock().remove_stream(id);
        self.0.changed.notify_one();
    }

    /// Ends every subscription and stream, with what was taken delivered; none opens again.
    async fn shut_down(&self) {
        let mut lines = self.0.lines.lock().await;
        lines.closed = true;
        lines.active = false;
        let open = std::mem::take(&mut lines.open).into_values().flatten();
        join_all(open.map(|open| open.end(Mode::Drain))).await;
        for (_, _, sink) in self.0.book.lock().streams(None) {
            sink.close();
        }
        drop(lines);
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

/// Streams are open whatever the app's health is: somebody reads them.
#[async_trait]
impl Intake for Engine {
    async fn start(&self) {
        if !self.0.options.app.is_configured() {
            return;
        }
        let mut lines = self.0.lines.lock().await;
        if lines.closed || lines.active {
            return;
        }
        lines.active = true;
        self.0.ask(&mut lines).await;
        self.0.reconcile_all(&mut lines, Mode::Drain).await;
    }

    /// What the broker has handed over already is delivered as long as the app is healthy.
    async fn stop(&self) {
        let mut lines = self.0.lines.lock().await;
        if !lines.active {
            return;
        }
        lines.active = false;
        let healthy = *self.0.options.app.health().borrow();
        let how = if healthy { Mode::Drain } else { Mode::Leave };
        self.0.reconcile_all(&mut lines, how).await;
    }

    async fn drain(&self) {
        self.shut_down().await;
    }
}

impl Inner {
    /// Asks the app what it subscribes to. An app that cannot be asked is asked again when it next becomes healthy.
    async fn ask(&self, lines: &mut Lines) {
        if lines.asked || self.brokers.is_empty() {
            return;
        }
        if !self.programmatic {
            tracing::warn!(
                target: LOG,
                "Skipping programmatic subscription loading (see 'disable-init-endpoints' flag/annotation)"
            );
            lines.asked = true;
            return;
        }
        let policies = self.options.policies.load();
        let policy = policies.builtin(Builtin::InitializationRetries);
        let attempt = |_| self.options.app.list_subscriptions();
        let asked = match policy.run(attempt, |_| Outcome::Retryable).await {
            Ok(asked) => asked,
            Err(error) => {
                let error = component::error::chain(&error);
                tracing::error!(target: LOG, "error getting topic list from app: {error}");
                return;
            }
        };
        lines.asked = true;
        let mut subscriptions = Vec::with_capacity(asked.len());
        let mut topics: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for one in asked {
            match Subscription::programmatic(one) {
                Ok(one) if one.rules.is_empty() => {
                    tracing::warn!(
                        target: LOG,
                        "topic {} has an empty routes. removing from subscriptions list",
                        one.topic
                    );
                }
                Ok(one) => {
                    let of = topics.entry(one.pubsub.clone()).or_default();
                    of.push(one.topic.clone());
                    subscriptions.push(one);
                }
                Err(error) => {
                    let error = component::error::chain(&error);
                    tracing::error!(target: LOG, "a subscription of the app is left out: {error}");
                }
            }
        }
        for (pubsub, topics) in topics {
            tracing::info!(
                target: LOG,
                "app is subscribed to the following topics: [{topics:?}] through pubsub={pubsub}"
            );
        }
        self.book.lock().set_programmatic(subscriptions);
    }

    async fn reconcile_all(self: &Arc<Self>, lines: &mut Lines, how: Mode) {
        let mut names: BTreeSet<String> = self.brokers.names().into_iter().collect();
        names.extend(lines.open.keys().cloned());
        for name in names {
            self.reconcile(lines, &name, how).await;
        }
    }

    /// Closes what should not be open at a component any more, then opens what should be and is not.
    async fn reconcile(self: &Arc<Self>, lines: &mut Lines, pubsub: &str, how: Mode) {
        let broker = self.brokers.find(pubsub).filter(|_| !lines.closed);
        let mut wanted = match &broker {
            Some(_) => self.wanted(lines, pubsub),
            None => Vec::new(),
        };
        let mut kept = Vec::new();
        let mut ending = Vec::new();
        for open in lines.open.remove(pubsub).unwrap_or_default() {
            let place = wanted.iter().position(|one| {
                one.key == open.key
                    && one.subscription == open.subscription
                    && broker
                        .as_ref()
                        .is_some_and(|b| Arc::ptr_eq(b, &open.broker))
            });
            match (place, &open.key) {
                (Some(place), _) => {
                    wanted.swap_remove(place);
                    kept.push(open);
                }
                // Nobody is left to take what a stream was sent.
                (None, Key::Stream(id)) if !self.has_stream(*id) => {
                    ending.push(open.end(Mode::Abandon));
                }
                (None, _) => ending.push(open.end(how)),
            }
        }
        join_all(ending).await;
        if let Some(broker) = &broker {
            let opening = wanted.into_iter().map(|one| async {
                let topic = one.subscription.topic.clone();
                match self.open(broker, one, true).await {
                    Ok(open) => Some(open),
                    Err(error) => {
                        tracing::error!(
                            target: LOG,
                            "Failed to start subscription for pubsub {pubsub}, topic {topic}: {error}"
                        );
                        None
                    }
                }
            });
            kept.extend(join_all(opening).await.into_iter().flatten());
        }
        if !kept.is_empty() {
            lines.open.insert(pubsub.to_owned(), kept);
        }
    }

    fn has_stream(&self, id: u64) -> bool {
        let streams = self.book.lock().streams(None);
        streams.iter().any(|(known, ..)| *known == id)
    }

    fn wanted(&self, lines: &Lines, pubsub: &str) -> Vec<Wanted> {
        let book = self.book.lock();
        let mut wanted = Vec::new();
        if lines.active {
            wanted.extend(book.of_app(pubsub).into_iter().map(|subscription| Wanted {
                key: Key::App(subscription.topic.clone()),
                subscription,
                target: Target::App,
            }));
        }
        let streams = book.streams(Some(pubsub)).into_iter();
        wanted.extend(streams.map(|(id, subscription, sink)| Wanted {
            key: Key::Stream(id),
            subscription,
            target: Target::Stream(sink),
        }));
        wanted
    }

    /// Opens a subscription and starts its loop. With `patient`, a broker that refuses is asked again by the loop.
    async fn open(
        self: &Arc<Self>,
        broker: &Arc<Broker>,
        wanted: Wanted,
        patient: bool,
    ) -> Result<Open, Error> {
        let (mode, receiver) = watch::channel(Mode::Run);
        let line = Arc::new(Line {
            core: Arc::clone(self),
            broker: Arc::clone(broker),
            subscription: Arc::clone(&wanted.subscription),
            target: wanted.target,
            mode: receiver,
        });
        let deliveries = match intake::open(&line).await {
            Ok(deliveries) => Some(deliveries),
            Err(error @ Error::Component(_)) if patient => {
                tracing::error!(
                    target: LOG,
                    "Failed to start subscription for pubsub {}, topic {}: {error}. Will retry.",
                    line.pubsub(),
                    wanted.subscription.topic
                );
                None
            }
            Err(error) => return Err(error),
        };
        let ended = CancellationToken::new();
        let guard: DropGuard = ended.clone().drop_guard();
        self.tasks.spawn(async move {
            let _until_here = guard;
            intake::run(line, deliveries).await;
        });
        Ok(Open {
            key: wanted.key,
            broker: Arc::clone(broker),
            subscription: wanted.subscription,
            mode,
            ended,
        })
    }
}

/// The engine's task.
pub struct Run(Engine);

impl Run {
    /// Opens and closes subscriptions as resources and streams come and go, until shutdown; then drains and ends them all.
    /// Whether the app takes events at all is said by [`Intake::start`] and [`Intake::stop`].
    pub fn run(self, shutdown: CancellationToken) -> impl Future<Output = ()> + Send {
        let engine = self.0;
        async move {
            shutdown.run_until_cancelled(engine.keep()).await;
            engine.shut_down().await;
        }
    }
}

impl Engine {
    /// Opens and closes what the book asks for.
    async fn keep(&self) {
        loop {
            self.0.changed.notified().await;
            let mut lines = self.0.lines.lock().await;
            self.0.reconcile_all(&mut lines, Mode::Drain).await;
        }
    }
}
