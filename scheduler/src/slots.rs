//! The jobs in memory, each in a numbered slot and found by its name. There may be millions: what can be read from the
//! stored bytes is not kept beside them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::progress::Progress;

/// A job.
pub(crate) struct Slot {
    pub name: Arc<str>,
    /// What is stored of it.
    pub value: Box<[u8]>,
    /// Of the write that made it; no other job has it.
    pub revision: u64,
    pub progress: Progress,
    /// When it is due, in nanoseconds since 1970.
    pub due: i64,
    pub place: Place,
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
            name: name.into(),
            value: value.into(),
            revision,
            progress: Progress::default(),
            due: 0,
            place: Place::Parked,
        }
    }
}

/// All jobs.
#[derive(Default)]
pub(crate) struct Slots {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    names: HashMap<Arc<str>, u32>,
}

impl Slots {
    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn find(&self, name: &str) -> Option<u32> {
        self.names.get(name).copied()
    }

    /// A job whose name has no slot yet.
    pub fn insert(&mut self, name: &str, slot: Slot) -> u32 {
        debug_assert!(!self.names.contains_key(name));
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer jobs than 2^32 fit into memory")
        });
        self.names.insert(slot.name.clone(), number);
        self.slots[number as usize] = Some(slot);
        number
    }

    pub fn remove(&mut self, number: u32) -> Slot {
        let slot = self.slots[number as usize]
            .take()
            .expect("slots in use are asked for");
        self.names.remove(&slot.name);
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
        let slot = self.slots[number as usize].as_ref();
        slot.expect("slots in use are asked for")
    }

    pub fn get_mut(&mut self, number: u32) -> &mut Slot {
        let slot = self.slots[number as usize].as_mut();
        slot.expect("slots in use are asked for")
    }
}
