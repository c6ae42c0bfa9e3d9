//! Tells what has changed between two lists of resources.

use std::collections::BTreeMap;

use crds::{Component, Kind, Subscription};

use super::{Change, Resources};

/// What was loaded last, to tell what has changed.
pub struct Known {
    components: BTreeMap<String, Component>,
    subscriptions: BTreeMap<String, Subscription>,
    /// What is only ever loaded at start.
    fixed: BTreeMap<String, String>,
}

impl Known {
    pub fn of(resources: Resources) -> Self {
        let mut fixed = BTreeMap::new();
        for one in &resources.resiliencies {
            fixed.insert(format!("Resiliency {}", one.name()), format!("{one:?}"));
        }
        for one in &resources.http_endpoints {
            fixed.insert(format!("HTTPEndpoint {}", one.name()), format!("{one:?}"));
        }
        Self {
            components: by_name(resources.components),
            subscriptions: by_name(resources.subscriptions),
            fixed,
        }
    }

    /// Keeps what was there and is not now: a list with a broken document says nothing of what is missing from it.
    pub fn keep(&mut self, before: &Self) {
        keep(&mut self.components, &before.components);
        keep(&mut self.subscriptions, &before.subscriptions);
        keep(&mut self.fixed, &before.fixed);
    }

    /// What has to be done to get from here to `now`.
    pub fn changes(&self, now: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.fixed != now.fixed {
            changes.push(Change::Restart("Resiliency or HTTPEndpoint"));
        }
        let gone = self
            .components
            .keys()
            .filter(|name| !now.components.contains_key(*name));
        changes.extend(gone.map(|name| Change::ComponentGone(name.clone())));
        for (name, component) in &now.components {
            if self.components.get(name) != Some(component) {
                changes.push(Change::Component(component.clone()));
            }
        }
        let gone = self
            .subscriptions
            .keys()
            .filter(|name| !now.subscriptions.contains_key(*name));
        changes.extend(gone.map(|name| Change::SubscriptionGone(name.clone())));
        for (name, subscription) in &now.subscriptions {
            if self.subscriptions.get(name) != Some(subscription) {
                changes.push(Change::Subscription(subscription.clone()));
            }
        }
        changes
    }
}

fn by_name<K: Kind>(resources: Vec<K>) -> BTreeMap<String, K> {
    resources
        .into_iter()
        .map(|resource| (resource.name().to_owned(), resource))
        .collect()
}

fn keep<V: Clone>(now: &mut BTreeMap<String, V>, before: &BTreeMap<String, V>) {
    for (name, value) in before {
        now.entry(name.clone()).or_insert_with(|| value.clone());
    }
}
