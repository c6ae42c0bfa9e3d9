//! The task that owns the dissemination of every namespace: it feeds reports and time to the machines
//! and carries their orders to the streams.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daemon::Refusals;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use proto::placement::v1::Host;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::dissemination::{Dissemination, Effect, Reason, StreamId, Timing};
use crate::election::Leads;
use crate::mailbox::{self, mailbox};
use crate::metrics::Metrics;
use crate::state::{StateTables, state};

/// How to disseminate.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Virtual nodes of a host on the ring of an actor type.
    pub replication_factor: i64,
    /// Limit of one round.
    pub timeout: Duration,
    /// How long changes are collected after a round; zero is off.
    pub coalesce: Duration,
}

/// Access to the task. Cheap to clone.
#[derive(Clone)]
pub struct Board {
    events: mpsc::Sender<Event>,
    refusals: Arc<Refusals>,
    metrics: Metrics,
}

/// The task itself.
pub struct BoardTask {
    options: Options,
    metrics: Metrics,
    events: mpsc::Receiver<Event>,
    leads: watch::Receiver<Leads>,
    /// Until when hosts are gathered, after an election.
    gathers: Option<Instant>,
    namespaces: BTreeMap<String, Dissemination>,
    streams: HashMap<StreamId, Connection>,
    ends: FuturesUnordered<BoxFuture<'static, StreamId>>,
    next: StreamId,
}

enum Event {
    Join {
        host: Box<Host>,
        reply: oneshot::Sender<Result<Joined, Status>>,
    },
    Report {
        stream: StreamId,
        host: Box<Host>,
    },
    State(oneshot::Sender<StateTables>),
}

/// A stream's ends of its queues.
pub(crate) struct Joined {
    pub id: StreamId,
    pub orders: mailbox::Receiver,
    pub expelled: oneshot::Receiver<Status>,
}

struct Connection {
    namespace: String,
    orders: mailbox::Sender,
    expel: oneshot::Sender<Status>,
}

impl Board {
    /// A board without hosts, and its task. It takes hosts while this member leads, and sends them on when it does not.
    #[must_use]
    pub fn new(
        options: Options,
        leads: watch::Receiver<Leads>,
        metrics: Metrics,
    ) -> (Self, BoardTask) {
        let (sender, events) = mpsc::channel(EVENTS);
        let refusals = Arc::new(Refusals::new("no table"));
        let counted = metrics.clone();
        let task = BoardTask {
            options,
            metrics,
            events,
            leads,
            gathers: None,
            namespaces: BTreeMap::new(),
            streams: HashMap::new(),
            ends: FuturesUnordered::new(),
            next: 0,
        };
        let board = Board {
            events: sender,
            refusals,
            metrics: counted,
        };
        (board, task)
    }

    pub(crate) async fn join(&self, host: Host) -> Result<Joined, Status> {
        let (reply, joined) = oneshot::channel();
        let host = Box::new(host);
        self.events
            .send(Event::Join { host, reply })
            .await
            .map_err(|_| closing())?;
        joined.await.map_err(|_| closing())?
    }

    pub(crate) async fn report(&self, stream: StreamId, host: Host) -> Result<(), Status> {
        let host = Box::new(host);
        self.events
            .send(Event::Report { stream, host })
            .await
            .map_err(|_| closing())
    }

    /// Notes that a report of a host was refused, and why.
    pub(crate) fn refused(&self, host: &Host, status: &Status) {
        let reason = status.code().description();
        self.metrics.refused(reason);
        let who = format!("{}/{}/{}", host.namespace, host.id, host.name);
        self.refusals.note(&who, reason, status.message(), None);
    }

    /// The tables of all namespaces.
    ///
    /// # Errors
    /// During shutdown.
    pub async fn state(&self) -> Result<StateTables, Status> {
        let (reply, state) = oneshot::channel();
        self.events
            .send(Event::State(reply))
            .await
            .map_err(|_| closing())?;
        state.await.map_err(|_| closing())
    }

    pub(crate) async fn state_json(&self) -> Result<Bytes, String> {
        let state = self
            .state()
            .await
            .map_err(|status| status.message().to_owned())?;
        serde_json::to_vec(&state)
            .map(Bytes::from)
            .map_err(|error| error.to_string())
    }
}

/// What hosts hear of a member that does not lead; they try the next one.
fn follower() -> Status {
    Status::failed_precondition(
        "this placement member is not a leader; only the leader takes hosts",
    )
}

/// What streams hear when the board has gone.
pub(crate) fn closing() -> Status {
    Status::unavailable("placement server is shutting down")
}

impl BoardTask {
    /// Disseminates until shutdown; all streams end with it.
    pub async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let wake = self
                .namespaces
                .values()
                .filter_map(Dissemination::wake)
                .min();
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(stream) = self.ends.next() => self.left(stream),
                event = self.events.recv() => match event {
                    Some(event) => self.event(event),
                    None => return,
                },
                Ok(()) = self.leads.changed() => self.led(),
                () = until(wake) => self.tick(),
            }
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Join { host, reply } => self.join(*host, reply),
            Event::Report { stream, host } => {
                let Some(connection) = self.streams.get(&stream) else {
                    return;
                };
                let namespace = connection.namespace.clone();
                self.apply(&namespace, |machine, now| {
                    machine.report(stream, *host, now)
                });
            }
            Event::State(reply) => {
                let tables = self
                    .namespaces
                    .iter()
                    .map(|(name, machine)| (name.clone(), state(machine)));
                // Whoever asked may have given up.
                let _ = reply.send(StateTables {
                    tables: tables.collect(),
                });
            }
        }
    }

    /// Another member leads: it hears from the hosts now, and what is known here is of the past. Or this one does: hosts of the
    /// last leader come, each as fast as it can, and the first must not get the actors at which others have calls.
    fn led(&mut self) {
        let leads = *self.leads.borrow_and_update();
        if leads.is_yes() {
            self.gathers = (leads == Leads::Next).then(|| Instant::now() + GATHER);
            return;
        }
        for (_, connection) in self.streams.drain() {
            // The stream may be ending by itself.
            let _ = connection.expel.send(follower());
        }
        for namespace in std::mem::take(&mut self.namespaces).into_keys() {
            self.metrics.hosts(&namespace, 0, 0);
        }
    }

    fn join(&mut self, host: Host, reply: oneshot::Sender<Result<Joined, Status>>) {
        if !self.leads.borrow().is_yes() {
            // Whoever asked may have given up, here and below.
            let _ = reply.send(Err(follower()));
            return;
        }
        if self.streams.len() >= MAX_STREAMS {
            let _ = reply.send(Err(Status::resource_exhausted(format!(
                "there are {MAX_STREAMS} hosts already"
            ))));
            return;
        }
        let id = self.next;
        self.next += 1;
        let (orders, receiver) = mailbox();
        let (expel, expelled) = oneshot::channel();
        let joined = Joined {
            id,
            orders: receiver,
            expelled,
        };
        if reply.send(Ok(joined)).is_err() {
            return;
        }
        let watched = orders.clone();
        self.ends.push(Box::pin(async move {
            watched.closed().await;
            id
        }));
        let namespace = host.namespace.clone();
        let connection = Connection {
            namespace: namespace.clone(),
            orders,
            expel,
        };
        self.streams.insert(id, connection);
        let timing = Timing {
            timeout: self.options.timeout,
            coalesce: self.options.coalesce,
        };
        let factor = self.options.replication_factor;
        self.namespaces.entry(namespace.clone()).or_insert_with(|| {
            Dissemination::new(timing, factor, self.gathers.map(Instant::into_std))
        });
        self.apply(&namespace, |machine, now| machine.join(id, host, now));
    }

    fn left(&mut self, stream: StreamId) {
        if let Some(connection) = self.streams.remove(&stream) {
            self.apply(&connection.namespace, |machine, now| {
                machine.leave(stream, now)
            });
        }
    }

    fn tick(&mut self) {
        let now = Instant::now().into_std();
        let due: Vec<String> = self
            .namespaces
            .iter()
            .filter(|(_, machine)| machine.wake().is_some_and(|wake| wake <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for namespace in due {
            self.apply(&namespace, Dissemination::tick);
        }
    }

    /// Runs one input through a namespace's machine, and carries out what it wants.
    fn apply<F>(&mut self, namespace: &str, input: F)
    where
        F: FnOnce(&mut Dissemination, std::time::Instant) -> Vec<Effect>,
    {
        let now = Instant::now().into_std();
        let Some(machine) = self.namespaces.get_mut(namespace) else {
            return;
        };
        for effect in input(machine, now) {
            match effect {
                Effect::Send(stream, order) => {
                    if let Some(connection) = self.streams.get(&stream) {
                        connection.orders.put(order);
                    }
                }
                Effect::Expel(stream, reason) => {
                    if let Some(connection) = self.streams.remove(&stream) {
                        // The stream may be ending by itself.
                        let _ = connection.expel.send(status(reason, namespace));
                    }
                }
            }
        }
        let (all, with_actors) = machine.counts();
        self.metrics.hosts(namespace, all, with_actors);
        if machine.is_empty() {
            self.namespaces.remove(namespace);
        }
    }
}

fn status(reason: Reason, namespace: &str) -> Status {
    match reason {
        Reason::Slow(text) => Status::deadline_exceeded(text),
        Reason::Full => Status::resource_exhausted(format!(
            "the table of namespace {namespace} has no room for more"
        )),
    }
}

async fn until(wake: Option<std::time::Instant>) {
    match wake {
        Some(wake) => sleep_until(Instant::from_std(wake)).await,
        None => std::future::pending().await,
    }
}

/// How long a member that was elected waits for the hosts of the last leader before its first table. Q-placement-gather
const GATHER: Duration = Duration::from_millis(500);

/// Reports that wait for the task; streams wait when it is full.
const EVENTS: usize = 1024;

/// Sidecars of all namespaces.
const MAX_STREAMS: usize = 10_000;
