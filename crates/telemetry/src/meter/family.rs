//! All series of one metric: label values in, child out, with a cache in front of rewriting rules and a
//! limit on how many series there may be.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use parking_lot::RwLock;
use prometheus::core::{MetricVec, MetricVecBuilder};

use super::rules::{Rewrite, apply};

/// A metric with labels.
pub(super) struct Family<V: Vec_> {
    vec: V,
    rewrites: Vec<Vec<Rewrite>>,
    hasher: RandomState,
    children: RwLock<Children<V::Child>>,
}

struct Children<C> {
    /// By hash of the values as given, so that a hit needs no rewriting.
    cached: HashMap<u64, C>,
    /// Hashes of the values as shown.
    shown: HashMap<u64, ()>,
}

/// A metric vector of the prometheus crate, whatever it counts.
pub(super) trait Vec_ {
    type Child: Clone;
    fn child(&self, values: &[&str]) -> Option<Self::Child>;
    fn remove(&self, values: &[&str]);
}

impl<B: MetricVecBuilder> Vec_ for MetricVec<B>
where
    B::M: Clone,
{
    type Child = B::M;

    fn child(&self, values: &[&str]) -> Option<B::M> {
        self.get_metric_with_label_values(values).ok()
    }

    fn remove(&self, values: &[&str]) {
        // It may never have been there.
        let _ = self.remove_label_values(values);
    }
}

impl<V: Vec_> Family<V> {
    pub fn new(vec: V, rewrites: Vec<Vec<Rewrite>>) -> Self {
        Family {
            vec,
            rewrites,
            hasher: RandomState::new(),
            children: RwLock::new(Children {
                cached: HashMap::new(),
                shown: HashMap::new(),
            }),
        }
    }

    /// Does something to the child with these label values. A wrong number of values is a mistake of
    /// this program that is logged and otherwise ignored: metrics never fail a request.
    pub fn with(&self, values: &[&str], change: impl FnOnce(&V::Child)) {
        let key = self.hasher.hash_one(values);
        if let Some(child) = self.children.read().cached.get(&key) {
            change(child);
            return;
        }
        match self.add(key, values) {
            Some(child) => change(&child),
            None => tracing::error!("a metric got {} label values: {values:?}", values.len()),
        }
    }

    /// Forgets the series with these label values.
    pub fn remove(&self, values: &[&str]) {
        let shown = self.rewrite(values);
        let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
        let mut children = self.children.write();
        children.cached.remove(&self.hasher.hash_one(values));
        children
            .shown
            .remove(&self.hasher.hash_one(shown.as_slice()));
        self.vec.remove(&shown);
    }

    fn add(&self, key: u64, values: &[&str]) -> Option<V::Child> {
        let shown = self.rewrite(values);
        let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
        let shown_key = self.hasher.hash_one(shown.as_slice());
        let mut children = self.children.write();
        if !children.shown.contains_key(&shown_key) && children.shown.len() >= MAX_SERIES {
            return self.vec.child(&vec![OVERFLOW; values.len()]);
        }
        let child = self.vec.child(&shown)?;
        children.shown.insert(shown_key, ());
        if children.cached.len() < MAX_CACHED {
            children.cached.insert(key, child.clone());
        }
        Some(child)
    }

    fn rewrite(&self, values: &[&str]) -> Vec<String> {
        values
            .iter()
            .enumerate()
            .map(|(index, value)| match self.rewrites.get(index) {
                Some(rewrites) => apply(rewrites, value),
                None => (*value).to_owned(),
            })
            .collect()
    }
}

// Q-metric-series: upstream has no such limit.
/// Series of one metric; a caller with more than these is out of control, and every one costs memory
/// here and in each scraper.
pub(super) const MAX_SERIES: usize = 4096;

/// Value of every label of the series that takes what is over the limit.
const OVERFLOW: &str = "overflow";

/// Rules may map very many values to few series, so the cache has its own limit.
const MAX_CACHED: usize = 8192;
