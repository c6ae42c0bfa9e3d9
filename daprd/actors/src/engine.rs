//! The engine of actors, as the API and the scheduler's triggers see it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use app_channel::AppChannel;
use async_trait::async_trait;
use blocks::state;
use component::Spawn;
use jobs::{ActorTypes, Outcome, Trigger};
use peers::Pool;
use resiliency::Policies;
use security::Security;
use telemetry::{Meter, trace::Tracer};
use values::Clock;

use crate::{ActorId, Error, Request, Response, Timer};

/// What the engine is made of.
pub struct Options {
    pub app_id: String,
    pub namespace: String,
    /// Address of the internal server, as other sidecars reach it: `host:port`.
    pub address: String,
    /// Addresses of placement; none switches actors off.
    pub placement: Vec<String>,
    /// The first address is a name with an address for each member.
    pub lookup: bool,
    /// How long a round of placement may take.
    pub disseminate_timeout: Duration,
    pub app: AppChannel,
    pub state: state::Stores,
    pub peers: Pool,
    pub security: Security,
    pub policies: Arc<arc_swap::ArcSwap<Policies>>,
    pub meter: Meter,
    pub tracer: Tracer,
    pub clock: Arc<dyn Clock>,
    pub spawn: Arc<dyn Spawn>,
    /// Largest message, in bytes.
    pub max_message: usize,
}

/// The actors of a sidecar. Clones share them.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    types: tokio::sync::watch::Sender<BTreeSet<String>>,
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
    /// An engine; run what it is beside.
    pub fn new(_options: Options) -> Self {
        Self(Arc::new(Inner {
            types: tokio::sync::watch::Sender::default(),
        }))
    }

    /// Whether there are actors at all.
    ///
    /// # Errors
    /// [`Error::NoPlacement`], [`Error::Closed`].
    pub fn check(&self) -> Result<(), Error> {
        Err(Error::NoPlacement)
    }

    /// Calls a method of an actor, wherever its host is, under the policies of its type. Type and id are checked by the caller
    /// against path characters, and the method is normalised.
    ///
    /// # Errors
    /// Any [`Error`]; of those of the app, [`Error::Actor`] carries an answer that is passed on.
    pub async fn invoke(&self, _request: Request) -> Result<Response, Error> {
        self.check()?;
        Err(Error::Closed)
    }

    /// Whether this sidecar hosts a type: reminders and timers of others are not its business.
    pub fn hosts(&self, _kind: &str) -> bool {
        false
    }

    /// Whether an actor lives here: its state is nobody else's business. Waits while placement hands a table out.
    ///
    /// # Errors
    /// [`Error::InstanceMissing`] where it lives elsewhere, [`Error::NoPlacement`], [`Error::Closed`].
    pub async fn active_here(&self, _actor: &ActorId) -> Result<(), Error> {
        self.check()?;
        Err(Error::InstanceMissing)
    }

    /// Keeps a timer; one of the same name is replaced.
    ///
    /// # Errors
    /// [`Error::NotRegistered`] of a type that is not hosted here, [`Error::Timer`] for one that makes no sense.
    pub fn register_timer(&self, timer: Timer) -> Result<(), Error> {
        self.check()?;
        Err(Error::NotRegistered(timer.actor.kind))
    }

    /// Takes a timer away; one that is not there is fine.
    ///
    /// # Errors
    /// Those of [`Engine::check`].
    pub fn unregister_timer(&self, _actor: &ActorId, _name: &str) -> Result<(), Error> {
        self.check()
    }

    /// The types whose reminders this sidecar takes.
    pub fn types(&self) -> ActorTypes {
        self.0.types.subscribe()
    }

    /// What the metadata API shows.
    pub fn status(&self) -> Status {
        Status {
            runtime: RuntimeStatus::Disabled,
            active: BTreeMap::new(),
            host_ready: false,
            placement: "placement: disconnected".to_owned(),
        }
    }
}

/// Reminders run on the actor's owner, wherever it is.
#[async_trait]
impl jobs::Reminders for Engine {
    async fn remind(&self, _trigger: Trigger) -> Outcome {
        Outcome::Failed
    }
}
