//! The loop around the queue: watches workloads and Services, and makes Services what they should be.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Service;
use kube::api::{PartialObjectMeta, PostParams};
use kube::{Api, ResourceExt as _};
use kubernetes::{Cluster, Reflector, Signal, Store, owner};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::desired;
use super::queue::Queue;
use super::workload::{Key, Kind, Raw, Workload};
use crate::annotations;
use crate::metrics::Metrics;

/// What the reconciler needs to know.
#[derive(Clone)]
pub struct Options {
    pub cluster: Cluster,
    pub metrics: Metrics,
    /// Whether sidecars speak mutual TLS.
    pub mtls: bool,
    /// Whether Argo Rollouts count as workloads.
    pub rollouts: bool,
    /// How often everything is looked at again.
    pub resync: Duration,
}

/// How often everything is looked at again unless the operator is told otherwise.
pub const DEFAULT_RESYNC: Duration = Duration::from_secs(10 * 60 * 60);

/// Why a Service is not what it should be.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Desired(#[from] desired::Error),
    #[error("cannot get service {name}")]
    Get { name: String, source: kube::Error },
    #[error("cannot create service {name}")]
    Create { name: String, source: kube::Error },
    #[error("cannot update service {name}")]
    Update { name: String, source: kube::Error },
}

/// Keeps the Services until shutdown.
pub async fn run(options: Options, shutdown: CancellationToken) {
    let shared = Shared::default();
    let kinds = Kind::ALL
        .into_iter()
        .filter(|kind| *kind != Kind::Rollout || options.rollouts);
    let mut watches: FuturesUnordered<_> = kinds
        .map(|kind| watch_workloads(&options.cluster, kind, &shared, &shutdown).boxed())
        .collect();
    watches.push(watch_services(&options.cluster, &shared, &shutdown).boxed());
    let mut running = FuturesUnordered::new();
    let mut resync = tokio::time::interval_at(Instant::now() + options.resync, options.resync);
    loop {
        let due = {
            let mut state = shared.state.lock();
            let now = Instant::now();
            while let Some(key) = state.queue.take(now) {
                let workload = state.workload_of(&key).cloned();
                running.push(reconcile(&options, key, workload));
            }
            state.queue.next_due()
        };
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(()) = watches.next() => {}
            Some((key, success)) = running.next() => {
                shared.state.lock().queue.done(key, success, Instant::now());
            }
            () = shared.changed.notified() => {}
            () = until(due) => {}
            _ = resync.tick() => shared.state.lock().offer_all(Instant::now()),
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn watch_workloads(
    cluster: &Cluster,
    kind: Kind,
    shared: &Shared,
    shutdown: &CancellationToken,
) {
    let resource = kind.resource();
    let api = |cluster: &Cluster| cluster.watched_as::<Raw>(&resource);
    let tell = |signal| {
        shared.state.lock().workload(kind, signal, Instant::now());
        shared.changed.notify_one();
    };
    let reflector = Reflector::new(&resource.plural, cluster, api);
    reflector.run(shutdown, tell).await;
}

async fn watch_services(cluster: &Cluster, shared: &Shared, shutdown: &CancellationToken) {
    let tell = |signal| {
        shared.state.lock().service(signal, Instant::now());
        shared.changed.notify_one();
    };
    let api = Cluster::watched::<PartialObjectMeta<Service>>;
    let reflector = Reflector::new("services", cluster, api);
    let label = format!("{}=true", annotations::ENABLED);
    reflector.labels(&label).run(shutdown, tell).await;
}

/// What watches tell and the loop works on.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    workloads: HashMap<Kind, Store<Workload>>,
    services: Store<Owned>,
    queue: Queue,
}

/// What is looked at of a Service that a workload owns. Its version changes with everything else of it.
#[derive(Debug, PartialEq, Eq)]
struct Owned {
    owner: Key,
    version: Option<String>,
}

impl State {
    fn workload_of(&self, key: &Key) -> Option<&Arc<Workload>> {
        let name = kubernetes::Key::new(&key.namespace, &key.name);
        self.workloads.get(&key.kind)?.get(&name)
    }

    /// Workloads change with every step of a rollout; only what shows in the Service is kept and worth a look.
    fn workload(&mut self, kind: Kind, signal: impl Into<Signal<Raw>>, now: Instant) {
        let store = self.workloads.entry(kind).or_default();
        for change in store.apply(signal, Raw::into_workload) {
            if change.new.is_some() {
                let kubernetes::Key { namespace, name } = change.key;
                let key = Key {
                    kind,
                    namespace,
                    name,
                };
                self.queue.offer(key, now);
            }
        }
    }

    /// A Service that changed or went is looked at through its workload, also if it went while nobody watched. One that
    /// went may have been that of other workloads with the same app id, whose owner took it along.
    fn service(&mut self, signal: impl Into<Signal<PartialObjectMeta<Service>>>, now: Instant) {
        for change in self.services.apply(signal, owned) {
            // Not the owner before: two workloads would take it from each other for ever.
            let owned = change.new.as_ref().or(change.old.as_ref());
            if let Some(owner) = owned.map(|owned| owned.owner.clone())
                && self.workload_of(&owner).is_some()
            {
                self.queue.offer(owner, now);
            }
            if change.new.is_none() {
                for key in self.workloads_of_service(&change.key) {
                    self.queue.offer(key, now);
                }
            }
        }
    }

    /// The workloads that want a Service of this name.
    fn workloads_of_service(&self, service: &kubernetes::Key) -> Vec<Key> {
        let wants = |workload: &Workload| {
            desired::app_id(workload).is_ok_and(|app_id| desired::name(app_id) == service.name)
        };
        let kinds = self.workloads.iter();
        let there = kinds.flat_map(|(kind, store)| {
            let here = store.within(&service.namespace);
            here.map(move |(key, workload)| (*kind, key, workload))
        });
        there
            .filter(|(_, _, workload)| wants(workload))
            .map(|(kind, key, _)| Key {
                kind,
                namespace: key.namespace.clone(),
                name: key.name.clone(),
            })
            .collect()
    }

    fn offer_all(&mut self, now: Instant) {
        for (kind, store) in &self.workloads {
            for (key, _) in store.iter() {
                let key = Key {
                    kind: *kind,
                    namespace: key.namespace.clone(),
                    name: key.name.clone(),
                };
                self.queue.offer(key, now);
            }
        }
    }
}

fn owned(service: PartialObjectMeta<Service>) -> Option<Owned> {
    let owner = owner::controller(&service.metadata)?;
    Some(Owned {
        owner: Key {
            kind: Kind::of(&owner.api_version, &owner.kind)?,
            namespace: service.namespace().unwrap_or_default(),
            name: owner.name.clone(),
        },
        version: service.resource_version(),
    })
}

/// Makes one Service what it should be. A workload that is gone leaves its Service to the garbage collector.
async fn reconcile(options: &Options, key: Key, workload: Option<Arc<Workload>>) -> (Key, bool) {
    let Some(workload) = workload else {
        return (key, true);
    };
    let limited = tokio::time::timeout(LONGEST_RECONCILE, ensure(options, &key, &workload)).await;
    let success = match limited {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(namespace = %key.namespace, workload = %key.name, cause, "no service for the app: {error}");
            false
        }
        Err(_) => {
            tracing::error!(namespace = %key.namespace, workload = %key.name, "the kubernetes api does not answer");
            false
        }
    };
    (key, success)
}

async fn ensure(options: &Options, key: &Key, workload: &Workload) -> Result<(), Error> {
    let app_id = desired::app_id(workload)?;
    let name = desired::name(app_id);
    let mut service = desired::service(key, workload, app_id, options.mtls);
    let api: Api<Service> = options.cluster.within(&key.namespace);
    let there = api.get_opt(&name).await.map_err(|source| Error::Get {
        name: name.clone(),
        source,
    })?;
    let Some(there) = there else {
        let created = api.create(&PostParams::default(), &service).await;
        created.map_err(|source| Error::Create { name, source })?;
        options.metrics.service_created(app_id);
        return Ok(());
    };
    if desired::is_same(&there, &service) {
        return Ok(());
    }
    // The version makes the API server refuse what someone else has changed meanwhile.
    service.metadata.resource_version = there.metadata.resource_version;
    let updated = api.replace(&name, &PostParams::default(), &service).await;
    updated.map_err(|source| Error::Update { name, source })?;
    options.metrics.service_updated(app_id);
    Ok(())
}

/// How long one Service may take; its workload is looked at again later.
const LONGEST_RECONCILE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
