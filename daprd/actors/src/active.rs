//! The actors that are active here. Invariant: of one actor there is one cell, calls at it hold a turn of the cell, and a cell
//! goes before another comes, so that an actor has one holder at a time.

mod idle;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dashmap::{DashMap, Entry};
use futures::future::join_all;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    ActorId, Error,
    host::Host,
    hosting::Kind,
    metrics::Metrics,
    turns::{Place, Refusal, Turns},
};

/// All actors that are active.
pub struct Active {
    cells: DashMap<ActorId, Arc<Cell>>,
    /// When to look next whether an actor is idle: once for each cell.
    idle: Mutex<BinaryHeap<Reverse<(Instant, ActorId)>>>,
    earlier: Notify,
    /// Places of those whose app is asked to deactivate them.
    asking: Semaphore,
    metrics: Arc<Metrics>,
}

/// Actors that are on their way out.
pub struct Leaving {
    /// Those that somebody has to deactivate.
    pub closed: Vec<Arc<Cell>>,
    /// These, and those that were on their way before.
    pub all: Vec<Arc<Cell>>,
}

/// One actor.
pub struct Cell {
    actor: ActorId,
    kind: Arc<Kind>,
    turns: Mutex<Turns<CancellationToken>>,
    used: Mutex<Instant>,
    /// The app has heard of it.
    asked: AtomicBool,
    /// Calls that wait are to look for the actor anew.
    closing: CancellationToken,
    /// Calls that are at the actor are broken off.
    broken: CancellationToken,
    /// It may be another's, as soon as calls at it are broken off.
    lost: AtomicBool,
    /// No call is at it any more, and none comes.
    free: CancellationToken,
    /// It is deactivated.
    gone: CancellationToken,
    left: Notify,
}

/// The right to be at the actor, given back when it is dropped.
pub struct Turn {
    cell: Arc<Cell>,
    number: u64,
}

impl Active {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            cells: DashMap::new(),
            idle: Mutex::default(),
            earlier: Notify::new(),
            asking: Semaphore::new(MOST_ASKED),
            metrics,
        }
    }

    /// Waits for a turn at an actor, which is active from then on. Whether it was not before.
    ///
    /// # Errors
    /// [`Error::Deactivated`] where it went meanwhile, [`Error::StackDepth`], [`Error::Busy`].
    pub async fn turn(
        &self,
        actor: &ActorId,
        kind: &Arc<Kind>,
        chain: Option<&str>,
        method: &str,
    ) -> Result<(Turn, bool), Error> {
        let (cell, is_new) = self.cell(actor, kind);
        let entered = cell.turns.lock().enter(chain, CancellationToken::new);
        let Place {
            number,
            begun,
            at_once,
        } = match entered {
            Ok(place) => place,
            Err(Refusal::TooDeep) => return Err(Error::StackDepth),
            Err(Refusal::Full) => return Err(Error::Busy(actor.clone())),
            Err(Refusal::Closed) => {
                cell.gone.cancelled().await;
                return Err(Error::Deactivated(method.to_owned()));
            }
        };
        let turn = Turn {
            cell: Arc::clone(&cell),
            number,
        };
        if !at_once {
            let _pending = self.metrics.pending(&actor.kind);
            tokio::select! {
                biased;
                () = begun.cancelled() => {}
                () = cell.closing.cancelled() => {
                    drop(turn);
                    cell.gone.cancelled().await;
                    return Err(Error::Deactivated(method.to_owned()));
                }
            }
        }
        Ok((turn, is_new))
    }

    /// Whether the chain of calls is at the actor already.
    pub fn is_at(&self, actor: &ActorId, chain: &str) -> bool {
        let cell = self.cells.get(actor);
        cell.is_some_and(|cell| cell.turns.lock().is_at(chain))
    }

    /// Whether the actor is active, and this sidecar its holder.
    pub fn is_active(&self, actor: &ActorId) -> bool {
        let cell = self.cells.get(actor);
        cell.is_some_and(|cell| !cell.is_lost())
    }

    fn cell(&self, actor: &ActorId, kind: &Arc<Kind>) -> (Arc<Cell>, bool) {
        match self.cells.entry(actor.clone()) {
            Entry::Occupied(known) => (Arc::clone(known.get()), false),
            Entry::Vacant(place) => {
                let cell = Arc::new(Cell {
                    actor: actor.clone(),
                    kind: Arc::clone(kind),
                    turns: Mutex::new(match kind.parallel {
                        true => Turns::parallel(),
                        false => Turns::new(kind.depth),
                    }),
                    used: Mutex::new(Instant::now()),
                    asked: AtomicBool::new(false),
                    closing: CancellationToken::new(),
                    broken: CancellationToken::new(),
                    lost: AtomicBool::new(false),
                    free: CancellationToken::new(),
                    gone: CancellationToken::new(),
                    left: Notify::new(),
                });
                place.insert(Arc::clone(&cell));
                self.look_at(Instant::now() + kind.idle, actor.clone());
                (cell, true)
            }
        }
    }

    /// How many are active, of every type there is.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for cell in &self.cells {
            *counts.entry(cell.actor.kind.clone()).or_default() += 1;
        }
        counts
    }

    /// Closes those that are to go: no call begins at them any more.
    pub fn close(&self, goes: impl Fn(&Cell) -> bool) -> Leaving {
        let (mut closed, mut all) = (Vec::new(), Vec::new());
        for cell in self.cells.iter().filter(|cell| goes(cell)) {
            all.push(Arc::clone(&cell));
            if cell.turns.lock().close() {
                closed.push(Arc::clone(&cell));
            }
        }
        Leaving { closed, all }
    }

    /// Closes them all: they may be another's by now. Calls at them have at most so much time, and none behind it.
    pub fn lose(&self, most: Duration) -> Leaving {
        self.close(|cell| {
            cell.lost.store(true, Ordering::Relaxed);
            if most.is_zero() {
                cell.broken.cancel();
            }
            true
        })
    }

    /// Takes down cells that have been closed. Calls at them have the time of their type to end, and at most so much.
    pub async fn deactivate_all(&self, closed: &[Arc<Cell>], most: Duration) {
        join_all(closed.iter().map(|cell| self.deactivate(cell, most))).await;
    }

    /// Those that are on their way out.
    pub fn going(&self) -> Vec<Arc<Cell>> {
        let going = self.cells.iter();
        let going = going.filter(|cell| cell.turns.lock().is_closed());
        going.map(|cell| Arc::clone(&cell)).collect()
    }

    /// Takes down a cell that has been closed. Q-actor-gone-first
    async fn deactivate(&self, cell: &Arc<Cell>, most: Duration) {
        let going = Going { active: self, cell };
        cell.closing.cancel();
        if let Some(grace) = cell.kind.drain.map(|grace| grace.min(most))
            && timeout(grace, cell.emptied()).await.is_err()
        {
            tracing::error!(
                "Timed out waiting for actor type '{}' in-flight lock claims to be released: calls at actor {} are broken off after {grace:?}",
                cell.actor.kind,
                cell.actor
            );
        }
        cell.broken.cancel();
        cell.emptied().await;
        cell.free.cancel();
        if cell.asked.load(Ordering::Acquire) {
            let _place = self.asking.acquire().await;
            let answer = timeout(DEACTIVATION, cell.kind.host.deactivate(&cell.actor)).await;
            match answer {
                Ok(Ok(())) => self.metrics.deactivated(&cell.actor.kind),
                Ok(Err(error)) => self.failed(cell, &error),
                Err(_) => self.failed(cell, &Error::Timeout(DEACTIVATION)),
            }
        }
        drop(going);
    }

    fn failed(&self, cell: &Cell, error: &Error) {
        self.metrics.deactivation_failed(&cell.actor.kind, error);
        let problem = component::error::chain(error);
        tracing::error!("failed to deactivate actor {}: {problem}", cell.actor);
    }
}

/// A cell on its way out: also where whoever deactivates it is dropped, nobody waits for it for ever.
struct Going<'a> {
    active: &'a Active,
    cell: &'a Arc<Cell>,
}

impl Drop for Going<'_> {
    fn drop(&mut self) {
        let Self { active, cell } = self;
        cell.broken.cancel();
        cell.free.cancel();
        active
            .cells
            .remove_if(&cell.actor, |_, there| Arc::ptr_eq(there, cell));
        cell.gone.cancel();
    }
}

impl Cell {
    pub fn actor(&self) -> &ActorId {
        &self.actor
    }

    /// Who hosts it, which may not be who hosts its type by now.
    pub fn host(&self) -> &Arc<dyn Host> {
        &self.kind.host
    }

    /// Waits until no call is at it, and none can come.
    pub async fn free(&self) {
        self.free.cancelled().await;
    }

    /// Waits until it is deactivated.
    pub async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// Whether it may be another's.
    fn is_lost(&self) -> bool {
        self.broken.is_cancelled() && self.lost.load(Ordering::Relaxed)
    }

    async fn emptied(&self) {
        loop {
            let left = self.left.notified();
            if self.turns.lock().is_idle() {
                return;
            }
            left.await;
        }
    }
}

impl Turn {
    /// Fires once the actor is on its way out.
    pub fn closing(&self) -> CancellationToken {
        self.cell.closing.clone()
    }

    /// How the actor is hosted.
    pub fn kind(&self) -> &Kind {
        &self.cell.kind
    }

    /// Does something at the actor, which may be broken off.
    ///
    /// # Errors
    /// Those of the call, and [`Error::Deactivated`].
    pub async fn hold<T>(
        &self,
        method: &str,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        *self.cell.used.lock() = Instant::now();
        self.cell.asked.store(true, Ordering::Release);
        tokio::select! {
            biased;
            () = self.cell.broken.cancelled() => Err(Error::Deactivated(method.to_owned())),
            answer = call => answer,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = self.cell.turns.lock().leave(self.number);
        *self.cell.used.lock() = Instant::now();
        if let Some(begun) = next {
            begun.cancel();
        }
        self.cell.left.notify_waiters();
    }
}

/// How long the app may take to deactivate an actor.
const DEACTIVATION: Duration = Duration::from_secs(10);

/// Actors that the app is asked to deactivate at a time.
const MOST_ASKED: usize = 1000;
