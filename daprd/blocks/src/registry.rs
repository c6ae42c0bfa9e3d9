//! The loaded components of one kind: opened from resources, found without a lock, called under their policies, counted,
//! replaced while calls go on, and closed only when the last call that uses them has ended.

use std::{collections::BTreeMap, future::Future, ops::Deref, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use component::{Catalog, Component, Family};
use parking_lot::Mutex;
use resiliency::{ComponentKind, Outcome, Policies, Policy};
use telemetry::Meter;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    Declared, Listed, LoadError,
    calls::{self, Calls},
};

/// How long a replaced component may go on serving the calls that hold it.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// What one kind of components is called in each place, a row per kind.
pub struct Kind<T: ?Sized> {
    /// The types' prefix with its dot, lower case: `state.`.
    pub prefix: &'static str,
    /// How its calls are counted and which policies they have; nothing for kinds that stand in the way of other calls.
    pub calls: Option<Called>,
    /// Where the catalog has its types.
    pub family: fn(&Catalog) -> &Family<T>,
}

/// What the calls of a kind go by.
#[derive(Clone, Copy)]
pub struct Called {
    /// Their part of the names of metrics (contract 10.8); nothing where they are not counted.
    pub metrics: Option<&'static str>,
    /// The kind's name in Resiliency resources.
    pub policies: ComponentKind,
}

/// What a registry is made of.
#[derive(Clone)]
pub struct Options {
    pub catalog: Arc<Catalog>,
    pub namespace: String,
    pub policies: Arc<ArcSwap<Policies>>,
    pub meter: Meter,
}

/// A loaded component, and what its block keeps beside it. Dropping the last clone of the `Arc` ends its last call.
pub struct Loaded<T: ?Sized, B = ()> {
    pub listed: Listed,
    pub component: Arc<T>,
    pub beside: B,
    in_use: InUse,
}

/// Says when nobody uses a component any more.
struct InUse {
    _until_dropped: DropGuard,
    unused: CancellationToken,
}

impl InUse {
    fn new() -> Self {
        let unused = CancellationToken::new();
        Self {
            _until_dropped: unused.clone().drop_guard(),
            unused,
        }
    }
}

/// The loaded component is used as what it is.
impl<T: ?Sized, B> Deref for Loaded<T, B> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.component
    }
}

/// Why there is no component of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// None of this kind is loaded.
    NotConfigured,
    /// Others are.
    NotFound,
}

/// The loaded components of one kind, by name.
pub struct Registry<T: ?Sized + 'static, B = ()> {
    kind: &'static Kind<T>,
    options: Options,
    calls: Option<Calls>,
    by_name: ArcSwap<BTreeMap<String, Arc<Loaded<T, B>>>>,
    writers: Mutex<()>,
    changes: watch::Sender<u64>,
}

impl<T: ?Sized + Component, B: Send + Sync + 'static> Registry<T, B> {
    pub fn new(kind: &'static Kind<T>, options: Options) -> Self {
        Self {
            calls: kind
                .calls
                .map(|calls| Calls::new(&options.meter, calls.metrics, &options.namespace)),
            kind,
            options,
            by_name: ArcSwap::default(),
            writers: Mutex::new(()),
            changes: watch::Sender::new(0),
        }
    }

    /// The component of that name; it stays open while the reference is held.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn find(&self, name: &str) -> Result<Arc<Loaded<T, B>>, Missing> {
        let all = self.by_name.load();
        all.get(name).cloned().ok_or(if all.is_empty() {
            Missing::NotConfigured
        } else {
            Missing::NotFound
        })
    }

    /// Where its types are.
    pub fn catalog(&self) -> &Catalog {
        &self.options.catalog
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.load().is_empty()
    }

    /// The names in use, in order.
    pub fn names(&self) -> Vec<String> {
        self.by_name.load().keys().cloned().collect()
    }

    /// As the metadata API lists them, by name.
    pub fn listed(&self) -> Vec<Listed> {
        let all = self.by_name.load();
        all.values().map(|loaded| loaded.listed.clone()).collect()
    }

    /// Moves on with every component that is put in place or taken out.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Calls a component under its policy: counted, timed, tried again where that may help.
    ///
    /// # Errors
    /// The component's, or the policy's verdict as [`component::ErrorKind::Unavailable`].
    pub async fn call<R, F, Fut>(
        &self,
        loaded: &Loaded<T, B>,
        operation: &str,
        attempt: F,
    ) -> component::Result<R>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = component::Result<R>>,
    {
        // Whatever the component answers, another attempt may help: it alone knows its codes.
        let judge = |_| Outcome::Retryable;
        self.call_judged(loaded, operation, judge, attempt).await
    }

    /// The same, where `judge` says what a gRPC code of the component is to the policy.
    ///
    /// # Errors
    /// As [`Registry::call`].
    pub async fn call_judged<R, F, Fut>(
        &self,
        loaded: &Loaded<T, B>,
        operation: &str,
        judge: impl Fn(i32) -> Outcome,
        mut attempt: F,
    ) -> component::Result<R>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = component::Result<R>>,
    {
        let name = &loaded.listed.name;
        match &self.calls {
            Some(calls) => {
                let policy = self.outbound(name);
                calls.run(&policy, name, operation, judge, attempt).await
            }
            None => calls::guarded(name, operation, attempt()).await,
        }
    }

    /// The policy of calls to a component.
    pub fn outbound(&self, name: &str) -> Policy {
        let policies = self.options.policies.load();
        match self.kind.calls {
            Some(calls) => policies.component_outbound(name, calls.policies),
            None => Policy::default(),
        }
    }

    /// The policy of what a component brings in.
    pub fn inbound(&self, name: &str) -> Policy {
        let policies = self.options.policies.load();
        match self.kind.calls {
            Some(calls) => policies.component_inbound(name, calls.policies),
            None => Policy::default(),
        }
    }

    /// Opens what a resource declares, within its time limit; it is not in place yet.
    ///
    /// # Errors
    /// What the component says; a panic of its constructor is its error.
    pub async fn open(&self, declared: &Declared) -> Result<Arc<T>, LoadError> {
        let component_type = declared.type_below(self.kind.prefix);
        let family = (self.kind.family)(&self.options.catalog);
        let opening = family.open(&component_type, &declared.version, declared.open());
        declared.within_limit(opening).await
    }

    /// Puts a component in place; the one before is handed back, to be given to [`retire`].
    #[must_use = "a replaced component is to be closed"]
    pub fn swap(&self, listed: Listed, component: Arc<T>, beside: B) -> Option<Arc<Loaded<T, B>>> {
        let loaded = Arc::new(Loaded {
            listed,
            component,
            beside,
            in_use: InUse::new(),
        });
        self.change(|map| map.insert(loaded.listed.name.clone(), Arc::clone(&loaded)))
    }

    /// Puts a component in place, and closes the one before once its calls have ended: no call ever finds none.
    pub async fn replace(&self, listed: Listed, component: Arc<T>, beside: B) {
        if let Some(old) = self.swap(listed, component, beside) {
            retire(old).await;
        }
    }

    /// Takes a component out, to be given to [`retire`].
    #[must_use = "a component that is taken out is to be closed"]
    pub fn take(&self, name: &str) -> Option<Arc<Loaded<T, B>>> {
        self.change(|map| map.remove(name))
    }

    /// Takes a component out and closes it once its calls have ended; unknown names are ignored.
    pub async fn remove(&self, name: &str) {
        if let Some(old) = self.take(name) {
            retire(old).await;
        }
    }

    /// Takes all out and closes them beside each other, each once its calls have ended.
    pub async fn close(&self) {
        let all = self.change(std::mem::take);
        futures::future::join_all(all.into_values().map(retire)).await;
    }

    fn change<R>(&self, edit: impl FnOnce(&mut BTreeMap<String, Arc<Loaded<T, B>>>) -> R) -> R {
        let _one_writer = self.writers.lock();
        let mut map = BTreeMap::clone(&self.by_name.load());
        let result = edit(&mut map);
        self.by_name.store(Arc::new(map));
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
        result
    }
}

/// A registry, of whatever kind: what all owners do with their components in the same way.
#[async_trait]
pub trait AnyRegistry: Send + Sync {
    /// The prefix of its types, see [`Kind::prefix`].
    fn prefix(&self) -> &'static str;

    /// See [`Registry::remove`].
    async fn remove(&self, name: &str);

    /// See [`Registry::listed`].
    fn listed(&self) -> Vec<Listed>;

    /// See [`Registry::close`].
    async fn close(&self);
}

#[async_trait]
impl<T: ?Sized + Component, B: Send + Sync + 'static> AnyRegistry for Registry<T, B> {
    fn prefix(&self) -> &'static str {
        self.kind.prefix
    }

    async fn remove(&self, name: &str) {
        Registry::remove(self, name).await;
    }

    fn listed(&self) -> Vec<Listed> {
        Registry::listed(self)
    }

    async fn close(&self) {
        Registry::close(self).await;
    }
}

/// Waits until no call uses a component that was taken out, at most [`DRAIN_LIMIT`], then closes it.
pub async fn retire<T: ?Sized + Component, B>(loaded: Arc<Loaded<T, B>>) {
    let component = Arc::clone(&loaded.component);
    let unused = loaded.in_use.unused.clone();
    let name = loaded.listed.name.clone();
    drop(loaded);
    let drained = tokio::time::timeout(DRAIN_LIMIT, unused.cancelled());
    if drained.await.is_err() {
        tracing::warn!(target: "dapr.runtime", "component {name} is closed while calls still use it");
    }
    component.close().await;
}

#[cfg(test)]
mod tests;
