//! Copies of the cluster objects that decisions look at: the mTLS switch of the control plane's Configuration, and
//! the Components that bring a container. They are watched, so that admitting a pod asks the cluster nothing.
//!
//! Where the injector may not watch or list across the cluster (the RBAC rules of upstream's chart), the copies are
//! refreshed by plain reads instead, a few seconds late.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crds::{Component, Configuration, Kind};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Container;
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt as _, watcher, watcher::Event};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::kubernetes;
use crate::pluggable::{self, Pluggable};

/// The copies; cheap to clone.
#[derive(Clone)]
pub struct Cluster(Arc<Parts>);

struct Parts {
    client: Client,
    /// The control plane's.
    namespace: String,
    copies: RwLock<Copies>,
    /// Which copies are there: the Configuration, the Components.
    known: watch::Sender<(bool, bool)>,
}

#[derive(Default)]
struct Copies {
    /// `None`: no Configuration, or none seen yet.
    mtls: Option<bool>,
    /// By namespace and name.
    components: BTreeMap<(String, String), Pluggable>,
    /// The lists that a restarted watch is sending.
    incoming_mtls: Option<bool>,
    incoming: BTreeMap<(String, String), Pluggable>,
}

impl Cluster {
    pub fn new(client: Client, namespace: &str) -> Self {
        let copies = RwLock::new(Copies::default());
        let known = watch::Sender::new((false, false));
        Self(Arc::new(Parts {
            client,
            namespace: namespace.to_owned(),
            copies,
            known,
        }))
    }

    /// Whether sidecars use mutual TLS; true unless the Configuration says otherwise.
    pub fn mtls(&self) -> bool {
        self.read(|copies| copies.mtls.unwrap_or(true))
    }

    /// The component containers for an app's pod.
    pub fn components(&self, namespace: &str, app_id: &str) -> Vec<Container> {
        let first = (namespace.to_owned(), String::new());
        self.read(|copies| {
            let here = copies
                .components
                .range(first..)
                .take_while(|((other, _), _)| other == namespace);
            pluggable::containers(here.map(|(_, one)| one), app_id)
        })
    }

    /// Waits until both copies are there, but no longer than `patience`.
    pub async fn ready(&self, patience: Duration) {
        let mut known = self.0.known.subscribe();
        let both = known.wait_for(|known| *known == (true, true));
        if tokio::time::timeout(patience, both).await.is_err() {
            tracing::warn!(
                "no copy of the Dapr configuration and components yet, starting with defaults"
            );
        }
    }

    /// Keeps the copies until shutdown.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let both = async { tokio::join!(self.follow_configuration(), self.follow_components()) };
        shutdown.run_until_cancelled(both).await;
        Ok(())
    }

    async fn follow_configuration(&self) {
        let by_name: Api<Configuration> = Api::namespaced(self.0.client.clone(), &self.0.namespace);
        loop {
            self.watch::<Configuration>(|event| self.configuration(event))
                .await;
            for _ in 0..READS_PER_WATCH {
                match by_name.get_opt(CONFIGURATION).await {
                    Ok(found) => self.set_mtls(found.as_ref().map(mtls)),
                    Err(error) => {
                        tracing::warn!(
                            "cannot read the configuration {CONFIGURATION}, mTLS stays as it is: {error}"
                        );
                        self.0.known.send_modify(|known| known.0 = true);
                    }
                }
                tokio::time::sleep(READ_PERIOD).await;
            }
        }
    }

    fn configuration(&self, event: Event<Configuration>) {
        let ours = |found: &Configuration| {
            found.name() == CONFIGURATION && found.namespace() == Some(self.0.namespace.as_str())
        };
        match event {
            Event::Init => self.write(|copies| copies.incoming_mtls = None),
            Event::InitApply(found) if ours(&found) => {
                self.write(|copies| copies.incoming_mtls = Some(mtls(&found)));
            }
            Event::InitDone => self.set_mtls(self.read(|copies| copies.incoming_mtls)),
            Event::Apply(found) if ours(&found) => self.set_mtls(Some(mtls(&found))),
            Event::Delete(found) if ours(&found) => self.set_mtls(None),
            _ => {}
        }
    }

    fn set_mtls(&self, value: Option<bool>) {
        self.write(|copies| copies.mtls = value);
        self.0.known.send_modify(|known| known.0 = true);
    }

    async fn follow_components(&self) {
        let all: Api<Component> = Api::all(self.0.client.clone());
        loop {
            self.watch::<Component>(|event| self.component(event)).await;
            for _ in 0..READS_PER_WATCH {
                match all.list(&ListParams::default()).await {
                    Ok(list) => {
                        self.component(Event::Init);
                        list.items
                            .into_iter()
                            .for_each(|one| self.component(Event::InitApply(one)));
                        self.component(Event::InitDone);
                    }
                    Err(error) => {
                        tracing::warn!("cannot list components, keeping those known: {error}");
                        self.0.known.send_modify(|known| known.1 = true);
                    }
                }
                tokio::time::sleep(READ_PERIOD).await;
            }
        }
    }

    fn component(&self, event: Event<Component>) {
        let key = |one: &Component| {
            (
                one.namespace().unwrap_or_default().to_owned(),
                one.name().to_owned(),
            )
        };
        let complete = matches!(event, Event::InitDone);
        self.write(|copies| match event {
            Event::Init => copies.incoming = BTreeMap::new(),
            Event::InitApply(one) => {
                copies
                    .incoming
                    .extend(Pluggable::of(&one).map(|found| (key(&one), found)));
            }
            Event::InitDone => copies.components = std::mem::take(&mut copies.incoming),
            Event::Apply(one) => {
                copies.components.remove(&key(&one));
                copies
                    .components
                    .extend(Pluggable::of(&one).map(|found| (key(&one), found)));
            }
            Event::Delete(one) => {
                copies.components.remove(&key(&one));
            }
        });
        if complete {
            self.0.known.send_modify(|known| known.1 = true);
        }
    }

    /// Watches a kind across the cluster; returns when the cluster will not have it.
    async fn watch<K: Kind>(&self, mut apply: impl FnMut(Event<K>)) {
        let api: Api<K> = Api::all(self.0.client.clone());
        let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => apply(event),
                Err(error) if is_refusal(&error) => {
                    tracing::debug!(
                        "cannot watch {}, reading it every {READ_PERIOD:?}: {error}",
                        K::PLURAL
                    );
                    return;
                }
                Err(error) => tracing::warn!("watching {}: {error}", K::PLURAL),
            }
        }
    }

    fn read<T>(&self, look: impl FnOnce(&Copies) -> T) -> T {
        look(&self.0.copies.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, change: impl FnOnce(&mut Copies)) {
        change(
            &mut self
                .0
                .copies
                .write()
                .unwrap_or_else(PoisonError::into_inner),
        );
    }
}

fn mtls(configuration: &Configuration) -> bool {
    configuration
        .spec
        .mtls
        .as_ref()
        .is_none_or(crds::configuration::Mtls::is_enabled)
}

/// Answers that will not change by asking again at once: no permission, no such path, no resource versions.
fn is_refusal(error: &watcher::Error) -> bool {
    let code = match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => kubernetes::status(error),
        watcher::Error::WatchError(status) => Some(status.code),
        watcher::Error::NoResourceVersion => return true,
    };
    matches!(code, Some(401 | 403 | 404 | 405))
}

/// The Configuration of the control plane.
const CONFIGURATION: &str = "daprsystem";
/// Between two plain reads.
const READ_PERIOD: Duration = Duration::from_secs(5);
/// Plain reads before watching is tried again: rights may have been granted.
const READS_PER_WATCH: u32 = 60;

#[cfg(test)]
mod tests;
