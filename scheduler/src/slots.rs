//! The jobs in memory, each in a numbered slot and found by its name. There may be millions: what can be read from the
//! stored bytes is not kept beside them, and what most jobs have not takes no room.

use std::hash::{BuildHasher as _, RandomState};

use hashbrown::HashTable;

use crate::progress::Progress;

/// A job.
pub(crate) struct Slot {
    /// Its name, and what is stored of it, in one piece.
    bytes: Box<[u8]>,
    /// Bytes of the name.
    name: u32,
    pub place: Place,
    /// Of the write that made it; no other job has it.
    pub revision: u64,
    /// When it is due, in nanoseconds since 1970.
    pub due: i64,
    /// None as long as nothing has come of it.
    progress: Option<Box<Progress>>,
}

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the queue of due times.
    Queued,
    /// Due; waits for a stream.
    Waiting,
    /// Due; waits at a gate.
    Gate,
    /// Due; found no place in the queue of a gate, and looks again later.
    PutOff,
    /// On its way to a sidecar.
    Out,
    /// How far it has come is being stored.
    Saving,
    /// It is being deleted.
    Ending,
    /// It cannot be read.
    Parked,
}

impl Slot {
    pub fn new(name: &str, value: &[u8], revision: u64) -> Self {
        Self {
            bytes: [name.as_bytes(), value].concat().into(),
            name: u32::try_from(name.len()).expect("keys are no longer than messages"),
            place: Place::Parked,
            revision,
            due: 0,
            progress: None,
        }
    }

    pub fn name(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.name as usize]).expect("it was text")
    }

    /// What is stored of it.
    pub fn value(&self) -> &[u8] {
        &self.bytes[self.name as usize..]
    }

    pub fn progress(&self) -> Progress {
        self.progress.as_deref().copied().unwrap_or_default()
    }

    pub fn set_progress(&mut self, progress: Progress) {
        let begun = progress != Progress::default();
        self.progress = begun.then(|| Box::new(progress));
    }
}

/// All jobs.
#[derive(Default)]
pub(crate) struct Slots {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    /// Slots by the hash of their names.
    names: HashTable<u32>,
    hasher: RandomState,
}

impl Slots {
    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn find(&self, name: &str) -> Option<u32> {
        let same = |number: &u32| self.get(*number).name() == name;
        self.names.find(self.hasher.hash_one(name), same).copied()
    }

    /// A job whose name has no slot yet.
    pub fn insert(&mut self, slot: Slot) -> u32 {
        debug_assert!(self.find(slot.name()).is_none());
        let hash = self.hasher.hash_one(slot.name());
        let number = self.free.pop().unwrap_or_else(|| {
            // By an eighth, not to twice as much: half of many slots would lie idle.
            if self.slots.len() == self.slots.capacity() {
                self.slots.reserve_exact(self.slots.len() / 8 + FIRST);
            }
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer jobs than 2^32 fit into memory")
        });
        self.slots[number as usize] = Some(slot);
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.names.insert_unique(hash, number, |number| {
            hasher.hash_one(in_use(slots, *number).name())
        });
        number
    }

    pub fn remove(&mut self, number: u32) -> Slot {
        let slot = self.slots[number as usize]
            .take()
            .expect("slots in use are asked for");
        let hash = self.hasher.hash_one(slot.name());
        if let Ok(entry) = self.names.find_entry(hash, |other| *other == number) {
            entry.remove();
        }
        self.free.push(number);
        slot
    }

    /// The slots in use.
    pub fn numbers(&self) -> Vec<u32> {
        let slots = (0_u32..).zip(&self.slots);
        let used = slots.filter(|(_, slot)| slot.is_some());
        used.map(|(number, _)| number).collect()
    }

    /// Whether the slot still has the job of this revision.
    pub fn is(&self, number: u32, revision: u64) -> bool {
        let slot = self.slots.get(number as usize).and_then(Option::as_ref);
        slot.is_some_and(|slot| slot.revision == revision)
    }

    pub fn get(&self, number: u32) -> &Slot {
        in_use(&self.slots, number)
    }

    pub fn get_mut(&mut self, number: u32) -> &mut Slot {
        let slot = self.slots[number as usize].as_mut();
        slot.expect("slots in use are asked for")
    }
}

fn in_use(slots: &[Option<Slot>], number: u32) -> &Slot {
    let slot = slots[number as usize].as_ref();
    slot.expect("slots in use are asked for")
}

/// Slots that there is room for at first.
const FIRST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_slots_while_others_come_and_go() {
        let mut slots = Slots::default();
        let name = |n: u32| format!("app||ns||app||{n}");
        for n in 0..1000 {
            slots.insert(Slot::new(&name(n), &n.to_be_bytes(), n.into()));
        }
        for n in (0..1000).step_by(3) {
            let number = slots.find(&name(n)).unwrap();
            assert_eq!(slots.remove(number).value(), n.to_be_bytes());
        }
        for n in 1000..1200 {
            slots.insert(Slot::new(&name(n), &n.to_be_bytes(), n.into()));
        }
        for n in 0..1200 {
            let gone = n < 1000 && n % 3 == 0;
            let found = slots.find(&name(n)).map(|number| slots.get(number));
            assert_eq!(
                found.map(|slot| slot.name().to_owned()),
                (!gone).then(|| name(n))
            );
            assert_eq!(
                found.map(Slot::value),
                (!gone).then_some(&n.to_be_bytes()[..])
            );
        }
        assert_eq!((slots.len(), slots.slots.len()), (866, 1000));
    }

    /// A million jobs have a million of these.
    #[test]
    fn a_slot_is_small() {
        assert!(size_of::<Option<Slot>>() <= 48);
    }
}
