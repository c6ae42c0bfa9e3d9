//! The actors that are active here. Invariant: of one actor there is one cell, calls at it hold a turn of the cell, and a cell
//! goes before another comes, so that an actor has one holder at a time.

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
    /// Fires for each once it is gone; also for those that were on their way before.
    pub gone: Vec<CancellationToken>,
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

    /// Waits for a turn at an actor, which is active from then on.
    ///
    /// # Errors
    /// [`Error::Deactivated`] where it went meanwhile, [`Error::StackDepth`], [`Error::Busy`].
    pub async fn turn(
        &self,
        actor: &ActorId,
        kind: &Arc<Kind>,
        chain: Option<&str>,
        method: &str,
    ) -> Result<Turn, Error> {
        let cell = self.cell(actor, kind);
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
        Ok(turn)
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

    fn cell(&self, actor: &ActorId, kind: &Arc<Kind>) -> Arc<Cell> {
        match self.cells.entry(actor.clone()) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(place) => {
                let cell = Arc::new(Cell {
                    actor: actor.clone(),
                    kind: Arc::clone(kind),
                    turns: Mutex::new(Turns::new(kind.depth)),
                    used: Mutex::new(Instant::now()),
                    asked: AtomicBool::new(false),
                    closing: CancellationToken::new(),
                    broken: CancellationToken::new(),
                    lost: AtomicBool::new(false),
                    gone: CancellationToken::new(),
                    left: Notify::new(),
                });
                place.insert(Arc::clone(&cell));
                self.look_at(Instant::now() + kind.idle, actor.clone());
                cell
            }
        }
    }

    fn look_at(&self, when: Instant, actor: ActorId) {
        let mut idle = self.idle.lock();
        let earlier = idle.peek().is_none_or(|Reverse((first, _))| when < *first);
        idle.push(Reverse((when, actor)));
        if earlier {
            self.earlier.notify_one();
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
        let (mut closed, mut gone) = (Vec::new(), Vec::new());
        for cell in self.cells.iter().filter(|cell| goes(cell)) {
            gone.push(cell.gone.clone());
            if cell.turns.lock().close() {
                closed.push(Arc::clone(&cell));
            }
        }
        Leaving { closed, gone }
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

    /// Waits for those that are on their way out.
    pub async fn gone(&self) {
        let going = self.cells.iter();
        let going = going.filter(|cell| cell.turns.lock().is_closed());
        let going: Vec<_> = going.map(|cell| cell.gone.clone()).collect();
        for gone in going {
            gone.cancelled().await;
        }
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

    /// Waits for actors that nobody calls, and closes them.
    pub async fn idle(&self) -> Vec<Arc<Cell>> {
        loop {
            let first = self.idle.lock().peek().map(|Reverse((when, _))| *when);
            let wait = async {
                match first {
                    Some(when) => tokio::time::sleep_until(when).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wait => {}
                () = self.earlier.notified() => continue,
            }
            let idle = self.take_idle(Instant::now());
            if !idle.is_empty() {
                return idle;
            }
        }
    }

    fn take_idle(&self, now: Instant) -> Vec<Arc<Cell>> {
        let mut due = Vec::new();
        {
            let mut idle = self.idle.lock();
            while idle.peek().is_some_and(|Reverse((when, _))| *when <= now) {
                due.extend(idle.pop().map(|Reverse((_, actor))| actor));
            }
        }
        let mut found = Vec::new();
        for actor in due {
            let Some(cell) = self.cells.get(&actor).map(|cell| Arc::clone(&cell)) else {
                continue;
            };
            let last = *cell.used.lock();
            let when = last + cell.kind.idle;
            let mut turns = cell.turns.lock();
            if !turns.is_idle() || when > now {
                drop(turns);
                self.look_at(when.max(now + SHORTEST_LOOK), actor);
            } else if turns.close() {
                drop(turns);
                found.push(cell);
            }
        }
        found
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

/// Between two looks at an actor that is never idle for long.
const SHORTEST_LOOK: Duration = Duration::from_millis(10);
