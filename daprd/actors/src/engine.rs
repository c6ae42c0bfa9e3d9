//! The engine of actors, as the API and the scheduler's triggers see it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use app_channel::AppChannel;
use arc_swap::ArcSwap;
use blocks::{
    Tasks,
    state::{Raw, Stores},
};
use component::Spawn;
use jobs::ActorTypes;
use parking_lot::Mutex;
use peers::Pool;
use resiliency::Policies;
use security::Security;
use telemetry::Meter;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use values::Clock;

use crate::{
    ActorId, Error, Timer,
    active::Active,
    directory::Directory,
    host::Host,
    hosting::{Hosting, Kind},
    metrics::Metrics,
    placement::{Line, Members},
    pulse::Pulse,
    state,
    timers::Timers,
};

/// What the engine is made of.
pub struct Options {
    pub app_id: String,
    pub namespace: String,
    /// Address of the internal server, as other sidecars reach it: `host:port`.
    pub address: String,
    pub placement: Members,
    /// How long a round of placement may take.
    pub disseminate_timeout: Duration,
    pub app: AppChannel,
    /// Whether the app is asked what it hosts.
    pub ask_config: bool,
    pub state: Stores,
    pub peers: Pool,
    pub security: Security,
    pub policies: Arc<ArcSwap<Policies>>,
    pub meter: Meter,
    pub clock: Arc<dyn Clock>,
    pub spawn: Arc<dyn Spawn>,
    /// Largest message, in bytes.
    pub max_message: usize,
    /// Hears that placement has given out the first table that everybody has.
    pub connected: Box<dyn Fn() + Send + Sync>,
}

/// The actors of a sidecar. Clones share them.
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub options: Options,
    pub metrics: Arc<Metrics>,
    pub active: Active,
    pub directory: Directory,
    pub hosting: Hosting,
    pub line: Line,
    pub pulse: Pulse,
    /// The types whose reminders are taken: those that placement has heard of.
    pub types: watch::Sender<BTreeSet<String>>,
    pub timers: Mutex<Timers>,
    pub earlier: Notify,
    pub tasks: Tasks,
    /// The app, where it hosts actors by its callbacks.
    pub of_app: Mutex<Option<Arc<dyn Host>>>,
    /// Cancelled once the app is not to be asked any more what it hosts.
    pub asking: Mutex<CancellationToken>,
    pub closed: CancellationToken,
}

/// How far the runtime is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeStatus {
    /// The app has not said yet what it hosts.
    Initializing,
    /// There is no placement.
    Disabled,
    Running,
}

/// What the metadata API shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub runtime: RuntimeStatus,
    /// Actors that are active here, by type.
    pub active: BTreeMap<String, usize>,
    /// Whether actors are found and may be hosted.
    pub host_ready: bool,
    /// What there is to say of the line to placement.
    pub placement: String,
}

impl Engine {
    /// An engine; it does nothing until it is run.
    pub fn new(options: Options) -> Self {
        let metrics = Arc::new(Metrics::new(&options.meter));
        let inner = Inner {
            active: Active::new(Arc::clone(&metrics)),
            directory: Directory::new(options.address.clone()),
            hosting: Hosting::new(),
            line: Line::default(),
            pulse: Pulse::new(),
            types: watch::Sender::default(),
            timers: Mutex::default(),
            earlier: Notify::new(),
            tasks: Tasks::new(Arc::clone(&options.spawn)),
            of_app: Mutex::default(),
            asking: Mutex::default(),
            closed: CancellationToken::new(),
            metrics,
            options,
        };
        if !inner.is_enabled() {
            tracing::warn!(
                "Actor runtime disabled: {}. Actors and Workflow APIs will be unavailable",
                Error::NoPlacement
            );
        }
        Self(Arc::new(inner))
    }

    /// Whether there are actors at all.
    ///
    /// # Errors
    /// [`Error::NoPlacement`], [`Error::Closed`].
    pub fn check(&self) -> Result<(), Error> {
        if !self.0.is_enabled() {
            return Err(Error::NoPlacement);
        }
        if self.0.closed.is_cancelled() {
            return Err(Error::Closed);
        }
        Ok(())
    }

    /// The namespace of this sidecar.
    pub fn namespace(&self) -> &str {
        &self.0.options.namespace
    }

    /// Whether this sidecar hosts a type: reminders and timers of others are not its business.
    pub fn hosts(&self, kind: &str) -> bool {
        let hosting = &self.0.hosting;
        !hosting.is_suspended() && hosting.kind(kind).is_some()
    }

    /// Whether an actor is active here: its state is nobody else's business.
    ///
    /// # Errors
    /// [`Error::InstanceMissing`] where it is not, [`Error::NoPlacement`], [`Error::Closed`].
    pub async fn active_here(&self, actor: &ActorId) -> Result<(), Error> {
        self.check()?;
        match self.0.active.is_active(actor) && self.0.pulse.is_steady() {
            true => Ok(()),
            false => Err(Error::InstanceMissing),
        }
    }

    /// Keeps a timer; one of the same name is replaced.
    ///
    /// # Errors
    /// [`Error::NotRegistered`] of a type that is not hosted here, [`Error::Timer`] for one that makes no sense.
    pub fn register_timer(&self, timer: Timer) -> Result<(), Error> {
        self.check()?;
        let kind = timer.actor.kind.clone();
        if !self.hosts(&kind) {
            return Err(Error::Timer(format!(
                "can't create timer for actor {}: actor type not registered",
                timer.actor
            )));
        }
        let now = self.0.options.clock.now();
        if self.0.timers.lock().add(timer, now)? {
            self.0.metrics.timers(&kind, 1.0);
        }
        self.0.earlier.notify_one();
        Ok(())
    }

    /// Takes a timer away; one that is not there is fine.
    ///
    /// # Errors
    /// Those of [`Engine::check`].
    pub fn unregister_timer(&self, actor: &ActorId, name: &str) -> Result<(), Error> {
        self.check()?;
        if self.0.timers.lock().remove(actor, name) {
            self.0.metrics.timers(&actor.kind, -1.0);
        }
        Ok(())
    }

    /// The types whose reminders this sidecar takes.
    pub fn types(&self) -> ActorTypes {
        self.0.types.subscribe()
    }

    /// Hosts types in process or by other ways than the app's callbacks, until they are withdrawn.
    pub fn host(&self, kinds: impl IntoIterator<Item = (String, Kind)>) {
        self.0.hosting.add(kinds);
        self.0.hosting.registered();
    }

    /// What the metadata API shows.
    pub fn status(&self) -> Status {
        let inner = &self.0;
        let runtime = if !inner.is_enabled() {
            RuntimeStatus::Disabled
        } else if *inner.hosting.registration().borrow() {
            RuntimeStatus::Running
        } else {
            RuntimeStatus::Initializing
        };
        let host_ready = runtime == RuntimeStatus::Running && inner.line.is_ready();
        let placement = match (runtime, host_ready) {
            (RuntimeStatus::Initializing, _) => "",
            (_, true) => "placement: connected",
            (_, false) => "placement: disconnected",
        };
        let mut active = BTreeMap::new();
        if runtime == RuntimeStatus::Running {
            active.extend(inner.hosting.names().into_iter().map(|name| (name, 0)));
            active.extend(inner.active.counts());
        }
        Status {
            runtime,
            active,
            host_ready,
            placement: placement.to_owned(),
        }
    }
}

impl Inner {
    /// Waits until the sidecar ends.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }

    pub fn is_enabled(&self) -> bool {
        !self.options.placement.addresses.is_empty()
    }

    /// The state store for actors, if there is one (contract 11.1).
    pub fn actor_store(&self) -> Option<Raw> {
        state::store(&self.options.state).ok()
    }

    pub fn set_types(&self, types: BTreeSet<String>) {
        self.types.send_if_modified(|now| {
            let changed = *now != types;
            *now = types;
            changed
        });
    }
}
