//! A bounded map that forgets what was not used for a while: second chance, one bit per entry, amortised constant time.

use std::collections::HashMap;
use std::sync::Arc;

/// At most `capacity` entries, keyed by text.
#[derive(Debug)]
pub(crate) struct Cache<V> {
    capacity: usize,
    index: HashMap<Arc<str>, usize>,
    slots: Vec<Slot<V>>,
    hand: usize,
}

#[derive(Debug)]
struct Slot<V> {
    key: Arc<str>,
    value: V,
    used: bool,
}

impl<V: Clone> Cache<V> {
    /// Room for `capacity` entries, at least one; memory grows with use.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            index: HashMap::new(),
            slots: Vec::new(),
            hand: 0,
        }
    }

    /// The value of `key`, made if it is missing; the least recently used neighbour makes room.
    pub(crate) fn entry(&mut self, key: &str, make: impl FnOnce() -> V) -> V {
        if let Some(&position) = self.index.get(key) {
            let slot = &mut self.slots[position];
            slot.used = true;
            return slot.value.clone();
        }
        let key: Arc<str> = Arc::from(key);
        let slot = Slot {
            key: Arc::clone(&key),
            value: make(),
            used: false,
        };
        let value = slot.value.clone();
        if self.slots.len() < self.capacity {
            self.index.insert(key, self.slots.len());
            self.slots.push(slot);
            return value;
        }
        while self.slots[self.hand].used {
            self.slots[self.hand].used = false;
            self.hand = (self.hand + 1) % self.slots.len();
        }
        self.index.remove(&self.slots[self.hand].key);
        self.index.insert(key, self.hand);
        self.slots[self.hand] = slot;
        self.hand = (self.hand + 1) % self.slots.len();
        value
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        assert_eq!(self.index.len(), self.slots.len());
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_size_is_bounded() {
        let mut cache = Cache::new(3);
        for key in ["a", "b", "c"] {
            cache.entry(key, || key.to_owned());
        }
        for round in 0..50 {
            assert_eq!(cache.entry("a", || panic!("a is in use")), "a");
            let key = format!("new-{round}");
            assert_eq!(cache.entry(&key, || key.clone()), key);
            assert_eq!(cache.len(), 3);
        }
        assert_eq!(cache.entry("b", || "made again".to_owned()), "made again");
    }

    #[test]
    fn a_cache_has_room_for_one() {
        let mut cache = Cache::new(0);
        assert_eq!(cache.entry("a", || 1), 1);
        assert_eq!(cache.entry("b", || 2), 2);
        assert_eq!(cache.len(), 1);
    }
}
