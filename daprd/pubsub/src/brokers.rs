//! The loaded pub/sub components by name. Readers take a snapshot without a lock; a replaced component is closed only when
//! the last call that uses it has ended.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use component::{PubSub, pubsub::Capability};
use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Error, scopes::Scopes};

/// How long a replaced component may go on serving the calls that hold it.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// A loaded component. Dropping the last reference ends its last call.
pub struct Broker {
    pub listed: blocks::Listed,
    pub component: Arc<dyn PubSub>,
    pub scopes: Scopes,
    /// What topics begin with on the broker.
    pub prefix: String,
    _unused: DropGuard,
    unused: CancellationToken,
}

impl Broker {
    pub fn new(
        listed: blocks::Listed,
        component: Arc<dyn PubSub>,
        scopes: Scopes,
        prefix: String,
    ) -> Self {
        let unused = CancellationToken::new();
        Self {
            listed,
            component,
            scopes,
            prefix,
            _unused: unused.clone().drop_guard(),
            unused,
        }
    }

    pub fn has(&self, capability: Capability) -> bool {
        self.component.capabilities().contains(capability)
    }

    /// The topic as the broker knows it.
    pub fn full_topic(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }

    /// The topic as the app knows it.
    pub fn app_topic<'t>(&self, topic: &'t str) -> &'t str {
        topic.strip_prefix(&self.prefix).unwrap_or(topic)
    }

    /// Waits until no call uses a component that was taken out, at most [`DRAIN_LIMIT`], then closes it.
    pub async fn close(self: Arc<Self>) {
        let component = Arc::clone(&self.component);
        let unused = self.unused.clone();
        let name = self.listed.name.clone();
        drop(self);
        if tokio::time::timeout(DRAIN_LIMIT, unused.cancelled())
            .await
            .is_err()
        {
            tracing::warn!(target: "dapr.runtime", "component {name} is closed while calls still use it");
        }
        component.close().await;
    }
}

#[derive(Default)]
pub struct Brokers {
    by_name: ArcSwap<BTreeMap<String, Arc<Broker>>>,
    writers: Mutex<()>,
}

impl Brokers {
    pub fn find(&self, name: &str) -> Option<Arc<Broker>> {
        self.by_name.load().get(name).cloned()
    }

    /// The component of that name, or which of the reasons there is none.
    ///
    /// # Errors
    /// [`Error::NotConfigured`], [`Error::NameEmpty`], [`Error::NotFound`].
    pub fn named(&self, name: &str) -> Result<Arc<Broker>, Error> {
        let all = self.by_name.load();
        if all.is_empty() {
            return Err(Error::NotConfigured);
        }
        if name.is_empty() {
            return Err(Error::NameEmpty);
        }
        all.get(name).cloned().ok_or_else(|| Error::NotFound {
            pubsub: name.to_owned(),
        })
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.load().is_empty()
    }

    pub fn names(&self) -> Vec<String> {
        self.by_name.load().keys().cloned().collect()
    }

    pub fn listed(&self) -> Vec<blocks::Listed> {
        let all = self.by_name.load();
        all.values().map(|broker| broker.listed.clone()).collect()
    }

    /// Puts a component in place; the one before is handed back.
    pub fn put(&self, broker: Broker) -> Option<Arc<Broker>> {
        self.change(|map| map.insert(broker.listed.name.clone(), Arc::new(broker)))
    }

    pub fn take(&self, name: &str) -> Option<Arc<Broker>> {
        self.change(|map| map.remove(name))
    }

    fn change<T>(&self, edit: impl FnOnce(&mut BTreeMap<String, Arc<Broker>>) -> T) -> T {
        let _one_writer = self.writers.lock();
        let mut map = BTreeMap::clone(&self.by_name.load());
        let result = edit(&mut map);
        self.by_name.store(Arc::new(map));
        result
    }
}
