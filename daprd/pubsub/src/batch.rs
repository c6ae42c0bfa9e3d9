//! Batches for an app that takes several messages at once: messages and time in, batches out, one after another.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use component::pubsub::{Batching, Delivery};
use tokio::time::Instant;

/// What waits to be delivered in batches. It holds no more than the subscription may have under way.
pub struct Batches {
    most: usize,
    /// Puts batches together where the broker has none of its own.
    batcher: Option<Batcher<Delivery>>,
    ready: VecDeque<Vec<Delivery>>,
}

impl Batches {
    /// `immediate` where the broker's own batches are delivered as they are, split only where the app takes fewer.
    pub fn new(bulk: Batching, immediate: bool) -> Self {
        Self {
            most: bulk.most.max(1),
            batcher: (!immediate).then(|| Batcher::new(bulk)),
            ready: VecDeque::new(),
        }
    }

    /// Takes what the broker has handed over together.
    pub fn take(&mut self, mut received: Vec<Delivery>, now: Instant) {
        if let Some(batcher) = &mut self.batcher {
            let full = received
                .into_iter()
                .filter_map(|one| batcher.push(one, now));
            return self.ready.extend(full);
        }
        while received.len() > self.most {
            let rest = received.split_off(self.most);
            self.ready.push_back(std::mem::replace(&mut received, rest));
        }
        self.ready.push_back(received);
    }

    /// When the batch at hand has waited long enough.
    pub fn due(&self) -> Option<Instant> {
        self.batcher.as_ref().and_then(Batcher::due)
    }

    /// Whoever waits for others waits no longer.
    pub fn flush(&mut self) {
        if let Some(batcher) = &mut self.batcher {
            let batch = batcher.flush();
            self.ready.extend((!batch.is_empty()).then_some(batch));
        }
    }

    /// The next batch, without messages of these order keys: they are given back.
    pub fn next(&mut self, left: &HashSet<String>) -> Option<Vec<Delivery>> {
        loop {
            let mut batch = self.ready.pop_front()?;
            batch.retain(|one| one.order_key.as_ref().is_none_or(|key| !left.contains(key)));
            if !batch.is_empty() {
                return Some(batch);
            }
        }
    }

    /// Whether a batch is ready.
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Messages in batches that are ready.
    pub fn waiting(&self) -> usize {
        self.ready.iter().map(Vec::len).sum()
    }

    /// Gives back everything.
    pub fn clear(&mut self) {
        self.flush();
        self.ready.clear();
    }
}

/// Holds items until there are enough of them, or the first has waited long enough.
struct Batcher<T> {
    most: usize,
    wait: Duration,
    held: Vec<T>,
    due: Option<Instant>,
}

impl<T> Batcher<T> {
    fn new(bulk: Batching) -> Self {
        Self {
            most: bulk.most.max(1),
            wait: bulk.wait,
            held: Vec::new(),
            due: None,
        }
    }

    /// Takes an item; gives the batch that is full with it. The wait counts from a batch's first item.
    fn push(&mut self, item: T, now: Instant) -> Option<Vec<T>> {
        if self.held.is_empty() {
            self.due = Some(now + self.wait);
        }
        self.held.push(item);
        (self.held.len() >= self.most).then(|| self.flush())
    }

    /// When the batch at hand has waited long enough.
    fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The batch at hand; it may be empty.
    fn flush(&mut self) -> Vec<T> {
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
