//! Batching for bulk subscriptions: items and time in, batches out.

use std::time::Duration;

use tokio::time::Instant;

use crate::subscription::Bulk;

/// Holds items until there are enough of them, or the first has waited long enough.
pub struct Batcher<T> {
    most: usize,
    wait: Duration,
    held: Vec<T>,
    due: Option<Instant>,
}

impl<T> Batcher<T> {
    /// `at_once`: the broker delivers the next message only after this one is settled, so waiting would only delay.
    pub fn new(bulk: Bulk, at_once: bool) -> Self {
        Self {
            most: bulk.most.max(1),
            wait: if at_once { Duration::ZERO } else { bulk.wait },
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

    fn batcher(at_once: bool) -> Batcher<u8> {
        Batcher::new(
            Bulk {
                most: 3,
                wait: WAIT,
            },
            at_once,
        )
    }

    #[test]
    fn a_full_batch_leaves_at_once() {
        let (mut batcher, now) = (batcher(false), Instant::now());
        assert_eq!(batcher.push(1, now), None);
        assert_eq!(batcher.push(2, now), None);
        assert_eq!(batcher.push(3, now), Some(vec![1, 2, 3]));
        assert_eq!(batcher.due(), None);
    }

    #[test]
    fn the_wait_counts_from_the_first_item() {
        let (mut batcher, now) = (batcher(false), Instant::now());
        batcher.push(1, now);
        batcher.push(2, now + WAIT / 2);
        assert_eq!(batcher.due(), Some(now + WAIT));
        assert_eq!(batcher.flush(), [1, 2]);
        batcher.push(3, now + WAIT * 5);
        assert_eq!(batcher.due(), Some(now + WAIT * 6));
    }

    #[test]
    fn serial_brokers_are_not_kept_waiting() {
        let (mut batcher, now) = (batcher(true), Instant::now());
        batcher.push(1, now);
        assert_eq!(batcher.due(), Some(now));
    }
}
