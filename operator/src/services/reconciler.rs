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

    /// A Service that changed or went is looked at through its workload, also if it went while nobody watched.
    fn service(&mut self, signal: impl Into<Signal<PartialObjectMeta<Service>>>, now: Instant) {
        for change in self.services.apply(signal, owned) {
            let owners = [change.old, change.new].into_iter().flatten();
            for owner in owners.map(|owned| owned.owner.clone()) {
                if self.workload_of(&owner).is_some() {
                    self.queue.offer(owner, now);
                }
            }
        }
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
mod tests {
    use super::*;
    use kube::runtime::watcher::Event;
    use kubernetes_fake::{Answer, Fake};
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
        state.workload(kind, Event::Init, now);
        state.workload(kind, Event::InitApply(raw("a", "a", "true")), now);
        state.workload(kind, Event::InitApply(raw("b", "b", "false")), now);
        state.workload(kind, Event::InitDone, now);
        assert_eq!(names(&mut state, now), ["a"]);
        state.workload(kind, Event::Apply(raw("a", "a", "true")), now);
        assert!(names(&mut state, now).is_empty());
        state.workload(kind, Event::Apply(raw("a", "other", "true")), now);
        state.workload(kind, Event::Apply(raw("b", "b", "true")), now);
        assert_eq!(names(&mut state, now), ["a", "b"]);
        state.offer_all(now);
        assert_eq!(names(&mut state, now), ["a", "b"]);
        state.workload(kind, Event::Delete(raw("b", "b", "true")), now);
        state.workload(kind, Event::Init, now);
        state.workload(kind, Event::InitDone, now);
        assert_eq!(state.workloads[&kind].iter().count(), 0);
    }

    #[test]
    fn services_lead_to_their_workload() {
        let (mut state, now) = (State::default(), Instant::now());
        state.workload(Kind::Deployment, Event::Apply(raw("a", "a", "true")), now);
        names(&mut state, now);
        state.service(Event::Apply(service("a")), now);
        assert_eq!(names(&mut state, now), ["a"]);
        state.service(Event::Apply(service("unknown")), now);
        state.service(Event::Apply(service("a")), now);
        names(&mut state, now);
        state.service(Event::Delete(service("a")), now);
        assert_eq!(names(&mut state, now), ["a"]);
        state.service(Event::Apply(service("a")), now);
        names(&mut state, now);
        state.service(Event::Init, now);
        state.service(Event::InitDone, now);
        assert_eq!(
            names(&mut state, now),
            ["a"],
            "it went while nobody watched"
        );
        state.service(Event::Init, now);
        state.service(Event::InitDone, now);
        assert!(names(&mut state, now).is_empty());
    }

    fn key() -> Key {
        Key {
            kind: Kind::Deployment,
            namespace: "n".to_owned(),
            name: "a".to_owned(),
        }
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
        let fake = Fake::scripted(move |seen| {
            Some(match (seen.method.as_str(), &there) {
                ("GET", None) => Answer::status(404),
                ("GET", Some(service)) => Answer::object(service.clone()),
                _ => Answer::object(seen.body.clone()),
            })
        });
        let cluster = Cluster::new(fake.client(), "");
        let workload = raw("a", "a", "true").into_workload().unwrap();
        let key = key();
        ensure(&options(cluster), &key, &workload).await.unwrap();
        fake.seen()
            .iter()
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
        let key = key();
        let mut there = serde_json::to_value(desired::service(&key, &workload, "a", true)).unwrap();
        there["metadata"]["resourceVersion"] = json!("7");
        assert_eq!(ensured(None).await, ["GET null", "POST null"]);
        assert_eq!(ensured(Some(there.clone())).await, ["GET null"]);
        there["spec"]["ports"] = json!([]);
        assert_eq!(ensured(Some(there)).await, ["GET null", "PUT \"7\""]);
    }
}
