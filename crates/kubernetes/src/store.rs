//! What is known of one kind of object: signals in, changes out, without I/O. It holds of each object what `project`
//! takes from it, so that memory follows what is needed and not what there is.
//!
//! Events may be late, doubled or out of order. An object's version decides: versions of one kind grow, so an event that
//! is not newer than what is known of its object says nothing. A list is believed whatever its versions, because a
//! server that was restored from a backup counts from an older one.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::sync::Arc;

use kube::ResourceExt;
use kube::runtime::watcher::Event;

use crate::reflector::Signal;

/// Namespace and name of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The namespace; empty for objects without one.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// A key of its parts.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// The key of an object.
    pub fn of<K: ResourceExt>(object: &K) -> Self {
        Self {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
        }
    }
}

/// What became of one object. At least one side is there, and they differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<V> {
    /// Which object.
    pub key: Key,
    /// What was known.
    pub old: Option<Arc<V>>,
    /// What is known now; `None` if the object is gone, or of no interest any more.
    pub new: Option<Arc<V>>,
}

/// How well a store knows its kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// The first list is under way: what is there is not all.
    #[default]
    Listing,
    /// All objects are there, and changes follow.
    Complete,
    /// All objects were there, and the watch is broken: what has changed since is not known.
    Stale,
    /// The cluster does not know the kind.
    Gone,
    /// The program may not read the kind; what was known before stays.
    Refused,
}

/// Deletions that are remembered, so that an older event does not bring the object back.
const MOST_DELETIONS: usize = 4096;

/// What is known of a kind.
#[derive(Debug)]
pub struct Store<V> {
    objects: BTreeMap<Key, Held<V>>,
    /// The objects of the list under way.
    listed: HashSet<Key>,
    /// The newest version in the list under way. Events up to the floor are late: a list or a watch has said them.
    listed_version: u64,
    floor: u64,
    deletions: BTreeMap<Key, u64>,
    deletion_order: VecDeque<Key>,
    state: State,
    known: bool,
    listed_once: bool,
}

#[derive(Debug)]
struct Held<V> {
    version: Option<u64>,
    value: Arc<V>,
}

impl<V> Default for Store<V> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            listed: HashSet::new(),
            listed_version: 0,
            floor: 0,
            deletions: BTreeMap::new(),
            deletion_order: VecDeque::new(),
            state: State::default(),
            known: false,
            listed_once: false,
        }
    }
}

impl<V: PartialEq> Store<V> {
    /// How well the kind is known.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether all objects have been known at least once, or the cluster has none of the kind: before that, what is
    /// there must not be taken for all there is.
    pub const fn is_known(&self) -> bool {
        self.known
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<&Arc<V>> {
        self.objects.get(key).map(|held| &held.value)
    }

    /// All objects, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Arc<V>)> {
        self.objects.iter().map(|(key, held)| (key, &held.value))
    }

    /// The objects of a namespace, by name.
    pub fn within<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = (&'a Key, &'a Arc<V>)> {
        let here = self.objects.range(Key::new(namespace, "")..);
        here.take_while(move |(key, _)| key.namespace == namespace)
            .map(|(key, held)| (key, &held.value))
    }

    /// Takes a signal in. `project` says what is kept of an object, if anything. Returns what has changed, each object
    /// once; while the first list is under way, these are the objects in it.
    pub fn apply<K: ResourceExt>(
        &mut self,
        signal: impl Into<Signal<K>>,
        project: impl FnOnce(K) -> Option<V>,
    ) -> Vec<Change<V>> {
        let change = match signal.into() {
            Signal::Event(Event::Init) => {
                self.listed.clear();
                self.listed_version = 0;
                None
            }
            Signal::Event(Event::InitApply(object)) => {
                let (key, version) = (Key::of(&object), version(&object));
                self.listed_version = self.listed_version.max(version.unwrap_or_default());
                self.listed.insert(key.clone());
                self.set(key, version, project(object))
            }
            Signal::Event(Event::InitDone) => return self.complete(),
            Signal::Event(Event::Apply(object)) => {
                let (key, version) = (Key::of(&object), version(&object));
                if self.is_late(&key, version) {
                    return Vec::new();
                }
                self.set(key, version, project(object))
            }
            Signal::Event(Event::Delete(object)) => {
                let (key, version) = (Key::of(&object), version(&object));
                if self.is_late(&key, version) {
                    return Vec::new();
                }
                self.set(key, version, None)
            }
            Signal::Lost => {
                if self.listed_once {
                    self.state = State::Stale;
                }
                None
            }
            Signal::Watching(from) => {
                // A watch goes on behind a list that was complete.
                if self.listed_once {
                    self.state = State::Complete;
                }
                self.floor = self.floor.max(from.unwrap_or_default());
                None
            }
            Signal::Gone => {
                self.state = State::Gone;
                self.known = true;
                None
            }
            Signal::Refused => {
                self.state = State::Refused;
                None
            }
        };
        change.into_iter().collect()
    }

    /// Takes a list that was read plainly, because the kind may not be watched. When it may after all, the list that
    /// comes with the watch counts.
    pub fn replace<K: ResourceExt>(
        &mut self,
        objects: impl IntoIterator<Item = K>,
        project: impl Fn(K) -> Option<V>,
    ) -> Vec<Change<V>> {
        if self.state != State::Refused {
            return Vec::new();
        }
        let mut changes = Vec::new();
        // What a list under way has named may be newer.
        let mut there = self.listed.clone();
        for object in objects {
            let (key, version) = (Key::of(&object), version(&object));
            there.insert(key.clone());
            changes.extend(self.set(key, version, project(object)));
        }
        changes.extend(self.keep_only(&there));
        self.known = true;
        changes
    }

    fn keep_only(&mut self, there: &HashSet<Key>) -> Vec<Change<V>> {
        let keys = self.objects.keys();
        let gone: Vec<Key> = keys.filter(|key| !there.contains(*key)).cloned().collect();
        gone.into_iter()
            .filter_map(|key| self.unset(key, None))
            .collect()
    }

    /// Whether what is known of an object is as new as an event about it.
    fn is_late(&self, key: &Key, version: Option<u64>) -> bool {
        // A version that is no number cannot be compared; such events are believed in the order in which they come.
        let Some(version) = version else {
            return false;
        };
        let held = self.objects.get(key).and_then(|held| held.version);
        let known = held.max(self.deletions.get(key).copied());
        version <= known.unwrap_or_default().max(self.floor)
    }

    fn set(&mut self, key: Key, version: Option<u64>, value: Option<V>) -> Option<Change<V>> {
        let Some(value) = value else {
            return self.unset(key, version);
        };
        let old = self.objects.get_mut(&key);
        if let Some(held) = old
            && *held.value == value
        {
            held.version = version;
            return None;
        }
        let value = Arc::new(value);
        let held = Held {
            version,
            value: Arc::clone(&value),
        };
        let old = self.objects.insert(key.clone(), held);
        Some(Change {
            key,
            old: old.map(|held| held.value),
            new: Some(value),
        })
    }

    fn unset(&mut self, key: Key, version: Option<u64>) -> Option<Change<V>> {
        if let Some(version) = version {
            self.remember_deletion(&key, version);
        }
        let old = self.objects.remove(&key)?;
        Some(Change {
            key,
            old: Some(old.value),
            new: None,
        })
    }

    fn remember_deletion(&mut self, key: &Key, version: u64) {
        if self.deletions.insert(key.clone(), version).is_none() {
            self.deletion_order.push_back(key.clone());
        }
        while self.deletion_order.len() > MOST_DELETIONS {
            // What is forgotten one by one is remembered by its version.
            let oldest = self.deletion_order.pop_front();
            let version = oldest.and_then(|oldest| self.deletions.remove(&oldest));
            self.floor = self.floor.max(version.unwrap_or_default());
        }
    }

    /// The list is complete: what it did not name is gone.
    fn complete(&mut self) -> Vec<Change<V>> {
        let listed = std::mem::take(&mut self.listed);
        self.deletions.clear();
        self.deletion_order.clear();
        self.floor = self.listed_version;
        self.state = State::Complete;
        (self.known, self.listed_once) = (true, true);
        self.keep_only(&listed)
    }
}

/// Versions are numbers; the API's rules have always said to treat them as text, and promise order since 1.35.
fn version<K: ResourceExt>(object: &K) -> Option<u64> {
    object.resource_version()?.parse().ok()
}

#[cfg(test)]
mod tests;
