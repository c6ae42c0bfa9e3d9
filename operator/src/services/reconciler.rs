//! The loop around the queue: watches workloads and Services, and makes Services what they should be.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::ResourceExt as _;
use kube::api::{PartialObjectMeta, Patch, PatchParams, PostParams};
use kubernetes::client::status;
use kubernetes::{Cluster, Key as ServiceKey, Reflector, Signal, Store};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::desired::{self, Owners};
use super::existing;
use super::queue::Queue;
use super::workload::{Key, Kind, Raw, Workload};
use crate::metrics::Metrics;
use crate::{FIELD_MANAGER, annotations};

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
    #[error(
        "service {name} is somebody else's, and is left alone: the app cannot be found by its id until it is renamed or deleted"
    )]
    Foreign { name: String },
}

/// Keeps the Services until shutdown.
pub async fn run(options: Options, shutdown: CancellationToken) {
    let kinds = Kind::ALL
        .into_iter()
        .filter(|kind| *kind != Kind::Rollout || options.rollouts);
    let shared = Shared::new(kinds.clone());
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
            while state.is_known()
                && let Some(key) = state.queue.take(now)
            {
                let owners = state.owners_of(&key);
                running.push(reconcile(&options, key, owners));
            }
            state.queue.next_due().filter(|_| state.is_known())
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
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

impl Shared {
    fn new(kinds: impl Iterator<Item = Kind>) -> Self {
        Self {
            state: Mutex::new(State::new(kinds)),
            changed: Notify::new(),
        }
    }
}

struct State {
    workloads: HashMap<Kind, Store<Workload>>,
    /// The workloads that want each Service.
    owners: HashMap<ServiceKey, BTreeSet<Key>>,
    services: Store<Seen>,
    queue: Queue,
}

/// What is looked at of a Service: its version changes with everything else of it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    version: Option<String>,
}

impl State {
    fn new(kinds: impl Iterator<Item = Kind>) -> Self {
        Self {
            workloads: kinds.map(|kind| (kind, Store::default())).collect(),
            owners: HashMap::new(),
            services: Store::default(),
            queue: Queue::default(),
        }
    }

    /// Whether all workloads are known, in as far as they may be: of those of one app, none is to be forgotten.
    fn is_known(&self) -> bool {
        let refused = kubernetes::State::Refused;
        let mut stores = self.workloads.values();
        stores.all(|store| store.is_known() || store.state() == refused)
    }

    /// The workloads that want a Service, in order.
    fn owners_of(&self, service: &ServiceKey) -> Vec<(Key, Arc<Workload>)> {
        let keys = self.owners.get(service).into_iter().flatten();
        let owners = keys.filter_map(|key| {
            let name = ServiceKey::new(&key.namespace, &key.name);
            let workload = self.workloads.get(&key.kind)?.get(&name)?;
            Some((key.clone(), Arc::clone(workload)))
        });
        owners.collect()
    }

    /// Workloads change with every step of a rollout; only what shows in the Service is kept and worth a look.
    fn workload(&mut self, kind: Kind, signal: impl Into<Signal<Raw>>, now: Instant) {
        let store = self.workloads.entry(kind).or_default();
        for change in store.apply(signal, Raw::into_workload) {
            let key = Key {
                kind,
                namespace: change.key.namespace,
                name: change.key.name,
            };
            let before = change
                .old
                .as_deref()
                .and_then(|it| service_of(&key, it).ok());
            if let Some(before) = before {
                if let Some(owners) = self.owners.get_mut(&before) {
                    owners.remove(&key);
                    if owners.is_empty() {
                        self.owners.remove(&before);
                    }
                }
                self.queue.offer(before, now);
            }
            match change.new.as_deref().map(|it| service_of(&key, it)) {
                Some(Ok(service)) => {
                    self.owners.entry(service.clone()).or_default().insert(key);
                    self.queue.offer(service, now);
                }
                Some(Err(error)) => {
                    tracing::error!(namespace = %key.namespace, workload = %key.name, "no service for the app: {error}");
                }
                None => {}
            }
        }
    }

    /// A Service that changed or went is looked at, also if it went while nobody watched.
    fn service(&mut self, signal: impl Into<Signal<PartialObjectMeta<Service>>>, now: Instant) {
        let seen = |service: PartialObjectMeta<Service>| {
            let version = service.resource_version();
            Some(Seen { version })
        };
        for change in self.services.apply(signal, seen) {
            if self.owners.contains_key(&change.key) {
                self.queue.offer(change.key, now);
            }
        }
    }

    fn offer_all(&mut self, now: Instant) {
        for service in self.owners.keys() {
            self.queue.offer(service.clone(), now);
        }
    }
}

/// The Service that a workload wants.
fn service_of(key: &Key, workload: &Workload) -> Result<ServiceKey, desired::Error> {
    let app_id = desired::app_id(workload)?;
    Ok(ServiceKey::new(&key.namespace, &desired::name(app_id)))
}

/// Makes one Service what it should be. One that no workload wants any more is left to the garbage collector.
async fn reconcile(
    options: &Options,
    key: ServiceKey,
    owners: Vec<(Key, Arc<Workload>)>,
) -> (ServiceKey, bool) {
    let limited = tokio::time::timeout(LONGEST_RECONCILE, ensure(options, &key, &owners)).await;
    let success = match limited {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(namespace = %key.namespace, service = %key.name, cause, "no service for the app: {error}");
            false
        }
        Err(_) => {
            tracing::error!(namespace = %key.namespace, service = %key.name, "the kubernetes api does not answer");
            false
        }
    };
    (key, success)
}

async fn ensure(
    options: &Options,
    key: &ServiceKey,
    owners: &[(Key, Arc<Workload>)],
) -> Result<(), Error> {
    let Some((_, first)) = owners.first() else {
        return Ok(());
    };
    let app_id = desired::app_id(first)?;
    let name = || key.name.clone();
    let api: Api<Service> = options.cluster.within(&key.namespace);
    let there = api.get_opt(&key.name).await;
    let there = there.map_err(|source| Error::Get {
        name: name(),
        source,
    })?;
    let Some(owned) = Owners::new(owners, there.as_ref()) else {
        return Ok(());
    };
    let desired = desired::service(&owned, app_id, options.mtls);
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let Some(there) = there else {
        // A Service that somebody else has made meanwhile is not touched.
        let created = api.create(&params, &desired).await;
        created.map_err(|source| Error::Create {
            name: name(),
            source,
        })?;
        options.metrics.service_created(app_id);
        return Ok(());
    };
    if !existing::is_ours(&there, app_id, owners, options.rollouts) {
        return Err(Error::Foreign { name: name() });
    }
    let merged = existing::merged(&there, &desired);
    if merged == there {
        return Ok(());
    }
    let failed = |source| Error::Update {
        name: name(),
        source,
    };
    let remains = match applied(&api, key, &desired).await {
        Ok(applied) => Some(existing::merged(&applied, &desired)).filter(|it| *it != applied),
        // Upstream's chart does not allow it; or what was written before by creating or replacing it, which applying does not
        // take away, makes no valid Service with what is wanted now: two ports of one name, two controllers.
        Err(error) if matches!(status(&error), Some(403 | 422)) => Some(merged),
        Err(error) => return Err(failed(error)),
    };
    // What an operator has written that does not apply is not taken away by applying.
    if let Some(remains) = remains {
        // Its version makes the API server refuse what someone else has changed meanwhile.
        let updated = api.replace(&key.name, &params, &remains).await;
        updated.map_err(failed)?;
    }
    options.metrics.service_updated(app_id);
    Ok(())
}

async fn applied(
    api: &Api<Service>,
    key: &ServiceKey,
    desired: &Service,
) -> Result<Service, kube::Error> {
    let wanted = Patch::Apply(desired);
    let what = format!("Service {}/{}", key.namespace, key.name);
    let attempt = async |force| {
        let params = PatchParams {
            force,
            ..PatchParams::apply(FIELD_MANAGER)
        };
        api.patch(&key.name, &params, &wanted).await
    };
    kubernetes::apply(&what, attempt).await
}

/// How long one Service may take; it is looked at again later.
const LONGEST_RECONCILE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
