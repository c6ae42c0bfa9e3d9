//! Instances of a guest. One serves one request at a time, and the next when it is done: what the guest keeps in its memory
//! outlives requests. One whose call came to no end is thrown away.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::{Instant, timeout},
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
    idle: Mutex<Vec<Idle>>,
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
    pub async fn new(program: Program, most: usize) -> Result<Self, Failure> {
        let pool = Self {
            program: Arc::new(program),
            free: Arc::new(Semaphore::new(most)),
            waiting: AtomicUsize::new(0),
            idle: Mutex::default(),
        };
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
        let guest = match idle {
            Some(idle) => idle.guest,
            None => self.make().await?,
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

    async fn make(&self) -> Result<Guest, Failure> {
        let program = Arc::clone(&self.program);
        let made = spawn_blocking(move || program.instance()).await;
        let made = made.map_err(|error| Failure::Trap(error.to_string()))?;
        made?.started().await
    }

    fn put(&self, guest: Guest) {
        let now = Instant::now();
        let mut idle = self.idle.lock();
        // The last one is taken first, so the first are those that nobody has needed for longest.
        let old = idle
            .iter()
            .take_while(|idle| now - idle.since > IDLE)
            .count();
        let dropped: Vec<Idle> = idle.drain(..old).collect();
        idle.push(Idle { guest, since: now });
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
