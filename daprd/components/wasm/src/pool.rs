//! Instances of a guest. One serves one request at a time, and the next when it is done: what the guest keeps in its memory
//! outlives requests. One whose call came to no end is thrown away.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use component::Scope;
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};

use crate::{
    guest::{Failure, Guest},
    program::Program,
    settings::{IDLE, MOST_WAITING, WAIT},
};

/// The instances of a program.
pub struct Pool {
    program: Arc<Program>,
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    idle: Arc<Mutex<Vec<Idle>>>,
}

struct Idle {
    guest: Guest,
    since: Instant,
}

/// An instance that serves a request. It is thrown away with this, unless it is given back.
pub struct Taken<'p> {
    guest: Guest,
    pool: &'p Pool,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    /// Of at most so many, the first of which is made at once.
    ///
    /// # Errors
    /// Where that cannot be made.
    pub async fn new(program: Program, most: usize, scope: &Scope) -> Result<Self, Failure> {
        let pool = Self {
            program: Arc::new(program),
            free: Arc::new(Semaphore::new(most)),
            waiting: AtomicUsize::new(0),
            idle: Arc::default(),
        };
        scope.spawn(drop_old(Arc::clone(&pool.idle)));
        pool.take().await?.give_back();
        Ok(pool)
    }

    /// An instance that nobody has, or a new one.
    ///
    /// # Errors
    /// [`Failure::Busy`] where there are as many as there may be, and none gets free; else where a new one does not start.
    pub async fn take(&self) -> Result<Taken<'_>, Failure> {
        let permit = self.permit().await?;
        let idle = self.idle.lock().pop();
        let (guest, permit) = match idle {
            Some(idle) => (idle.guest, permit),
            None => self.make(permit).await?,
        };
        Ok(Taken {
            guest,
            pool: self,
            _permit: permit,
        })
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Failure> {
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(permit);
        }
        let _waiting = Waiting::new(&self.waiting).ok_or(Failure::Busy)?;
        let permit = timeout(WAIT, Arc::clone(&self.free).acquire_owned()).await;
        permit
            .map_err(|_| Failure::Busy)?
            .map_err(|_| Failure::Busy)
    }

    /// The permit goes along: an instance that is being made is there, also where nobody waits for it any more.
    async fn make(
        &self,
        permit: OwnedSemaphorePermit,
    ) -> Result<(Guest, OwnedSemaphorePermit), Failure> {
        let program = Arc::clone(&self.program);
        let made = spawn_blocking(move || (program.instance(), permit)).await;
        let (made, permit) = made.map_err(Failure::trap)?;
        Ok((made?.started().await?, permit))
    }

    fn put(&self, guest: Guest) {
        let since = Instant::now();
        self.idle.lock().push(Idle { guest, since });
    }
}

/// Drops, again and again, those that nobody has needed for long.
async fn drop_old(idle: Arc<Mutex<Vec<Idle>>>) {
    loop {
        sleep(IDLE / 2).await;
        let now = Instant::now();
        let mut idle = idle.lock();
        // The last one is taken first, so the first are those that nobody has needed for longest.
        let old = idle
            .iter()
            .take_while(|idle| now - idle.since > IDLE)
            .count();
        let dropped: Vec<Idle> = idle.drain(..old).collect();
        drop(idle);
        drop(dropped);
    }
}

impl Taken<'_> {
    /// The instance.
    pub fn guest(&mut self) -> &mut Guest {
        &mut self.guest
    }

    /// Makes it free for the next request.
    pub fn give_back(self) {
        self.pool.put(self.guest);
    }
}

/// One that waits, as long as this lives.
struct Waiting<'p>(&'p AtomicUsize);

impl<'p> Waiting<'p> {
    fn new(waiting: &'p AtomicUsize) -> Option<Self> {
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        let new = Self(waiting);
        (before < MOST_WAITING).then_some(new)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
