//! What the line is made of, and what it follows: the schedulers, the app, and the actor types of this sidecar.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock, atomic::AtomicUsize},
};

use app_channel::AppChannel;
use async_trait::async_trait;
use blocks::{Intake, Tasks};
use component::Spawn;
use parking_lot::Mutex;
use proto::scheduler::v1::ConcurrencyLimit;
use telemetry::Meter;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::{
    ActorTypes, Reminders,
    hosts::{self, Hosts},
    metrics::Metrics,
};

/// Makes the channel to a scheduler; nothing where the address is none.
pub type Dial = Arc<dyn Fn(&str) -> Option<Channel> + Send + Sync>;

/// What the line is made of.
pub struct Options {
    /// Of schedulers, any of which tells of all; empty: there are none.
    pub addresses: Vec<String>,
    /// Streams to each scheduler.
    pub streams: usize,
    pub app_id: String,
    /// Of the identity, by which schedulers know the app.
    pub namespace: String,
    /// Of the metrics.
    pub label: String,
    /// Of triggers that all sidecars of the app take at once, which schedulers keep to.
    pub limits: Vec<ConcurrencyLimit>,
    pub app: AppChannel,
    pub dial: Dial,
    pub meter: Meter,
    /// What runs its streams.
    pub spawn: Arc<dyn Spawn>,
}

/// The actors of this sidecar, whose reminders it takes.
pub struct Hosting {
    pub reminders: Arc<dyn Reminders>,
    pub types: ActorTypes,
}

/// The line to the schedulers. Clones share it.
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<Inner>);

/// What keeps the line; nothing is connected before it runs.
pub struct Run(Arc<Inner>);

pub(crate) struct Inner {
    pub addresses: Vec<String>,
    pub streams: usize,
    pub app_id: String,
    pub namespace: String,
    pub limits: Vec<ConcurrencyLimit>,
    pub app: AppChannel,
    pub dial: Dial,
    pub metrics: Metrics,
    pub tasks: Tasks,
    pub reminders: OnceLock<Arc<dyn Reminders>>,
    pub hosts: watch::Sender<Hosts>,
    /// Held while hosts are exchanged.
    pub changing: Mutex<()>,
    /// Which host the next call goes to.
    pub turn: AtomicUsize,
    pub wanted: watch::Sender<Wanted>,
    /// Streams on which jobs of the app may come.
    pub for_app: watch::Sender<usize>,
    /// Nothing is taken in any more.
    pub closed: CancellationToken,
}

/// What this sidecar takes at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Jobs of the app.
    pub app: bool,
    /// Reminders of actors.
    pub types: BTreeSet<String>,
}

impl Wanted {
    pub fn is_nothing(&self) -> bool {
        !self.app && self.types.is_empty()
    }
}

impl Engine {
    pub fn new(options: Options) -> (Self, Run) {
        let inner = Arc::new(Inner {
            metrics: Metrics::new(&options.meter, &options.label),
            addresses: options.addresses,
            streams: options.streams,
            app_id: options.app_id,
            namespace: options.namespace,
            limits: options.limits,
            app: options.app,
            dial: options.dial,
            tasks: Tasks::new(options.spawn),
            reminders: OnceLock::new(),
            hosts: watch::Sender::default(),
            changing: Mutex::default(),
            turn: AtomicUsize::default(),
            wanted: watch::Sender::default(),
            for_app: watch::Sender::default(),
            closed: CancellationToken::new(),
        });
        (Self(Arc::clone(&inner)), Run(inner))
    }

    /// Whether there is any scheduler to ask.
    pub fn is_configured(&self) -> bool {
        !self.0.addresses.is_empty()
    }

    /// The schedulers that are known, as they announce themselves.
    pub fn addresses(&self) -> Vec<String> {
        self.0.hosts.borrow().addresses()
    }

    fn take_for_app(&self, app: bool) {
        self.0.wanted.send_if_modified(|wanted| {
            let changes = wanted.app != app;
            wanted.app = app;
            changes
        });
    }
}

impl Run {
    /// Follows the schedulers and the actor types until shutdown; `known` is called once the schedulers are known for the
    /// first time, or where there are none.
    pub async fn run(
        self,
        actors: Option<Hosting>,
        known: impl FnOnce() + Send,
        shutdown: CancellationToken,
    ) {
        let inner = self.0;
        if inner.addresses.is_empty() {
            tracing::warn!(
                target: crate::LOG,
                "No scheduler host addresses provided. Scheduler disabled"
            );
            known();
            return;
        }
        if actors.is_some() {
            tracing::info!(target: crate::LOG, "Using Scheduler service for reminders.");
        }
        let follow_types = async {
            let Some(Hosting {
                reminders,
                mut types,
            }) = actors
            else {
                return;
            };
            let _ = inner.reminders.set(reminders);
            loop {
                let now = types.borrow_and_update().clone();
                inner.wanted.send_if_modified(|wanted| {
                    let changes = wanted.types != now;
                    wanted.types = now;
                    changes
                });
                if types.changed().await.is_err() {
                    return;
                }
            }
        };
        let work = async { tokio::join!(hosts::follow(&inner, known), follow_types) };
        shutdown.run_until_cancelled(work).await;
        // Streams that nobody has drained end with the program.
        inner.closed.cancel();
    }
}

#[async_trait]
impl Intake for Engine {
    async fn start(&self) {
        if self.0.app.is_configured() {
            self.take_for_app(true);
        }
    }

    async fn stop(&self) {
        self.take_for_app(false);
        let mut open = self.0.for_app.subscribe();
        // The sender lives as long as the engine.
        let _ = open.wait_for(|open| *open == 0).await;
    }

    async fn drain(&self) {
        self.0.closed.cancel();
        self.0.tasks.ended().await;
    }
}
