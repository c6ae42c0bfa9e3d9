//! What decisions look at in the cluster: the mTLS switch of the control plane's Configuration, the Components that bring a
//! container, and whether there are native sidecars. They are watched, so that admitting a pod asks the cluster nothing.
//!
//! Where the injector may not watch or list across the cluster (the RBAC rules of upstream's chart), they are read plainly
//! instead, a few seconds late, and as far as its rights go.

use std::sync::Arc;
use std::time::Duration;

use crds::{Component, Configuration, Kind as _};
use k8s_openapi::api::core::v1::Container;
use kube::api::{ListParams, ObjectList};
use kube::{Api, ResourceExt};
use kubernetes::client::status;
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
    /// Whether the cluster runs native sidecars, and whether it was asked.
    native: watch::Sender<(Option<bool>, bool)>,
}

/// One kind of object.
struct Lister<V> {
    store: Mutex<Store<V>>,
    /// How well the kind is known, and whether it has ever been as well as it can be.
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
        self.tell(&store);
    }

    fn replace<K: ResourceExt>(
        &self,
        objects: impl IntoIterator<Item = K>,
        project: impl Fn(K) -> Option<V>,
    ) {
        let mut store = self.store.lock();
        store.replace(objects, project);
        self.tell(&store);
    }

    fn tell(&self, store: &Store<V>) {
        self.state.send_modify(|(state, settled)| {
            *state = store.state();
            *settled |= store.is_known();
        });
    }

    /// There is no more to be known: the rest is refused.
    fn settle(&self) {
        self.state.send_modify(|(_, settled)| *settled = true);
    }

    async fn known(&self) {
        let mut state = self.state.subscribe();
        let _ = state.wait_for(|(_, settled)| *settled).await;
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
            native: watch::Sender::default(),
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

    /// Whether the cluster runs native sidecars; `None` if it did not say.
    pub fn native_sidecars(&self) -> Option<bool> {
        self.0.native.borrow().0
    }

    /// Waits until everything is known, but no longer than `patience`.
    pub async fn ready(&self, patience: Duration) {
        let mut native = self.0.native.subscribe();
        let all = async {
            let asked = async { native.wait_for(|(_, asked)| *asked).await.is_ok() };
            tokio::join!(self.0.mtls.known(), self.0.components.known(), asked);
        };
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::warn!(
                "the Dapr configuration, components or the version of Kubernetes are not known yet, starting with defaults"
            );
        }
    }

    /// Follows the cluster until shutdown.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let all = async {
            tokio::join!(
                self.follow_configuration(&shutdown),
                self.follow_components(&shutdown),
                self.follow_version(),
                self.0.mtls.read_while_refused(|| self.read_configuration()),
                self.0
                    .components
                    .read_while_refused(|| self.read_components()),
            )
        };
        shutdown.run_until_cancelled(all).await;
        Ok(())
    }

    /// Asks for the version now and then, because clusters are upgraded.
    async fn follow_version(&self) {
        loop {
            let pause = match self.0.cluster.client().apiserver_version().await {
                Ok(version) => {
                    let native = has_native_sidecars(&version.major, &version.minor);
                    tracing::debug!(?native, "kubernetes {}", version.git_version);
                    self.0.native.send_replace((native, true));
                    VERSION_PERIOD
                }
                Err(error) if status(&error).is_some() => {
                    tracing::debug!(%error, "kubernetes does not tell its version");
                    self.0.native.send_modify(|(_, asked)| *asked = true);
                    VERSION_PERIOD
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot ask kubernetes for its version");
                    READ_PERIOD
                }
            };
            tokio::time::sleep(pause).await;
        }
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
                if status(&error) == Some(403) {
                    self.0.mtls.settle();
                }
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
        match self.list_components().await {
            Ok(list) => self
                .0
                .components
                .replace(list.items, |one| Pluggable::of(&one)),
            Err(error) if status(&error) == Some(403) => {
                tracing::debug!(%error, "components are not for the injector to read");
                self.0.components.settle();
            }
            Err(error) => tracing::warn!(%error, "cannot list components, keeping those known"),
        }
    }

    /// Of all namespaces or, where the rights do not reach so far, of the control plane's own.
    async fn list_components(&self) -> kube::Result<ObjectList<Component>> {
        let params = ListParams::default();
        match self.0.cluster.watched().list(&params).await {
            Err(error) if status(&error) == Some(403) => {
                let own: Api<Component> = self.0.cluster.within(&self.0.namespace);
                own.list(&params).await
            }
            listed => listed,
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

/// Whether a version has native sidecars without a feature gate; `None` for one that is no version. Providers write `29+`.
fn has_native_sidecars(major: &str, minor: &str) -> Option<bool> {
    let digits = minor.trim_end_matches(|c: char| !c.is_ascii_digit());
    let version: (u32, u32) = (major.parse().ok()?, digits.parse().ok()?);
    Some(version >= FIRST_WITH_NATIVE_SIDECARS)
}

const FIRST_WITH_NATIVE_SIDECARS: (u32, u32) = (1, 29);
/// The Configuration of the control plane.
const CONFIGURATION: &str = "daprsystem";
/// Between two plain reads.
const READ_PERIOD: Duration = Duration::from_secs(5);
/// Between two questions for the version.
const VERSION_PERIOD: Duration = Duration::from_secs(10 * 60);

#[cfg(test)]
mod tests;
