//! Which worker gets which item, and whose answer it is: a state machine, without sockets, tasks and clocks. An item waits, is
//! put into the outbox of a worker, is held by it once its stream has taken it, and is over with an answer or without.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use super::{
    Limits,
    warm::{Past, Warm},
};

/// What an item is about. There is one of each at a time: a newer one takes the place of the older.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// A turn of an instance.
    Turn(String),
    /// An activity of an instance, by its number.
    Activity(String, i32),
}

impl Key {
    fn kind(&self) -> usize {
        match self {
            Self::Turn(_) => TURNS,
            Self::Activity(..) => ACTIVITIES,
        }
    }

    fn instance(&self) -> &str {
        match self {
            Self::Turn(instance) | Self::Activity(instance, _) => instance,
        }
    }
}

/// Names one item that was offered, once and for all. Later ones are greater.
pub type Ticket = u64;

/// Names one connection of a worker.
pub type Id = u64;

/// An item on its way to a worker.
#[derive(Debug, PartialEq, Eq)]
pub struct Handed<I> {
    pub ticket: Ticket,
    pub item: I,
    /// How many past events the worker has already, and may be left out.
    pub cached: usize,
}

/// Whether an item that nobody has taken in a while is to be looked after again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// It is nobody's yet.
    Waiting,
    /// A worker has it, and may take its time.
    Held,
}

/// The workers, and the items that wait for one or are at one.
pub struct Pairing<I> {
    limits: [usize; KINDS],
    issued: u64,
    workers: BTreeMap<Id, Worker>,
    tasks: HashMap<Ticket, Task<I>>,
    current: HashMap<Key, Ticket>,
    waiting: [BTreeSet<Ticket>; KINDS],
    /// How many are in outboxes or held.
    out: [usize; KINDS],
    /// Whose turn it is where both kinds wait.
    next: usize,
    /// Workers that have something to take since they were asked for last.
    ready: BTreeSet<Id>,
}

#[derive(Default)]
struct Worker {
    outbox: VecDeque<Ticket>,
    held: HashSet<Ticket>,
    /// It has left an item in its outbox for too long, and gets none until it takes one.
    stuck: bool,
    /// The most that it is given at a time.
    most: usize,
    /// When it was given something last.
    given: u64,
    /// What it keeps of histories, where it keeps any.
    warm: Option<Warm>,
}

impl Worker {
    fn load(&self) -> usize {
        self.outbox.len() + self.held.len()
    }

    fn has_room(&self) -> bool {
        !self.stuck && self.outbox.len() < OUTBOX && self.load() < self.most
    }
}

struct Task<I> {
    key: Key,
    past: Option<Past>,
    place: Place<I>,
}

enum Place<I> {
    Waiting(I),
    Outbox(Id, I),
    Held(Id),
}

impl<I> Pairing<I> {
    pub fn new(limits: Limits) -> Self {
        let most = |limit: Option<usize>| limit.unwrap_or(usize::MAX);
        Self {
            limits: [most(limits.workflows), most(limits.activities)],
            issued: 0,
            workers: BTreeMap::new(),
            tasks: HashMap::new(),
            current: HashMap::new(),
            waiting: Default::default(),
            out: [0; KINDS],
            next: TURNS,
            ready: BTreeSet::new(),
        }
    }

    /// How many workers there are.
    pub fn count(&self) -> usize {
        self.workers.len()
    }

    /// A worker comes. `keeps` says that it keeps the histories it has been sent, `most` how many items it has room for.
    pub fn join(&mut self, keeps: bool, most: usize) -> Id {
        let id = self.issue();
        let worker = Worker {
            most,
            warm: keeps.then(Warm::default),
            ..Worker::default()
        };
        self.workers.insert(id, worker);
        self.dispatch();
        id
    }

    /// A worker leaves. What it holds is lost, and named; what it has not taken waits for another.
    #[must_use]
    pub fn leave(&mut self, id: Id) -> Vec<Ticket> {
        let Some(worker) = self.workers.remove(&id) else {
            return Vec::new();
        };
        self.ready.remove(&id);
        for ticket in worker.outbox {
            self.put_back(ticket);
        }
        let lost: Vec<Ticket> = worker.held.into_iter().collect();
        for ticket in &lost {
            self.forget(*ticket);
        }
        self.dispatch();
        lost
    }

    /// Offers an item; `past` describes the history of a turn. The item that it takes the place of is lost, and named.
    ///
    /// # Errors
    /// [`Full`].
    pub fn offer(
        &mut self,
        key: Key,
        item: I,
        past: Option<Past>,
    ) -> Result<(Ticket, Option<Ticket>), Full> {
        let kind = key.kind();
        if self.waiting[kind].len() >= MOST_WAITING {
            return Err(Full);
        }
        let ticket = self.issue();
        let displaced = self.current.get(&key).copied();
        if let Some(displaced) = displaced {
            self.remove(displaced);
        }
        self.current.insert(key.clone(), ticket);
        let place = Place::Waiting(item);
        self.tasks.insert(ticket, Task { key, past, place });
        self.waiting[kind].insert(ticket);
        self.dispatch();
        Ok((ticket, displaced))
    }

    /// Nobody waits for the answer any more.
    pub fn withdraw(&mut self, ticket: Ticket) {
        self.remove(ticket);
        self.dispatch();
    }

    /// The stream of a worker takes what is next in its outbox.
    pub fn take(&mut self, id: Id) -> Option<Handed<I>> {
        let worker = self.workers.get_mut(&id)?;
        if std::mem::take(&mut worker.stuck) {
            self.dispatch();
        }
        let worker = self.workers.get_mut(&id)?;
        let ticket = worker.outbox.pop_front()?;
        let task = self.tasks.get_mut(&ticket)?;
        let Place::Outbox(_, item) = std::mem::replace(&mut task.place, Place::Held(id)) else {
            return None;
        };
        worker.held.insert(ticket);
        let cached = match (&mut worker.warm, task.past.take()) {
            (Some(warm), Some(past)) => warm.sent(task.key.instance(), past),
            _ => 0,
        };
        self.dispatch();
        Some(Handed {
            ticket,
            item,
            cached,
        })
    }

    /// A worker answers. Workers of old do not say the ticket.
    pub fn complete(&mut self, key: &Key, ticket: Option<Ticket>) -> Option<Ticket> {
        let current = *self.current.get(key)?;
        let task = self.tasks.get(&current)?;
        let held = matches!(task.place, Place::Held(_));
        if !held || ticket.is_some_and(|ticket| ticket != current) {
            return None;
        }
        self.remove(current);
        self.dispatch();
        Some(current)
    }

    /// What the workers keep of the history of an instance is of no use any more.
    pub fn over(&mut self, instance: &str) {
        for worker in self.workers.values_mut() {
            if let Some(warm) = &mut worker.warm {
                warm.forget(instance);
            }
        }
    }

    /// An item has been offered a while ago. Where it lies in an outbox, its worker is stuck, and another may have it.
    pub fn late(&mut self, ticket: Ticket) -> Late {
        let place = self.tasks.get(&ticket).map(|task| &task.place);
        let id = match place {
            None | Some(Place::Held(_)) => return Late::Held,
            Some(Place::Waiting(_)) => return Late::Waiting,
            Some(Place::Outbox(id, _)) => *id,
        };
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.stuck = true;
            for ticket in std::mem::take(&mut worker.outbox) {
                self.put_back(ticket);
            }
        }
        self.dispatch();
        Late::Waiting
    }

    /// The workers that have got something to take since the last call.
    pub fn ready(&mut self) -> BTreeSet<Id> {
        std::mem::take(&mut self.ready)
    }

    fn issue(&mut self) -> u64 {
        self.issued += 1;
        self.issued
    }

    /// Gives what waits to workers with room.
    fn dispatch(&mut self) {
        while let Some((kind, ticket)) = self.due() {
            let Some(id) = self.worker_for(ticket) else {
                return;
            };
            self.waiting[kind].remove(&ticket);
            self.out[kind] += 1;
            self.next = (kind + 1) % KINDS;
            let given = self.issue();
            if let Some(worker) = self.workers.get_mut(&id) {
                worker.given = given;
                worker.outbox.push_back(ticket);
                self.ready.insert(id);
            }
            self.replace(ticket, |place| match place {
                Place::Waiting(item) => Place::Outbox(id, item),
                other => other,
            });
        }
    }

    /// The item that is next, where its kind is under its limit: the kinds take turns, and the oldest of each is first.
    fn due(&self) -> Option<(usize, Ticket)> {
        (self.next..self.next + KINDS)
            .map(|kind| kind % KINDS)
            .filter(|kind| self.out[*kind] < self.limits[*kind])
            .find_map(|kind| Some((kind, *self.waiting[kind].first()?)))
    }

    /// A worker with room that has the history of the instance, or else the one with the least to do; of several, the one
    /// that was given something the longest time ago.
    fn worker_for(&self, ticket: Ticket) -> Option<Id> {
        let task = self.tasks.get(&ticket)?;
        let has = |worker: &Worker| {
            let warm = worker.warm.as_ref().filter(|_| task.past.is_some());
            warm.is_some_and(|warm| warm.has(task.key.instance()))
        };
        let with_room = self.workers.iter().filter(|(_, worker)| worker.has_room());
        let best = with_room.min_by_key(|(_, worker)| (!has(worker), worker.load(), worker.given));
        best.map(|(id, _)| *id)
    }

    /// Puts an item of an outbox back among those that wait; it keeps its age.
    fn put_back(&mut self, ticket: Ticket) {
        let Some(kind) = self.tasks.get(&ticket).map(|task| task.key.kind()) else {
            return;
        };
        self.out[kind] -= 1;
        self.waiting[kind].insert(ticket);
        self.replace(ticket, |place| match place {
            Place::Outbox(_, item) => Place::Waiting(item),
            other => other,
        });
    }

    fn replace(&mut self, ticket: Ticket, change: impl FnOnce(Place<I>) -> Place<I>) {
        if let Some(task) = self.tasks.remove(&ticket) {
            let place = change(task.place);
            self.tasks.insert(ticket, Task { place, ..task });
        }
    }

    /// Takes an item away, wherever it is.
    fn remove(&mut self, ticket: Ticket) {
        let id = match self.tasks.get(&ticket).map(|task| &task.place) {
            None => return,
            Some(Place::Waiting(_)) => None,
            Some(Place::Outbox(id, _) | Place::Held(id)) => Some(*id),
        };
        if let Some(worker) = id.and_then(|id| self.workers.get_mut(&id)) {
            worker.outbox.retain(|other| *other != ticket);
            worker.held.remove(&ticket);
        }
        self.forget(ticket);
    }

    fn forget(&mut self, ticket: Ticket) {
        let Some(task) = self.tasks.remove(&ticket) else {
            return;
        };
        let kind = task.key.kind();
        match task.place {
            Place::Waiting(_) => {
                self.waiting[kind].remove(&ticket);
            }
            Place::Outbox(..) | Place::Held(_) => self.out[kind] -= 1,
        }
        if self.current.get(&task.key) == Some(&ticket) {
            self.current.remove(&task.key);
        }
    }
}

/// As many items wait as may.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

const KINDS: usize = 2;
const TURNS: usize = 0;
const ACTIVITIES: usize = 1;

/// Most items of a kind that may wait for a worker: beyond them the caller hears so at once, and comes again.
const MOST_WAITING: usize = 1 << 16;

/// Most items that a worker is given before it takes them: enough to keep its stream busy, and little to lose time with where it
/// does not take them.
const OUTBOX: usize = 64;

#[cfg(test)]
mod tests;
