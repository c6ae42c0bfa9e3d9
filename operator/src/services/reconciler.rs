//! The loop around the queue: watches workloads and Services, and makes Services what they should be.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{PartialObjectMeta, PostParams};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::desired;
use super::queue::Queue;
use super::workload::{Key, Kind, Raw, Workload};
use crate::annotations;
use crate::cluster::Cluster;
use crate::metrics::Metrics;
use crate::watch::{News, follow};

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
                let workload = state.workloads.get(&key).cloned();
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
            () = shared.news.notified() => {}
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
    let api: Api<Raw> = cluster.watched_as(&resource);
    follow(&resource.plural, api, None, shutdown, |news| {
        shared.state.lock().workload(kind, news, Instant::now());
        shared.news.notify_one();
    })
    .await;
}

async fn watch_services(cluster: &Cluster, shared: &Shared, shutdown: &CancellationToken) {
    let api: Api<PartialObjectMeta<Service>> = cluster.watched();
    let label = format!("{}=true", annotations::ENABLED);
    follow("services", api, Some(&label), shutdown, |news| {
        shared.state.lock().service(&news, Instant::now());
        shared.news.notify_one();
    })
    .await;
}

/// What watches tell and the loop works on.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Default)]
struct State {
    workloads: HashMap<Key, Arc<Workload>>,
    /// By kind: what the list under way has named so far.
    listing: HashMap<Kind, HashSet<Key>>,
    queue: Queue,
}

impl State {
    fn workload(&mut self, kind: Kind, news: News<Raw>, now: Instant) {
        match news {
            News::Listing => {
                self.listing.insert(kind, HashSet::new());
            }
            News::Listed(raw) => {
                let key = raw.key(kind);
                self.listing.entry(kind).or_default().insert(key.clone());
                self.put(key, raw, now);
            }
            News::Complete => {
                let listed = self.listing.remove(&kind).unwrap_or_default();
                self.workloads
                    .retain(|key, _| key.kind != kind || listed.contains(key));
            }
            News::Applied(raw) => self.put(raw.key(kind), raw, now),
            News::Deleted(raw) => {
                self.workloads.remove(&raw.key(kind));
            }
            News::UnknownKind => {}
        }
    }

    /// Workloads change with every step of a rollout; only what shows in the Service is worth a look.
    fn put(&mut self, key: Key, raw: Raw, now: Instant) {
        let Some(workload) = raw.into_workload() else {
            self.workloads.remove(&key);
            return;
        };
        if self
            .workloads
            .get(&key)
            .is_some_and(|known| **known == workload)
        {
            return;
        }
        self.workloads.insert(key.clone(), Arc::new(workload));
        self.queue.offer(key, now);
    }

    /// A Service that changed or went is looked at through its workload.
    fn service(&mut self, news: &News<PartialObjectMeta<Service>>, now: Instant) {
        let (News::Applied(service) | News::Deleted(service) | News::Listed(service)) = news else {
            return;
        };
        let owners = service.metadata.owner_references.iter().flatten();
        let Some(owner) = owners
            .into_iter()
            .find(|owner| owner.controller == Some(true))
        else {
            return;
        };
        let Some(kind) = Kind::of(&owner.api_version, &owner.kind) else {
            return;
        };
        let key = Key {
            kind,
            namespace: service.metadata.namespace.clone().unwrap_or_default(),
            name: owner.name.clone(),
        };
        if self.workloads.contains_key(&key) {
            self.queue.offer(key, now);
        }
    }

    fn offer_all(&mut self, now: Instant) {
        for key in self.workloads.keys() {
            self.queue.offer(key.clone(), now);
        }
    }
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
mod tests {
    use super::*;
    use serde_json::json;

    fn raw(name: &str, app_id: &str, enabled: &str) -> Raw {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "n", "uid": "u"},
            "spec": {
                "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"annotations": {"dapr.io/enabled": enabled, "dapr.io/app-id": app_id}}},
            },
        }))
        .unwrap()
    }

    fn service(owner: &str) -> PartialObjectMeta<Service> {
        serde_json::from_value(json!({"metadata": {
            "name": "x-dapr", "namespace": "n",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": owner, "uid": "u", "controller": true}],
        }}))
        .unwrap()
    }

    fn names(state: &mut State, now: Instant) -> Vec<String> {
        let mut names = Vec::new();
        while let Some(key) = state.queue.take(now) {
            names.push(key.name.clone());
            state.queue.done(key, true, now);
        }
        names.sort();
        names
    }

    #[test]
    fn only_changes_that_matter_are_looked_at() {
        let (mut state, now) = (State::default(), Instant::now());
        let kind = Kind::Deployment;
        state.workload(kind, News::Listing, now);
        state.workload(kind, News::Listed(raw("a", "a", "true")), now);
        state.workload(kind, News::Listed(raw("b", "b", "false")), now);
        state.workload(kind, News::Complete, now);
        assert_eq!(names(&mut state, now), ["a"]);
        state.workload(kind, News::Applied(raw("a", "a", "true")), now);
        assert!(names(&mut state, now).is_empty());
        state.workload(kind, News::Applied(raw("a", "other", "true")), now);
        state.workload(kind, News::Applied(raw("b", "b", "true")), now);
        assert_eq!(names(&mut state, now), ["a", "b"]);
        state.offer_all(now);
        assert_eq!(names(&mut state, now), ["a", "b"]);
        state.workload(kind, News::Deleted(raw("b", "b", "true")), now);
        state.workload(kind, News::Listing, now);
        state.workload(kind, News::Complete, now);
        assert!(state.workloads.is_empty());
    }

    #[test]
    fn services_lead_to_their_workload() {
        let (mut state, now) = (State::default(), Instant::now());
        state.workload(Kind::Deployment, News::Applied(raw("a", "a", "true")), now);
        names(&mut state, now);
        state.service(&News::Deleted(service("a")), now);
        assert_eq!(names(&mut state, now), ["a"]);
        state.service(&News::Applied(service("unknown")), now);
        state.service(&News::Complete, now);
        assert!(names(&mut state, now).is_empty());
    }

    fn options(cluster: Cluster) -> Options {
        let meter = telemetry::Meter::new(
            &prometheus::Registry::new(),
            telemetry::MetricOptions::default(),
        );
        Options {
            cluster,
            metrics: Metrics::new(&meter.unwrap()),
            mtls: true,
            rollouts: false,
            resync: DEFAULT_RESYNC,
        }
    }

    async fn ensured(there: Option<serde_json::Value>) -> Vec<String> {
        let (cluster, log) =
            crate::fake::cluster(move |seen| match (seen.method.as_str(), &there) {
                ("GET", None) => crate::fake::missing(),
                ("GET", Some(service)) => (200, service.clone()),
                _ => (200, seen.body.clone()),
            });
        let workload = raw("a", "a", "true").into_workload().unwrap();
        let key = raw("a", "a", "true").key(Kind::Deployment);
        ensure(&options(cluster), &key, &workload).await.unwrap();
        let log = log.lock();
        log.iter()
            .map(|seen| {
                format!(
                    "{} {}",
                    seen.method, seen.body["metadata"]["resourceVersion"]
                )
            })
            .collect()
    }

    #[tokio::test]
    async fn services_are_made_kept_and_mended() {
        let workload = raw("a", "a", "true").into_workload().unwrap();
        let key = raw("a", "a", "true").key(Kind::Deployment);
        let mut there = serde_json::to_value(desired::service(&key, &workload, "a", true)).unwrap();
        there["metadata"]["resourceVersion"] = json!("7");
        assert_eq!(ensured(None).await, ["GET null", "POST null"]);
        assert_eq!(ensured(Some(there.clone())).await, ["GET null"]);
        there["spec"]["ports"] = json!([]);
        assert_eq!(ensured(Some(there)).await, ["GET null", "PUT \"7\""]);
    }
}
