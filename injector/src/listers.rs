//! What decisions look at in the cluster: the mTLS switch of the control plane's Configuration, and the Components that
//! bring a container. They are watched, so that admitting a pod asks the cluster nothing.
//!
//! Where the injector may not watch or list across the cluster (the RBAC rules of upstream's chart), they are read plainly
//! instead, a few seconds late.

use std::sync::Arc;
use std::time::Duration;

use crds::{Component, Configuration, Kind as _};
use k8s_openapi::api::core::v1::Container;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use kubernetes::{Cluster, Reflector, Signal, State, Store};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::pluggable::{self, Pluggable};

/// What is known of the cluster; cheap to clone.
#[derive(Clone)]
pub struct Listers(Arc<Parts>);

struct Parts {
    cluster: Cluster,
    /// The control plane's.
    namespace: String,
    /// Whether sidecars use mutual TLS: one object at most.
    mtls: Lister<bool>,
    components: Lister<Pluggable>,
}

/// One kind of object.
struct Lister<V> {
    store: Mutex<Store<V>>,
    /// How well the kind is known, and whether it has ever been.
    state: watch::Sender<(State, bool)>,
}

impl<V: PartialEq> Default for Lister<V> {
    fn default() -> Self {
        Self {
            store: Mutex::default(),
            state: watch::Sender::default(),
        }
    }
}

impl<V: PartialEq> Lister<V> {
    fn apply<K: ResourceExt>(&self, signal: Signal<K>, project: impl FnOnce(K) -> Option<V>) {
        let mut store = self.store.lock();
        store.apply(signal, project);
        self.state.send_replace((store.state(), store.is_known()));
    }

    fn replace<K: ResourceExt>(
        &self,
        objects: impl IntoIterator<Item = K>,
        project: impl Fn(K) -> Option<V>,
    ) {
        let mut store = self.store.lock();
        store.replace(objects, project);
        self.state.send_replace((store.state(), store.is_known()));
    }

    async fn known(&self) {
        let mut state = self.state.subscribe();
        let _ = state.wait_for(|(_, known)| *known).await;
    }

    /// Reads plainly, for as long as the objects may not be watched.
    async fn read_while_refused<F: Future<Output = ()>>(&self, read: impl Fn() -> F) {
        let mut state = self.state.subscribe();
        loop {
            let _ = state.wait_for(|(state, _)| *state == State::Refused).await;
            read().await;
            tokio::time::sleep(READ_PERIOD).await;
        }
    }
}

impl Listers {
    /// Of the cluster behind a client; the control plane is in `namespace`.
    pub fn new(client: kube::Client, namespace: &str) -> Self {
        Self(Arc::new(Parts {
            cluster: Cluster::new(client, ""),
            namespace: namespace.to_owned(),
            mtls: Lister::default(),
            components: Lister::default(),
        }))
    }

    /// Whether sidecars use mutual TLS; true unless the Configuration says otherwise.
    pub fn mtls(&self) -> bool {
        let store = self.0.mtls.store.lock();
        store.iter().next().is_none_or(|(_, enabled)| **enabled)
    }

    /// The component containers for an app's pod.
    pub fn components(&self, namespace: &str, app_id: &str) -> Vec<Container> {
        let store = self.0.components.store.lock();
        let here = store.within(namespace).map(|(_, one)| one.as_ref());
        pluggable::containers(here, app_id)
    }

    /// Waits until everything is known, but no longer than `patience`.
    pub async fn ready(&self, patience: Duration) {
        let both = async { tokio::join!(self.0.mtls.known(), self.0.components.known()) };
        if tokio::time::timeout(patience, both).await.is_err() {
            tracing::warn!(
                "the Dapr configuration or components are not known yet, starting with defaults"
            );
        }
    }

    /// Follows the cluster until shutdown.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let all = async {
            tokio::join!(
                self.follow_configuration(&shutdown),
                self.follow_components(&shutdown),
                self.0.mtls.read_while_refused(|| self.read_configuration()),
                self.0
                    .components
                    .read_while_refused(|| self.read_components()),
            )
        };
        shutdown.run_until_cancelled(all).await;
        Ok(())
    }

    async fn follow_configuration(&self, shutdown: &CancellationToken) {
        let api = |cluster: &Cluster| cluster.within::<Configuration>(&self.0.namespace);
        let reflector = Reflector::new(Configuration::PLURAL, &self.0.cluster, api);
        let tell = |signal| self.0.mtls.apply(signal, |found| Some(mtls(&found)));
        let name = format!("metadata.name={CONFIGURATION}");
        reflector.fields(&name).run(shutdown, tell).await;
    }

    async fn read_configuration(&self) {
        let api: Api<Configuration> = self.0.cluster.within(&self.0.namespace);
        match api.get_opt(CONFIGURATION).await {
            Ok(found) => self.0.mtls.replace(found, |found| Some(mtls(&found))),
            Err(error) => {
                tracing::warn!(%error, "cannot read the configuration {CONFIGURATION}, mTLS stays as it is");
            }
        }
    }

    async fn follow_components(&self, shutdown: &CancellationToken) {
        let reflector = Reflector::new(
            Component::PLURAL,
            &self.0.cluster,
            Cluster::watched::<Component>,
        );
        let tell = |signal| self.0.components.apply(signal, |one| Pluggable::of(&one));
        reflector.run(shutdown, tell).await;
    }

    async fn read_components(&self) {
        let api: Api<Component> = self.0.cluster.watched();
        match api.list(&ListParams::default()).await {
            Ok(list) => self
                .0
                .components
                .replace(list.items, |one| Pluggable::of(&one)),
            Err(error) => tracing::warn!(%error, "cannot list components, keeping those known"),
        }
    }
}

fn mtls(configuration: &Configuration) -> bool {
    configuration
        .spec
        .mtls
        .as_ref()
        .is_none_or(crds::configuration::Mtls::is_enabled)
}

/// The Configuration of the control plane.
const CONFIGURATION: &str = "daprsystem";
/// Between two plain reads.
const READ_PERIOD: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
