//! The sidecars and what is between them. An actor has one owner at a time by the table, but whoever was its owner before may still be
//! at work; calls are lost, answered in vain or made twice.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actors::{
    ActorId, Error, Kind, Request, Response,
    host::{Answers, Firing, Host},
    reminders::Reminders,
    state::State,
};
use async_trait::async_trait;
use blocks::state::Stores;
use component::Spawn;
use parking_lot::Mutex;
use telemetry::Meter;
use tokio::{
    sync::oneshot,
    task::{AbortHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use values::Clock;

use super::{
    chance::Chance,
    program,
    scheduler::Scheduler,
    store::{self, Store},
};
use crate::{Actors, Engine, Options, Retention, Workers, workers::Limits};

pub mod others;

/// Everything there is.
pub struct World {
    pub store: Arc<Store>,
    pub scheduler: Arc<Scheduler>,
    network: Arc<Network>,
    parts: Parts,
    firing: Arc<Crew>,
}

/// What sidecars are made of.
struct Parts {
    chance: Arc<Chance>,
    clock: Arc<dyn Clock>,
    stores: Stores,
    meter: Meter,
    scheduler: Arc<Scheduler>,
    fast_path: bool,
}

/// The sidecars, by their places.
struct Network {
    chance: Arc<Chance>,
    sidecars: Mutex<Vec<Sidecar>>,
    /// Moves on with each table.
    table: Mutex<usize>,
    /// Who never answers.
    silent: Mutex<Vec<String>>,
    /// How often sidecars have woken instances themselves.
    woken: AtomicUsize,
}

struct Sidecar {
    engine: Engine,
    hosts: Arc<Mutex<BTreeMap<String, Arc<dyn Host>>>>,
    crew: Arc<Crew>,
}

/// The tasks of a sidecar.
#[derive(Default)]
struct Crew(Mutex<JoinSet<()>>);

impl Crew {
    fn begin(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut tasks = self.0.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task)
    }

    fn lose(&self) {
        self.0.lock().abort_all();
    }
}

impl Spawn for Crew {
    fn spawn(&self, _: &str, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.begin(task);
    }
}

/// Time as the runtime counts it.
struct Simulated(tokio::time::Instant);

impl Clock for Simulated {
    fn now(&self) -> jiff::Timestamp {
        let begin = jiff::Timestamp::from_second(1_800_000_000).expect("a time");
        begin + self.0.elapsed()
    }

    fn instant(&self) -> std::time::Instant {
        tokio::time::Instant::now().into_std()
    }
}

impl World {
    /// Three sidecars of one app, on the fast path or not.
    pub async fn new(chance: Arc<Chance>, fast_path: bool) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(Simulated(tokio::time::Instant::now()));
        let store = Arc::new(Store::new(Arc::clone(&chance)));
        let scheduler = Arc::new(Scheduler::new(Arc::clone(&chance), Arc::clone(&clock)));
        let (stores, meter) = store::stores(&store, Arc::new(Crew::default())).await;
        let network = Arc::new(Network {
            chance: Arc::clone(&chance),
            sidecars: Mutex::default(),
            table: Mutex::default(),
            silent: Mutex::default(),
            woken: AtomicUsize::default(),
        });
        let parts = Parts {
            chance,
            clock,
            stores,
            meter,
            scheduler: Arc::clone(&scheduler),
            fast_path,
        };
        for place in 0..SIDECARS {
            let sidecar = parts.sidecar(&network, place);
            network.sidecars.lock().push(sidecar);
        }
        let firing = Arc::new(Crew::default());
        let (jobs, net, crew) = (
            Arc::clone(&scheduler),
            Arc::clone(&network),
            Arc::clone(&firing),
        );
        firing.begin(async move {
            loop {
                jobs.wait().await;
                for due in jobs.due() {
                    let (jobs, net) = (Arc::clone(&jobs), Arc::clone(&net));
                    crew.begin(async move {
                        let (kind, id, name) = due.key.clone();
                        let done = net.remind(ActorId { kind, id }, name, due.data.clone());
                        jobs.settle(&due, done.await.is_ok());
                    });
                }
            }
        });
        Self {
            store,
            scheduler,
            network,
            parts,
            firing,
        }
    }

    /// A sidecar that a client may ask.
    pub fn any(&self) -> Engine {
        let sidecars = self.network.sidecars.lock();
        sidecars[self.parts.chance.below(SIDECARS)].engine.clone()
    }

    /// A sidecar is lost and comes back, or instances move.
    pub async fn disturb(&self) {
        match self.parts.chance.below(3) {
            0 => self.lose(self.parts.chance.below(SIDECARS)),
            1 => self.move_all(),
            _ => {}
        }
    }

    /// A sidecar is lost and comes back.
    fn lose(&self, place: usize) {
        let sidecar = self.parts.sidecar(&self.network, place);
        let lost = std::mem::replace(&mut self.network.sidecars.lock()[place], sidecar);
        lost.crew.lose();
    }

    /// All sidecars are lost and come back.
    pub fn lose_all(&self) {
        (0..SIDECARS).for_each(|place| self.lose(place));
    }

    /// Each instance gets another owner.
    pub fn move_all(&self) {
        *self.network.table.lock() += 1;
    }

    /// Calls of these actors come to no end, from now on.
    pub fn silence(&self, ids: &[&str]) {
        *self.network.silent.lock() = ids.iter().map(|id| (*id).to_owned()).collect();
    }

    /// How often sidecars have woken instances themselves.
    pub fn woken(&self) -> usize {
        self.network.woken.load(Ordering::Relaxed)
    }

    /// Everything stops.
    pub async fn end(self) {
        self.firing.lose();
        for sidecar in self.network.sidecars.lock().drain(..) {
            sidecar.crew.lose();
        }
    }
}

impl Parts {
    fn sidecar(&self, network: &Arc<Network>, place: usize) -> Sidecar {
        let crew = Arc::new(Crew::default());
        let hosts = Arc::default();
        let workers = Workers::new(Limits::default());
        let engine = Engine::new(Options {
            app_id: "shop".to_owned(),
            namespace: "ns".to_owned(),
            actors: Arc::new(Line {
                network: Arc::clone(network),
                hosts: Arc::clone(&hosts),
            }),
            state: State::new(actors::state::Options {
                app_id: "shop".to_owned(),
                stores: self.stores.clone(),
                ttl: false,
            }),
            stores: self.stores.clone(),
            reminders: Reminders::new(actors::reminders::Options {
                app_id: "shop".to_owned(),
                namespace: "ns".to_owned(),
                scheduling: Arc::clone(&self.scheduler) as Arc<_>,
            }),
            workers: workers.clone(),
            retention: Retention::default(),
            max_body: 0,
            fast_path: self.fast_path,
            janitor_period: Duration::from_secs(2),
            fold_wait: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            signer: self.chance.signer.clone(),
            meter: self.meter.clone(),
            tracer: telemetry::trace::Tracer::disabled(),
            latency_buckets: Vec::new(),
            label: String::new(),
            clock: Arc::clone(&self.clock),
            spawn: Arc::clone(&crew) as Arc<dyn Spawn>,
        });
        crew.begin(engine.clone().run(CancellationToken::new()));
        crew.begin(program::work(
            workers,
            Arc::clone(&self.chance),
            Arc::clone(&self.clock),
        ));
        let _ = place;
        Sidecar {
            engine,
            hosts,
            crew,
        }
    }
}

impl Network {
    /// Whose an actor is by the table, and by whom it is hosted there.
    fn owner(&self, actor: &ActorId) -> Result<(Arc<dyn Host>, Arc<Crew>), Error> {
        let hash = actor.id.bytes().fold(7_usize, |sum, byte| {
            sum.wrapping_mul(31) + usize::from(byte)
        });
        let place = (hash + *self.table.lock()) % SIDECARS;
        let sidecars = self.sidecars.lock();
        let sidecar = sidecars.get(place).ok_or(Error::Closed)?;
        let host = sidecar.hosts.lock().get(&actor.kind).cloned();
        let host = host.ok_or_else(|| Error::NoAddress(actor.clone()))?;
        Ok((host, Arc::clone(&sidecar.crew)))
    }

    /// Does something at the owner, whose loss is heard of.
    async fn at<T: Send + 'static, Done>(
        &self,
        actor: &ActorId,
        done: impl Fn(Arc<dyn Host>) -> Done,
    ) -> Result<T, Error>
    where
        Done: Future<Output = Result<T, Error>> + Send + 'static,
    {
        self.chance.pause().await;
        let is_silent = self.silent.lock().contains(&actor.id);
        if is_silent {
            return std::future::pending().await;
        }
        if self.chance.strikes(2) {
            return Err(Error::Disconnected);
        }
        let (host, crew) = self.owner(actor)?;
        if self.chance.strikes(2) {
            let again = done(Arc::clone(&host));
            crew.begin(async move { drop(again.await) });
        }
        let (answer, heard) = oneshot::channel();
        let task = done(host);
        crew.begin(async move {
            let _ = answer.send(task.await);
        });
        let answer = heard.await.map_err(|_| Error::Disconnected)?;
        self.chance.pause().await;
        match self.chance.strikes(2) {
            true => Err(Error::Disconnected),
            false => answer,
        }
    }

    async fn remind(
        &self,
        actor: ActorId,
        name: String,
        data: Option<prost_types::Any>,
    ) -> Result<(), Error> {
        let firing = Firing {
            actor: actor.clone(),
            name,
            due_time: String::new(),
            period: String::new(),
            callback: String::new(),
            data,
            is_timer: false,
        };
        let remind = |host: Arc<dyn Host>| {
            let firing = firing.clone();
            async move { host.remind(firing).await }
        };
        self.at(&actor, remind).await
    }
}

/// The network as one sidecar sees it.
struct Line {
    network: Arc<Network>,
    hosts: Arc<Mutex<BTreeMap<String, Arc<dyn Host>>>>,
}

#[async_trait]
impl Actors for Line {
    async fn invoke(&self, request: Request) -> Result<Response, Error> {
        let call = |host: Arc<dyn Host>| {
            let request = request.clone();
            async move { host.call(request).await }
        };
        self.network.at(&request.actor, call).await
    }

    async fn follow(&self, request: Request) -> Result<Answers, Error> {
        let (host, _) = self.network.owner(&request.actor)?;
        host.follow(request).await
    }

    async fn wake(&self, actor: ActorId, name: String) -> Result<(), Error> {
        self.network.woken.fetch_add(1, Ordering::Relaxed);
        self.network.remind(actor, name, None).await
    }

    fn host(&self, kinds: Vec<(String, Kind)>) {
        let hosts = kinds.into_iter().map(|(name, kind)| (name, kind.host));
        self.hosts.lock().extend(hosts);
    }

    async fn withdraw(&self, host: &Arc<dyn Host>) {
        self.hosts
            .lock()
            .retain(|_, hosted| !Arc::ptr_eq(hosted, host));
    }
}

const SIDECARS: usize = 3;
