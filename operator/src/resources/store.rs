//! The resources of one kind, kept up to date from a watch: news in, changes out, without I/O.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::Entry;
use crate::watch::News;

/// What became of one resource. At least one side is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub old: Option<Arc<Entry>>,
    pub new: Option<Arc<Entry>>,
}

impl Change {
    /// The namespace of the resource.
    pub fn namespace(&self) -> &str {
        self.entry().map_or("", |entry| &entry.namespace)
    }

    /// The name of the resource.
    pub fn name(&self) -> &str {
        self.entry().map_or("", |entry| &entry.name)
    }

    fn entry(&self) -> Option<&Arc<Entry>> {
        self.new.as_ref().or(self.old.as_ref())
    }
}

/// All resources of one kind, by namespace and name.
#[derive(Debug, Default)]
pub struct Store {
    objects: BTreeMap<String, BTreeMap<String, Arc<Entry>>>,
    /// What the list that is under way has named so far.
    listing: HashSet<(String, String)>,
    complete: bool,
}

impl Store {
    /// Takes news in. The first list changes nothing: whoever connects reads it with a list of its own.
    pub fn apply(&mut self, news: News<Entry>) -> Vec<Change> {
        match news {
            News::Listing => {
                self.listing.clear();
                Vec::new()
            }
            News::Listed(entry) => {
                self.listing
                    .insert((entry.namespace.clone(), entry.name.clone()));
                let change = self.put(entry);
                self.reported(change)
            }
            News::Complete => {
                let gone = self.remove_unlisted();
                let reported = if self.complete { gone } else { Vec::new() };
                self.complete = true;
                reported
            }
            News::Applied(entry) => self.put(entry).into_iter().collect(),
            News::Deleted(entry) => self
                .remove(&entry.namespace, &entry.name)
                .into_iter()
                .collect(),
            // An API server that starts may not know its CRDs for a moment: nothing is taken away for that.
            News::UnknownKind => {
                self.complete = true;
                Vec::new()
            }
        }
    }

    /// Whether the first list is complete.
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// The resources of a namespace, by name.
    pub fn list(&self, namespace: &str) -> impl Iterator<Item = &Arc<Entry>> {
        self.objects
            .get(namespace)
            .into_iter()
            .flat_map(BTreeMap::values)
    }

    /// One resource.
    pub fn find(&self, namespace: &str, name: &str) -> Option<&Arc<Entry>> {
        self.objects.get(namespace)?.get(name)
    }

    fn reported(&self, change: Option<Change>) -> Vec<Change> {
        change.filter(|_| self.complete).into_iter().collect()
    }

    fn put(&mut self, entry: Entry) -> Option<Change> {
        let space = self.objects.entry(entry.namespace.clone()).or_default();
        let old = space.get(&entry.name).cloned();
        if old.as_deref() == Some(&entry) {
            return None;
        }
        let new = Arc::new(entry);
        space.insert(new.name.clone(), Arc::clone(&new));
        Some(Change {
            old,
            new: Some(new),
        })
    }

    fn remove(&mut self, namespace: &str, name: &str) -> Option<Change> {
        let space = self.objects.get_mut(namespace)?;
        let old = space.remove(name)?;
        if space.is_empty() {
            self.objects.remove(namespace);
        }
        Some(Change {
            old: Some(old),
            new: None,
        })
    }

    fn remove_unlisted(&mut self) -> Vec<Change> {
        let listed = std::mem::take(&mut self.listing);
        let gone: Vec<_> = self
            .objects
            .values()
            .flat_map(BTreeMap::values)
            .map(|entry| (entry.namespace.clone(), entry.name.clone()))
            .filter(|key| !listed.contains(key))
            .collect();
        gone.iter()
            .filter_map(|(namespace, name)| self.remove(namespace, name))
            .collect()
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use bytes::Bytes;

    pub fn entry(name: &str, json: &'static str) -> Entry {
        Entry {
            namespace: "n".to_owned(),
            name: name.to_owned(),
            scopes: Vec::new(),
            has_secrets: false,
            json: Bytes::from_static(json.as_bytes()),
        }
    }

    fn listed(store: &mut Store, entries: &[Entry]) -> Vec<Change> {
        let mut changes = store.apply(News::Listing);
        for entry in entries {
            changes.extend(store.apply(News::Listed(entry.clone())));
        }
        changes.extend(store.apply(News::Complete));
        changes
    }

    fn summary(changes: &[Change]) -> Vec<(String, bool, bool)> {
        changes
            .iter()
            .map(|change| {
                let name = &change.new.as_ref().or(change.old.as_ref()).unwrap().name;
                (name.clone(), change.old.is_some(), change.new.is_some())
            })
            .collect()
    }

    #[test]
    fn the_first_list_is_no_change() {
        let mut store = Store::default();
        assert!(!store.is_complete());
        assert!(listed(&mut store, &[entry("a", "1"), entry("b", "1")]).is_empty());
        assert!(store.is_complete());
        let names: Vec<_> = store.list("n").map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(store.list("other").count(), 0);
    }

    #[test]
    fn changes_are_reported_once() {
        let mut store = Store::default();
        listed(&mut store, &[entry("a", "1")]);
        assert!(
            store.apply(News::Applied(entry("a", "1"))).is_empty(),
            "a replay"
        );
        let changes = store.apply(News::Applied(entry("a", "2")));
        assert_eq!(summary(&changes), [("a".to_owned(), true, true)]);
        let changes = store.apply(News::Applied(entry("b", "1")));
        assert_eq!(summary(&changes), [("b".to_owned(), false, true)]);
        let changes = store.apply(News::Deleted(entry("b", "other")));
        assert_eq!(summary(&changes), [("b".to_owned(), true, false)]);
        assert_eq!(changes[0].old.as_ref().unwrap().json, "1");
        assert!(store.apply(News::Deleted(entry("b", "1"))).is_empty());
        assert!(store.find("n", "b").is_none() && store.find("n", "a").is_some());
    }

    #[test]
    fn a_new_list_is_compared_with_the_old_one() {
        let mut store = Store::default();
        listed(
            &mut store,
            &[entry("a", "1"), entry("b", "1"), entry("c", "1")],
        );
        let changes = listed(
            &mut store,
            &[entry("a", "1"), entry("b", "2"), entry("d", "1")],
        );
        assert_eq!(
            summary(&changes),
            [
                ("b".to_owned(), true, true),
                ("d".to_owned(), false, true),
                ("c".to_owned(), true, false)
            ]
        );
    }

    #[test]
    fn a_list_that_breaks_off_takes_nothing_away() {
        let mut store = Store::default();
        listed(&mut store, &[entry("a", "1"), entry("b", "1")]);
        store.apply(News::Listing);
        store.apply(News::Listed(entry("a", "1")));
        assert!(listed(&mut store, &[entry("a", "1"), entry("b", "1")]).is_empty());
        assert!(store.apply(News::UnknownKind).is_empty());
        assert_eq!(store.list("n").count(), 2);
    }
}
