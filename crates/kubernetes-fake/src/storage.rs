//! Objects and what happened to them, by collection. One counter gives all versions, as etcd's revision does.

use std::collections::{BTreeMap, HashSet, VecDeque};

use serde_json::{Value, json};

use crate::apply::Owners;

/// Everything that is stored.
pub struct Storage {
    version: u64,
    /// Versions below this one are gone.
    compacted: u64,
    collections: BTreeMap<String, Collection>,
    unknown: HashSet<String>,
    /// Lists that are read in pages, by their continue token.
    pages: BTreeMap<String, (u64, VecDeque<Value>)>,
    /// Counts how often all watches were ended.
    epoch: u64,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            // Clients take version zero for none.
            version: 1,
            compacted: 0,
            collections: BTreeMap::new(),
            unknown: HashSet::new(),
            pages: BTreeMap::new(),
            epoch: 0,
        }
    }
}

/// The objects of a kind.
#[derive(Default)]
struct Collection {
    /// By namespace and name.
    objects: BTreeMap<(String, String), Value>,
    owners: BTreeMap<(String, String), Owners>,
    events: Vec<Event>,
}

/// What watches are told.
#[derive(Clone, Debug)]
pub struct Event {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK`.
    pub kind: String,
    pub object: Value,
    /// The version it made; none of an event that did not happen.
    pub version: Option<u64>,
}

/// Why a write is refused.
#[derive(Debug)]
pub enum Refused {
    Missing,
    Exists,
    Conflict,
    /// Others have said something else, which names them.
    Managers(String),
}

fn key(object: &Value) -> (String, String) {
    let text = |name: &str| {
        object["metadata"][name]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    (text("namespace"), text("name"))
}

fn version_of(object: &Value) -> Option<u64> {
    object["metadata"]["resourceVersion"].as_str()?.parse().ok()
}

impl Storage {
    pub const fn version(&self) -> u64 {
        self.version
    }

    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    pub const fn compacted(&self) -> u64 {
        self.compacted
    }

    pub fn is_known(&self, path: &str) -> bool {
        !self.unknown.contains(path)
    }

    pub fn define(&mut self, path: &str, known: bool) {
        if known {
            self.unknown.remove(path);
        } else {
            self.unknown.insert(path.to_owned());
        }
    }

    pub fn get(&self, path: &str, namespace: &str, name: &str) -> Option<&Value> {
        let key = (namespace.to_owned(), name.to_owned());
        self.collections.get(path)?.objects.get(&key)
    }

    pub fn list(&self, path: &str) -> impl Iterator<Item = &Value> {
        let objects = self.collections.get(path).map(|it| it.objects.values());
        objects.into_iter().flatten()
    }

    /// Writes an object for `manager`, whatever is there.
    pub fn put(&mut self, path: &str, object: Value, manager: &str) -> u64 {
        let key = key(&object);
        let collection = self.collections.entry(path.to_owned()).or_default();
        let before = collection.objects.get(&key).cloned().unwrap_or_default();
        let owners = collection.owners.entry(key).or_default();
        owners.updated(manager, &before, &object);
        self.store(path, object)
    }

    fn store(&mut self, path: &str, mut object: Value) -> u64 {
        self.version += 1;
        let version = self.version;
        let collection = self.collections.entry(path.to_owned()).or_default();
        let key = key(&object);
        let old = collection.objects.get(&key);
        let uid = old.map_or_else(
            || json!(format!("uid-{version}")),
            |old| old["metadata"]["uid"].clone(),
        );
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = uid;
        }
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        collection.events.push(Event {
            kind: kind.to_owned(),
            object: object.clone(),
            version: Some(version),
        });
        collection.objects.insert(key, object);
        version
    }

    /// Creates an object.
    pub fn create(&mut self, path: &str, object: Value, manager: &str) -> Result<Value, Refused> {
        let (namespace, name) = key(&object);
        if self.get(path, &namespace, &name).is_some() {
            return Err(Refused::Exists);
        }
        self.put(path, object, manager);
        self.get(path, &namespace, &name)
            .cloned()
            .ok_or(Refused::Missing)
    }

    /// Replaces an object, if it has the version that the new one names, or that names none.
    pub fn replace(&mut self, path: &str, object: Value, manager: &str) -> Result<Value, Refused> {
        self.change(path, object, Some(manager))
    }

    fn change(
        &mut self,
        path: &str,
        mut object: Value,
        manager: Option<&str>,
    ) -> Result<Value, Refused> {
        let (namespace, name) = key(&object);
        let there = self.get(path, &namespace, &name).ok_or(Refused::Missing)?;
        if version_of(&object).is_some_and(|version| version_of(there) != Some(version)) {
            return Err(Refused::Conflict);
        }
        object["metadata"]["uid"] = there["metadata"]["uid"].clone();
        object["metadata"]["resourceVersion"] = there["metadata"]["resourceVersion"].clone();
        // A write that changes nothing makes no version.
        if object == *there {
            return Ok(object);
        }
        match manager {
            Some(manager) => self.put(path, object, manager),
            None => self.store(path, object),
        };
        self.get(path, &namespace, &name)
            .cloned()
            .ok_or(Refused::Missing)
    }

    /// What an object becomes when `manager` applies this, and whether it was not there; nothing is written yet.
    pub fn preview(
        &self,
        path: &str,
        wanted: &Value,
        (manager, force): (&str, bool),
    ) -> Result<(Value, Owners), Refused> {
        let key = key(wanted);
        let collection = self.collections.get(path);
        let there = collection.and_then(|it| it.objects.get(&key)).cloned();
        let owners = collection.and_then(|it| it.owners.get(&key)).cloned();
        let mut owners = owners.unwrap_or_default();
        let there = there.unwrap_or_else(|| json!({}));
        let after = owners.applied(manager, &there, wanted, force);
        Ok((after.map_err(Refused::Managers)?, owners))
    }

    /// Writes what [`Storage::preview`] has shown.
    pub fn apply(&mut self, path: &str, object: Value, owners: Owners) -> Result<Value, Refused> {
        let key = key(&object);
        let applied = if self.get(path, &key.0, &key.1).is_some() {
            self.change(path, object, None)?
        } else {
            self.store(path, object);
            let there = self.get(path, &key.0, &key.1);
            there.cloned().ok_or(Refused::Missing)?
        };
        let collection = self.collections.entry(path.to_owned()).or_default();
        collection.owners.insert(key, owners);
        Ok(applied)
    }

    /// Who has written a field.
    pub fn managers(&self, path: &str, namespace: &str, name: &str, field: &str) -> Vec<String> {
        let key = (namespace.to_owned(), name.to_owned());
        let owners = self
            .collections
            .get(path)
            .and_then(|it| it.owners.get(&key));
        owners.map(|it| it.of(field)).unwrap_or_default()
    }

    pub fn remove(&mut self, path: &str, namespace: &str, name: &str) -> Option<Value> {
        let collection = self.collections.get_mut(path)?;
        let key = (namespace.to_owned(), name.to_owned());
        collection.owners.remove(&key);
        let mut object = collection.objects.remove(&key)?;
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        collection.events.push(Event {
            kind: "DELETED".to_owned(),
            object: object.clone(),
            version: Some(self.version),
        });
        Some(object)
    }

    pub fn compact(&mut self) {
        self.version += 1;
        self.compacted = self.version;
        self.pages.clear();
    }

    pub const fn end_watches(&mut self) {
        self.epoch += 1;
    }

    pub fn bookmark(&mut self, path: &str) {
        let version = self.version.to_string();
        let object = json!({"apiVersion": "v1", "kind": "Bookmark", "metadata": {"resourceVersion": version}});
        self.inject(path, "BOOKMARK", object);
    }

    pub fn inject(&mut self, path: &str, kind: &str, object: Value) {
        let collection = self.collections.entry(path.to_owned()).or_default();
        collection.events.push(Event {
            kind: kind.to_owned(),
            object,
            version: None,
        });
    }

    /// Keeps the rest of a list for the next page.
    pub fn keep_page(&mut self, version: u64, rest: VecDeque<Value>) -> String {
        let token = format!("page-{}", self.pages.len() + 1);
        self.pages.insert(token.clone(), (version, rest));
        token
    }

    /// Takes the rest of a list, unless it is gone.
    pub fn take_page(&mut self, token: &str) -> Option<(u64, VecDeque<Value>)> {
        self.pages.remove(token)
    }

    /// Where a watch from a version begins among the events of a collection.
    pub fn position(&self, path: &str, version: u64) -> usize {
        let Some(collection) = self.collections.get(path) else {
            return 0;
        };
        let after = |event: &Event| event.version.is_some_and(|it| it > version);
        let found = collection.events.iter().position(after);
        found.unwrap_or(collection.events.len())
    }

    /// The events of a collection from a position on.
    pub fn events(&self, path: &str, position: usize) -> &[Event] {
        let events = self.collections.get(path).map(|it| it.events.as_slice());
        events
            .and_then(|events| events.get(position..))
            .unwrap_or_default()
    }
}
