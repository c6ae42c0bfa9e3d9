//! The engine of actors, as the API and the scheduler's triggers see it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use app_channel::AppChannel;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use blocks::{Intake, Tasks, state::Stores};
use component::Spawn;
use jobs::{ActorTypes, Outcome, Trigger};
use parking_lot::Mutex;
use peers::Pool;
use resiliency::Policies;
use security::Security;
use telemetry::Meter;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use values::Clock;

use crate::{
    ActorId, Error, Timer,
    active::Active,
    app_host::AppHost,
    directory::Directory,
    host::{Firing, Host},
    hosting::{self, Hosting, Kind},
    metrics::Metrics,
    placement::{Line, Members},
    state,
    timers::{Due, Timers},
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
    /// The types whose reminders are taken: those that placement has heard of.
    types: watch::Sender<BTreeSet<String>>,
    timers: Mutex<Timers>,
    earlier: Notify,
    tasks: Tasks,
    /// What the app has said that it hosts.
    of_app: Mutex<BTreeSet<String>>,
    closed: CancellationToken,
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
            types: watch::Sender::default(),
            timers: Mutex::default(),
            earlier: Notify::new(),
            tasks: Tasks::new(Arc::clone(&options.spawn)),
            of_app: Mutex::default(),
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

    /// Follows placement, the clock, and the state store, until shutdown. What the app hosts is followed by its health, see
    /// [`Intake`].
    pub async fn run(self, shutdown: CancellationToken) {
        let inner = &self.0;
        if !inner.is_enabled() {
            return;
        }
        if !inner.options.app.is_configured() {
            inner.hosting.registered();
        }
        let rest = async {
            tokio::join!(
                inner.active.idle_out(),
                self.fire_timers(),
                self.follow_store(),
                self.follow_types(),
            );
        };
        let placement = async {
            // Placement hears of all types at once.
            if inner.actor_store().is_some() {
                let mut registered = inner.hosting.registration();
                let _ = shutdown
                    .run_until_cancelled(registered.wait_for(|is| *is))
                    .await;
            }
            self.follow_placement(shutdown.clone()).await;
        };
        tokio::select! {
            _ = async { tokio::join!(placement, rest) } => {}
            () = shutdown.cancelled() => {}
        }
        inner.closed.cancel();
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
        match self.0.active.is_active(actor) {
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

    /// Hosts types no more; on return their actors are deactivated.
    pub async fn withdraw(&self, kinds: &BTreeSet<String>) {
        self.0.hosting.remove(kinds);
        self.0
            .active
            .drain(|actor| kinds.contains(&actor.kind))
            .await;
    }

    /// Hosts types no more that are hosted by `host`: another may have come in its place.
    pub(crate) fn withdraw_host(&self, mut kinds: BTreeSet<String>, host: Arc<dyn Host>) {
        kinds.retain(|name| {
            let kind = self.0.hosting.kind(name);
            kind.is_some_and(|kind| Arc::ptr_eq(&kind.host, &host))
        });
        let engine = self.clone();
        self.0.tasks.spawn("end of an actor host", async move {
            engine.withdraw(&kinds).await;
        });
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

    /// Placement has handed out a table that everybody has.
    pub(crate) fn connected(&self) {
        let inner = &self.0;
        (inner.options.connected)();
        let hosted = inner.hosting.advertised().borrow().clone();
        inner.set_types(hosted);
    }

    /// Types that are withdrawn get no reminders from then on, before placement has let them go.
    async fn follow_types(&self) {
        let inner = &self.0;
        let mut advertised = inner.hosting.advertised();
        while advertised.changed().await.is_ok() {
            let now = advertised.borrow_and_update().clone();
            let kept = inner.types.borrow().intersection(&now).cloned().collect();
            inner.set_types(kept);
        }
    }

    /// Hosts only while there is a state store for actors; where another comes in its place, actors begin anew.
    async fn follow_store(&self) {
        let inner = &self.0;
        let mut changes = inner.options.state.changes();
        let mut name = inner.actor_store();
        inner.hosting.suspend(name.is_none());
        if name.is_none() {
            tracing::info!(
                "Actor state store not configured - actor hosting disabled until one is configured, but invocation enabled"
            );
        }
        while changes.changed().await.is_ok() {
            let now = inner.actor_store();
            if now == name {
                continue;
            }
            if name.is_some() {
                tracing::info!("Actor state store removed or replaced - draining hosted actors");
                inner.hosting.suspend(true);
                inner.active.drain(|_| true).await;
            }
            if let Some(store) = &now {
                tracing::info!("Actor state store {store} configured - enabling actor hosting");
                inner.hosting.suspend(false);
            }
            name = now;
        }
    }

    async fn fire_timers(&self) {
        let inner = &self.0;
        loop {
            let next = inner.timers.lock().next();
            let now = inner.options.clock.now();
            let wait =
                next.map(|next| Duration::try_from(next.duration_since(now)).unwrap_or_default());
            let due = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = inner.earlier.notified() => continue,
            }
            let due = inner.timers.lock().due(inner.options.clock.now());
            for due in due {
                let engine = self.clone();
                inner
                    .tasks
                    .spawn("actor timer", async move { engine.fire_timer(due).await });
            }
        }
    }

    async fn fire_timer(&self, due: Due) {
        let inner = &self.0;
        if !inner.timers.lock().is_wanted(&due) {
            return;
        }
        let fired = inner
            .closed
            .run_until_cancelled(self.fire(due.firing.clone()));
        let Some(fired) = fired.await else {
            return;
        };
        let kind = &due.firing.actor.kind;
        inner.metrics.timer_fired(kind, fired.is_ok());
        let canceled = matches!(fired, Err(Error::Canceled));
        if let Err(error) = fired
            && !canceled
        {
            let (actor, name) = (&due.firing.actor, &due.firing.name);
            tracing::error!("Error executing timer {actor}||{name}: {error}");
        }
        if inner.timers.lock().fired(&due, canceled) {
            inner.metrics.timers(kind, -1.0);
        }
        inner.earlier.notify_one();
    }

    /// Asks the app what it hosts.
    async fn ask_app(&self) {
        let inner = &self.0;
        let options = &inner.options;
        let config = match options.app.actor_config().await {
            Ok(config) => config,
            Err(error) => {
                let problem = component::error::chain(&error);
                tracing::error!("the app's configuration cannot be read: {problem}");
                return;
            }
        };
        let app = AppHost::new(options.app.clone(), Arc::clone(&options.policies));
        let host: Arc<dyn Host> = Arc::new(app);
        let kinds = hosting::kinds(&config, &host, options.disseminate_timeout);
        if kinds.is_empty() {
            return;
        }
        let names: BTreeSet<String> = kinds.keys().cloned().collect();
        tracing::info!("Registering hosted actors: {names:?}");
        *inner.of_app.lock() = names;
        inner.hosting.add(kinds);
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
    fn actor_store(&self) -> Option<String> {
        let store = state::store(&self.options.state).ok()?;
        Some(store.name().to_owned())
    }

    fn set_types(&self, types: BTreeSet<String>) {
        self.types.send_if_modified(|now| {
            let changed = *now != types;
            *now = types;
            changed
        });
    }
}

/// The app's actors are hosted while it is healthy.
#[async_trait]
impl Intake for Engine {
    async fn start(&self) {
        if self.0.is_enabled() && self.0.options.ask_config {
            self.ask_app().await;
        }
        self.0.hosting.registered();
    }

    async fn stop(&self) {
        let kinds = std::mem::take(&mut *self.0.of_app.lock());
        self.withdraw(&kinds).await;
    }

    /// Placement is told first, and gives the actors to others: who calls them waits no longer than that takes. What is left
    /// is deactivated. Q-actor-leave
    async fn drain(&self) {
        let inner = &self.0;
        if !inner.is_enabled() {
            return;
        }
        inner.hosting.leave();
        let left = async {
            let mut changes = inner.directory.changes();
            while inner.line.is_ready() && !inner.directory.is_left() {
                if changes.changed().await.is_err() {
                    break;
                }
            }
            inner.active.drain(|_| true).await;
        };
        if timeout(LEAVING, left).await.is_err() {
            tracing::warn!("placement or the app has not let this host go within {LEAVING:?}");
        }
        inner.closed.cancel();
        inner.tasks.ended().await;
    }
}

/// Reminders run on the actor's owner, wherever it is.
#[async_trait]
impl jobs::Reminders for Engine {
    async fn remind(&self, trigger: Trigger) -> Outcome {
        let kind = trigger.actor_type.clone();
        let firing = Firing {
            actor: ActorId {
                kind: trigger.actor_type,
                id: trigger.actor_id,
            },
            name: trigger.name,
            due_time: String::new(),
            period: String::new(),
            callback: String::new(),
            data: trigger.data,
            is_timer: false,
        };
        let name = format!("{}||{}", firing.actor, firing.name);
        let fired = self.fire(firing).await;
        self.0.metrics.reminder_fired(&kind, fired.is_ok());
        match fired {
            Ok(()) | Err(Error::Canceled) => Outcome::Done,
            Err(error) => {
                tracing::error!("failed to invoke scheduled actor reminder {name}: {error}");
                Outcome::Failed
            }
        }
    }
}

/// How long placement, and the app with its actors, may take to let a sidecar go that ends.
const LEAVING: Duration = Duration::from_secs(4);
