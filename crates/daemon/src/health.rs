//! Readiness of a program: named targets that its parts hold, and the `/healthz` answer made of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::RwLock;

/// All targets of a program. Ready when at least one target exists and every target is ready.
#[derive(Clone, Default)]
pub struct Health {
    inner: Arc<RwLock<Inner>>,
}

#[derive(Default)]
struct Inner {
    targets: BTreeMap<String, bool>,
    pages: BTreeMap<&'static str, Page>,
}

type Page = Arc<dyn Fn() -> BoxFuture<'static, Result<Bytes, String>> + Send + Sync>;

impl Health {
    /// Adds a target that is not ready yet. Asking for a name twice gives the same target, not ready.
    #[must_use]
    pub fn target(&self, name: impl Into<String>) -> Target {
        let name = name.into();
        self.inner.write().targets.insert(name.clone(), false);
        Target {
            health: self.clone(),
            name,
        }
    }

    /// Whether every target is ready; false while there is none.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let inner = self.inner.read();
        !inner.targets.is_empty() && inner.targets.values().all(|ready| *ready)
    }

    /// Names of the targets that are not ready, in alphabetical order.
    #[must_use]
    pub fn unready(&self) -> Vec<String> {
        let inner = self.inner.read();
        let unready = inner.targets.iter().filter(|(_, ready)| !**ready);
        unready.map(|(name, _)| name.clone()).collect()
    }

    /// Serves one more page on the health port: a JSON text, or an error text under status 500.
    pub fn page<F>(&self, path: &'static str, page: F)
    where
        F: Fn() -> BoxFuture<'static, Result<Bytes, String>> + Send + Sync + 'static,
    {
        self.inner.write().pages.insert(path, Arc::new(page));
    }

    /// Forgets all targets, for a program that starts anew in the same process.
    pub fn clear(&self) {
        self.inner.write().targets.clear();
    }

    pub(crate) fn find_page(&self, path: &str) -> Option<Page> {
        self.inner.read().pages.get(path).cloned()
    }

    fn set(&self, name: &str, ready: bool) {
        if let Some(target) = self.inner.write().targets.get_mut(name) {
            *target = ready;
        }
    }
}

/// One part's say in the readiness of its program.
#[derive(Clone)]
pub struct Target {
    health: Health,
    name: String,
}

impl Target {
    /// The part works.
    pub fn ready(&self) {
        self.health.set(&self.name, true);
    }

    /// The part does not work, for now.
    pub fn not_ready(&self) {
        self.health.set(&self.name, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_all_are() {
        let health = Health::default();
        assert!(!health.is_ready());
        let (a, b) = (health.target("a"), health.target("b"));
        a.ready();
        assert!(!health.is_ready());
        assert_eq!(health.unready(), ["b"]);
        b.ready();
        assert!(health.is_ready());
        a.not_ready();
        assert_eq!(health.unready(), ["a"]);
        health.clear();
        a.ready();
        assert!(!health.is_ready());
    }
}
