//! The dice of a run.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use crate::signing::{Signer, fake::Fake};

/// All that is random in a run.
pub struct Chance {
    dice: Mutex<fastrand::Rng>,
    calm: AtomicBool,
    /// So many effects are left before the one after which nothing goes on.
    fuse: Mutex<Option<usize>>,
    blown: AtomicBool,
    /// Every other run signs its histories.
    pub signer: Option<Arc<dyn Signer>>,
}

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self {
            dice: Mutex::new(fastrand::Rng::with_seed(seed)),
            calm: AtomicBool::new(false),
            fuse: Mutex::default(),
            blown: AtomicBool::new(false),
            signer: (seed % 2 == 1).then(|| Fake::new("shop", 0, 1 << 33) as Arc<dyn Signer>),
        }
    }

    /// Nothing goes wrong any more.
    pub fn calm(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    /// Whether something goes wrong that does so many times out of a hundred.
    pub fn strikes(&self, percent: u32) -> bool {
        !self.calm.load(Ordering::Relaxed) && self.dice.lock().u32(0..100) < percent
    }

    /// Whoever has the effect behind so many goes on no more.
    pub fn cut_after(&self, effects: Option<usize>) {
        *self.fuse.lock() = effects;
        self.blown.store(false, Ordering::Relaxed);
    }

    /// Whether somebody has had that effect.
    pub fn is_cut(&self) -> bool {
        self.blown.load(Ordering::Relaxed)
    }

    /// The store, or the scheduler, has done something.
    pub async fn effect(&self) {
        let left = match &mut *self.fuse.lock() {
            Some(left) => {
                let now = *left;
                *left = now.saturating_sub(1);
                now
            }
            None => return,
        };
        if left == 0 {
            self.blown.store(true, Ordering::Relaxed);
            std::future::pending::<()>().await;
        }
    }

    pub fn below(&self, most: usize) -> usize {
        self.dice.lock().usize(0..most.max(1))
    }

    pub fn millis(&self, most: u64) -> Duration {
        Duration::from_millis(self.dice.lock().u64(0..most.max(1)))
    }

    /// Lets others go first, now and then for long.
    pub async fn pause(&self) {
        let how = self.dice.lock().u32(0..10);
        match how {
            0..=4 => {}
            5..=8 => tokio::task::yield_now().await,
            _ => tokio::time::sleep(self.millis(20)).await,
        }
    }
}
