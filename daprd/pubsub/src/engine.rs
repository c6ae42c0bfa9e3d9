//! The engine: loaded components, what is subscribed, and which subscriptions are open. Everything that changes one of them
//! ends in `reconcile`, which has subscriptions begun and ended until the open ones are those that should be. They open, run
//! and end in tasks of their own: one broker that hangs delays nobody but those who wait for it.

mod asked;
mod owner;
mod wanted;

use std::{collections::BTreeSet, future::Future, sync::Arc};

use async_trait::async_trait;
use blocks::{Intake, Tasks};
use parking_lot::Mutex;
use tokio::sync::{Notify, OnceCell, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    BulkPublish, Error, Failed, Listed, Options, Outbox, Publish, Settings, StreamRequest,
    Streaming, brokers,
    consumer::{self, Phase},
    consumers::{Changes, Consumers, Control, End, Key, Open, Wanted},
    core::{Core, LOG},
    declarations::Declarations,
    delivery::{Mode, Opening, Subscriber, Target},
    metrics::Metrics,
    outbox::UnderWay,
    stream::Session,
    subscription::Subscription,
};

/// Publishing and subscriptions. Clones share them.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    core: Arc<Core>,
    programmatic: bool,
    declarations: Mutex<Declarations>,
    consumers: Mutex<Consumers>,
    /// Subscriptions without a component that were warned about: its name and the topic.
    unserved: Mutex<BTreeSet<(String, String)>>,
    /// Filled once the app has said what it subscribes to.
    asked: OnceCell<()>,
    /// What is declared has changed.
    changed: Notify,
    /// Cancelled once nothing is to be subscribed any more.
    closing: CancellationToken,
    tasks: Tasks,
}

impl Engine {
    /// An engine, and the task that keeps its subscriptions in step with what is declared.
    pub fn new(options: Options) -> (Self, Run) {
        Self::with_settings(options, Settings::default())
    }

    /// The same, with other settings than the usual ones.
    pub fn with_settings(options: Options, settings: Settings) -> (Self, Run) {
        let registry = &options.registry;
        let tasks = Tasks::new(Arc::clone(&options.spawn));
        let core = Core {
            metrics: Metrics::new(&registry.meter, &registry.namespace),
            brokers: brokers::new(registry.clone()),
            options,
            clock: settings.clock,
            under_way: UnderWay::default(),
        };
        let engine = Self(Arc::new(Inner {
            core: Arc::new(core),
            programmatic: settings.programmatic,
            declarations: Mutex::default(),
            consumers: Mutex::default(),
            unserved: Mutex::default(),
            asked: OnceCell::new(),
            changed: Notify::new(),
            closing: CancellationToken::new(),
            tasks,
        }));
        (engine.clone(), Run(engine))
    }

    /// Fails as a publish would before it looks at the event.
    ///
    /// # Errors
    /// [`Error::NotConfigured`], [`Error::NameEmpty`], [`Error::NotFound`], [`Error::TopicEmpty`].
    pub fn check(&self, pubsub: &str, topic: &str) -> Result<(), Error> {
        self.0.core.check(pubsub, topic)
    }

    /// Publishes one event; on return the broker has it.
    ///
    /// # Errors
    /// As [`Engine::check`]; [`Error::Metadata`], [`Error::CloudEvent`], [`Error::Forbidden`], [`Error::Component`].
    pub async fn publish(&self, publish: Publish) -> Result<(), Error> {
        self.0.core.publish(publish).await
    }

    /// Publishes several events; what failed is listed.
    ///
    /// # Errors
    /// As [`Engine::publish`], where nothing was tried; failures of the component are in the list.
    pub async fn bulk_publish(&self, publish: BulkPublish) -> Result<Vec<Failed>, Error> {
        self.0.core.bulk_publish(publish).await
    }

    /// Transactions whose writes are published.
    pub fn outbox(&self) -> Outbox {
        Outbox::new(self.clone())
    }

    pub(crate) fn core(&self) -> &Core {
        &self.0.core
    }

    /// Waits until the internal topic of an outbox is subscribed to, or was tried: a broker that keeps nothing would lose
    /// what is published before.
    pub(crate) async fn relay_begun(&self, pubsub: &str, topic: &str) {
        let inner = &self.0;
        let key = Key::Outbox {
            pubsub: pubsub.to_owned(),
            topic: topic.to_owned(),
        };
        let mut phase = inner.consumers.lock().phase(&key);
        if phase.is_none() {
            inner.reconcile(Mode::Drain);
            phase = inner.consumers.lock().phase(&key);
        }
        if let Some(mut phase) = phase {
            // One that has ended meanwhile is not waited for.
            let _ = phase.wait_for(|phase| *phase != Phase::Opening).await;
        }
    }

    /// Every subscription, open or not, as the metadata API lists them.
    pub fn subscriptions(&self) -> Vec<Listed> {
        self.0.declarations.lock().listed()
    }

    /// Adds or replaces a resource's subscription; it is opened soon, by [`Run::run`] or the next [`Intake::start`].
    ///
    /// # Errors
    /// [`Error::Rule`], [`Error::TopicEmpty`]; what was there before stays.
    pub fn apply_subscription(&self, resource: crds::Subscription) -> Result<(), Error> {
        let name = crds::Kind::name(&resource).to_owned();
        let subscription = Subscription::declared(resource)?;
        self.0.declarations.lock().declare(name, subscription);
        self.0.changed.notify_one();
        Ok(())
    }

    /// Takes a resource's subscription away; unknown names are ignored.
    pub fn remove_subscription(&self, name: &str) {
        self.0.declarations.lock().withdraw(name);
        self.0.changed.notify_one();
    }

    /// Opens a streaming subscription.
    ///
    /// # Errors
    /// [`Error::NotConfigured`], [`Error::NotFound`], [`Error::NotSubscribable`], [`Error::Component`], [`Error::Closed`].
    pub async fn stream(&self, request: StreamRequest) -> Result<Streaming, Error> {
        let inner = &self.0;
        if inner.consumers.lock().closed {
            return Err(Error::Closed);
        }
        let broker = brokers::named(&inner.core.brokers, &request.pubsub)?;
        let subscription = Arc::new(Subscription::streaming(request));
        let (session, events) = Session::new();
        let wanted = Wanted {
            // The number is known once it is declared, which it is not before it is open.
            key: Key::Stream(0),
            broker,
            subscription: Arc::clone(&subscription),
            target: Target::Stream(Arc::clone(&session)),
        };
        let (mut open, subscriber, phase) = inner.prepare(wanted);
        let deliveries = consumer::open(&subscriber).await?;
        let id = {
            let mut consumers = inner.consumers.lock();
            if consumers.closed {
                return Err(Error::Closed);
            }
            let mut declarations = inner.declarations.lock();
            let id = declarations.add_stream(subscription, Arc::clone(&session));
            open.key = Key::Stream(id);
            let ended = open.control.ended.clone();
            inner.spawn(
                ended,
                consumer::run(subscriber, Some(deliveries), Vec::new(), phase),
            );
            consumers.add(open);
            id
        };
        // The component may have been replaced meanwhile.
        inner.reconcile(Mode::Drain);
        let inner = Arc::clone(inner);
        Ok(Streaming {
            events,
            session,
            withdraw: Box::new(move || {
                inner.declarations.lock().remove_stream(id);
                inner.reconcile(Mode::Drain);
            }),
        })
    }

    /// Ends once nothing is to be subscribed any more, for whoever waits to be told what.
    pub async fn closing(&self) {
        self.0.closing.cancelled().await;
    }

    /// Ends every subscription and stream, with what was taken delivered; none opens again.
    async fn shut_down(&self) {
        let inner = &self.0;
        inner.consumers.lock().closed = true;
        inner.closing.cancel();
        inner.reconcile(Mode::Drain).settled().await;
        for (_, _, session) in inner.declarations.lock().streams(None) {
            session.close();
        }
        inner.tasks.ended().await;
    }
}

/// Streams are open whatever the app's health is: somebody reads them.
#[async_trait]
impl Intake for Engine {
    /// The app is asked once what it subscribes to.
    async fn start(&self) {
        let inner = &self.0;
        if !inner.core.options.app.is_configured() || inner.consumers.lock().closed {
            return;
        }
        inner.ask().await;
        inner.consumers.lock().active = true;
        inner.reconcile(Mode::Drain).settled().await;
    }

    /// What the broker has handed over already is delivered as long as the app is healthy.
    async fn stop(&self) {
        let inner = &self.0;
        let healthy = *inner.core.options.app.health().borrow();
        let how = if healthy { Mode::Drain } else { Mode::Leave };
        inner.consumers.lock().active = false;
        inner.reconcile(how).settled().await;
    }

    async fn drain(&self) {
        self.shut_down().await;
    }
}

impl Inner {
    /// Has subscriptions begun and ended until those are open that should be. On return they are on their way.
    fn reconcile(self: &Arc<Self>, how: Mode) -> Changes {
        let mut consumers = self.consumers.lock();
        let wanted = if consumers.closed {
            Vec::new()
        } else {
            self.wanted(consumers.active)
        };
        let end = |key: &Key| {
            let declarations = self.declarations.lock();
            let (mode, is_withdrawn) = match key {
                // Nobody is left to take what a stream was sent. Its app may come back for what is published meanwhile.
                Key::Stream(id) if !declarations.has_stream(*id) => (Mode::Abandon, false),
                Key::App { pubsub, topic } => (how, !declarations.has(pubsub, topic)),
                // What was committed is published, if need be by a later life.
                Key::Stream(_) | Key::Outbox { .. } => (how, false),
            };
            End { mode, is_withdrawn }
        };
        consumers.reconcile(wanted, end, |wanted, before| {
            let (open, subscriber, phase) = self.prepare(wanted);
            let ended = open.control.ended.clone();
            self.spawn(ended, consumer::run(subscriber, None, before, phase));
            open
        });
        if how == Mode::Leave {
            consumers.hasten(Mode::Leave);
        }
        consumers.changes(None)
    }

    /// A subscription with the ends by which it is controlled; nothing runs yet.
    fn prepare(self: &Arc<Self>, wanted: Wanted) -> (Open, Arc<Subscriber>, watch::Sender<Phase>) {
        let (mode, receiver) = watch::channel(Mode::Run);
        let (phase, phases) = watch::channel(Phase::Opening);
        let withdrawn = CancellationToken::new();
        let subscriber = Arc::new(Subscriber {
            core: Arc::clone(&self.core),
            broker: Arc::clone(&wanted.broker),
            subscription: Arc::clone(&wanted.subscription),
            target: wanted.target,
            mode: receiver,
            withdrawn: withdrawn.clone(),
            opening: Opening::default(),
        });
        let open = Open {
            key: wanted.key,
            broker: wanted.broker,
            subscription: wanted.subscription,
            control: Control {
                mode,
                phase: phases,
                withdrawn,
                ended: CancellationToken::new(),
            },
        };
        (open, subscriber, phase)
    }

    fn spawn(&self, ended: CancellationToken, run: impl Future<Output = ()> + Send + 'static) {
        let until_here = ended.drop_guard();
        self.tasks.spawn(LOG, async move {
            let _until_here = until_here;
            run.await;
        });
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
    /// Opens and closes what is declared, by resources or by the metadata of stores.
    async fn keep(&self) {
        let mut stores = self.0.core.options.state.changes();
        loop {
            self.0.reconcile(Mode::Drain);
            tokio::select! {
                () = self.0.changed.notified() => {}
                // The stores are held by the engine, so they do not go before it.
                Ok(()) = stores.changed() => {}
            }
        }
    }
}
