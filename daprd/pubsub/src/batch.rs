//! Batching for bulk subscriptions: items and time in, batches out.

use std::time::Duration;

use component::pubsub::Batching;
use tokio::time::Instant;

/// Holds items until there are enough of them, or the first has waited long enough.
pub struct Batcher<T> {
    most: usize,
    wait: Duration,
    held: Vec<T>,
    due: Option<Instant>,
}

impl<T> Batcher<T> {
    pub fn new(bulk: Batching) -> Self {
        Self {
            most: bulk.most.max(1),
            wait: bulk.wait,
            held: Vec::new(),
            due: None,
        }
    }

    /// Takes an item; gives the batch that is full with it. The wait counts from a batch's first item.
    pub fn push(&mut self, item: T, now: Instant) -> Option<Vec<T>> {
        if self.held.is_empty() {
            self.due = Some(now + self.wait);
        }
        self.held.push(item);
        (self.held.len() >= self.most).then(|| self.flush())
    }

    /// When the batch at hand has waited long enough.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The batch at hand; it may be empty.
    pub fn flush(&mut self) -> Vec<T> {
        self.due = None;
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_millis(100);

    fn batcher() -> Batcher<u8> {
        Batcher::new(Batching {
            most: 3,
            wait: WAIT,
        })
    }

    #[test]
    fn a_full_batch_leaves_at_once() {
        let (mut batcher, now) = (batcher(), Instant::now());
        assert_eq!(batcher.push(1, now), None);
        assert_eq!(batcher.push(2, now), None);
        assert_eq!(batcher.push(3, now), Some(vec![1, 2, 3]));
        assert_eq!(batcher.due(), None);
    }

    #[test]
    fn the_wait_counts_from_the_first_item() {
        let (mut batcher, now) = (batcher(), Instant::now());
        batcher.push(1, now);
        batcher.push(2, now + WAIT / 2);
        assert_eq!(batcher.due(), Some(now + WAIT));
        assert_eq!(batcher.flush(), [1, 2]);
        batcher.push(3, now + WAIT * 5);
        assert_eq!(batcher.due(), Some(now + WAIT * 6));
    }
}
