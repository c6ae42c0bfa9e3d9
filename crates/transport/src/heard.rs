//! When something came in on a connection last. Servers ping quiet connections; who must know that its server is there, and
//! may not ping itself, looks here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The last time that connections brought anything in. Clones share it.
#[derive(Clone, Debug)]
pub struct Heard(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    /// Milliseconds since then.
    last: AtomicU64,
}

impl Default for Heard {
    fn default() -> Self {
        Self(Arc::new(Inner {
            began: Instant::now(),
            last: AtomicU64::new(0),
        }))
    }
}

impl Heard {
    /// Something came in.
    pub fn note(&self) {
        let now = u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last.store(now, Ordering::Relaxed);
    }

    /// When something came in last; at first, when this began.
    #[must_use]
    pub fn last(&self) -> Instant {
        self.0.began + Duration::from_millis(self.0.last.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_tells_when() {
        let (heard, began) = (Heard::default(), Instant::now());
        assert_eq!(heard.last(), began);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(heard.last(), began);
        heard.clone().note();
        assert_eq!(heard.last(), Instant::now());
    }
}
