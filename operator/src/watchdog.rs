//! The watchdog restarts pods that should have a sidecar and have none, because the injector was away when they
//! were made (contract 5.1, 5.2). It runs on the leader, and only while the injector is there to do better.
//!
//! Only what comes back better goes: the injector's own rule says which pods ask for a sidecar, a controller has to make
//! the pod anew, one of its pods goes at a time, and where that was of no use the next ones stay (Q-operator-watchdog). All of
//! them are reported.

mod owners;
mod report;

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PartialObjectMeta, Patch, PatchParams};
use kube::{Api, ResourceExt};
use kubernetes::client::status;
use kubernetes::{Cluster, owner};
use serde_json::json;
use settings::injection;
use telemetry::Meter;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::owners::{Owners, Verdict, Waiting};
use self::report::{Outcome, Report};
use crate::annotations;
use crate::flags::WatchInterval;

/// What the watchdog needs to know.
#[derive(Clone)]
pub struct Options {
    pub cluster: Cluster,
    /// Where the control plane is.
    pub namespace: String,
    pub interval: WatchInterval,
    /// Pods that may be restarted in a minute; zero or less is no limit.
    pub restarts_per_minute: i64,
    /// Whether pods that have a sidecar by other means are labelled, so as not to be looked at again.
    pub may_label: bool,
    /// Where counts go.
    pub meter: Meter,
    /// The name of this replica in events.
    pub instance: String,
}

/// What is remembered from round to round.
struct Memory {
    owners: Owners,
    report: Report,
}

impl Memory {
    fn new(options: &Options) -> Self {
        let report = Report::new(options.cluster.client(), &options.instance, &options.meter);
        Self {
            owners: Owners::default(),
            report,
        }
    }
}

/// The label of the injector's Deployment.
const INJECTOR: &str = "app=dapr-sidecar-injector";

/// The container the watchdog looks for.
const SIDECAR: &str = "daprd";

/// The pause before the first round is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// The pause before it is looked whether a pod has come for one that was evicted.
const LOOK: Duration = Duration::from_secs(30);

/// Pods in one page of a list.
const PAGE: u32 = 250;

/// Pods that are looked at in one round; the others have to wait for the next one.
const MOST_SUSPECTS: usize = 10_000;

/// Checks pods until the token is cancelled. There is at least one round that succeeds.
pub async fn run(options: Options, stop: CancellationToken) {
    stop.run_until_cancelled(check(&options)).await;
}

async fn check(options: &Options) {
    let mut memory = Memory::new(options);
    while !round(options, &mut memory).await {
        tokio::time::sleep(RETRY).await;
    }
    replace_others(options, &mut memory).await;
    let WatchInterval::Every(interval) = options.interval else {
        return std::future::pending().await;
    };
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        round(options, &mut memory).await;
        replace_others(options, &mut memory).await;
    }
}

/// Goes on for as long as pods are to come for those that were evicted: others may have to follow.
async fn replace_others(options: &Options, memory: &mut Memory) {
    while !memory.owners.waiting().is_empty() {
        tokio::time::sleep(LOOK).await;
        round(options, memory).await;
    }
}

async fn round(options: &Options, memory: &mut Memory) -> bool {
    tracing::info!("checking pods for missing sidecars");
    match check_all(options, memory).await {
        Ok(true) => {
            tracing::info!("pods are checked");
            true
        }
        Ok(false) => {
            tracing::warn!("no sidecar injector is running, pods are checked later");
            false
        }
        Err(error) => {
            tracing::error!(%error, "cannot check pods");
            memory.report.break_round();
            false
        }
    }
}

/// Whether the injector runs and all pods were looked at.
async fn check_all(options: &Options, memory: &mut Memory) -> Result<bool, kube::Error> {
    if !injector_runs(options).await? {
        return Ok(false);
    }
    let suspects = suspects(options).await?;
    let pods = suspects
        .iter()
        .filter_map(|pod| Some((pod.owner.as_deref()?, pod.uid.as_str())));
    memory.owners.round(pods, Instant::now());
    let waiting = memory.owners.waiting();
    let namespaces = waiting.values().map(|waiting| waiting.namespace.as_str());
    for namespace in namespaces.collect::<BTreeSet<_>>() {
        let pods = injected(options, namespace, |owner| waiting.contains_key(owner)).await?;
        for (owner, waiting) in &waiting {
            let its = pods.iter().filter(|pod| pod.owner == *owner);
            if is_replaced(options, waiting, its).await? {
                memory.owners.replaced(owner);
            }
        }
    }
    for suspect in &suspects {
        examine(options, suspect, memory).await;
    }
    memory.report.end_round();
    Ok(true)
}

/// A pod that has a sidecar.
struct Injected {
    owner: String,
    uid: String,
    name: String,
}

/// Whether a new one of these pods of an owner is ready.
async fn is_replaced(
    options: &Options,
    waiting: &Waiting,
    its: impl Iterator<Item = &Injected>,
) -> Result<bool, kube::Error> {
    let pods: Api<Pod> = options.cluster.within(&waiting.namespace);
    for pod in its {
        if !waiting.before.contains(&pod.uid)
            && let Some(pod) = pods.get_opt(&pod.name).await?
            && (is_ready(&pod) || has_ended(&pod))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The pods of these owners that have a sidecar.
async fn injected(
    options: &Options,
    namespace: &str,
    of: impl Fn(&str) -> bool,
) -> Result<Vec<Injected>, kube::Error> {
    let pods: Api<PartialObjectMeta<Pod>> = options.cluster.within(namespace);
    list(&pods, annotations::INJECTED, |pod| {
        let controller = owner::controller(&pod.metadata)?;
        of(&controller.uid).then(|| Injected {
            owner: controller.uid.clone(),
            uid: pod.uid().unwrap_or_default(),
            name: pod.name_any(),
        })
    })
    .await
}

/// What is picked of the pods with these labels, a page at a time, until there are [`MOST_SUSPECTS`]. Metadata are enough: in a
/// cluster where all is well, no pod has to be read whole.
async fn list<T>(
    pods: &Api<PartialObjectMeta<Pod>>,
    labels: &str,
    pick: impl Fn(&PartialObjectMeta<Pod>) -> Option<T>,
) -> Result<Vec<T>, kube::Error> {
    let mut params = ListParams::default().labels(labels).limit(PAGE);
    let mut found = Vec::new();
    loop {
        let page = pods.list(&params).await?;
        found.extend(page.items.iter().filter_map(&pick));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) if found.len() < MOST_SUSPECTS => params = params.continue_token(&token),
            _ => return Ok(found),
        }
    }
}

async fn injector_runs(options: &Options) -> Result<bool, kube::Error> {
    // It runs where the operator does, whatever namespace is watched.
    let deployments: Api<Deployment> = options.cluster.within(&options.namespace);
    let labelled = ListParams::default().labels(INJECTOR);
    let injectors = deployments.list(&labelled).await?;
    Ok(injectors.iter().any(|deployment| {
        let status = deployment.status.as_ref();
        let ready = status.and_then(|status| status.ready_replicas);
        ready.unwrap_or_default() > 0
    }))
}

/// A pod that asks for a sidecar and has no mark of one.
#[derive(Debug, PartialEq, Eq)]
struct Suspect {
    namespace: String,
    name: String,
    uid: String,
    /// The UID of the controller that makes it anew, if one does.
    owner: Option<String>,
}

/// All suspects of a round, up to [`MOST_SUSPECTS`].
async fn suspects(options: &Options) -> Result<Vec<Suspect>, kube::Error> {
    let pods: Api<PartialObjectMeta<Pod>> = options.cluster.watched();
    let labels = format!(
        "!{},!{}",
        annotations::INJECTED,
        annotations::WATCHDOG_PATCHED
    );
    let mut found = list(&pods, &labels, suspect).await?;
    found.truncate(MOST_SUSPECTS);
    Ok(found)
}

fn suspect(pod: &PartialObjectMeta<Pod>) -> Option<Suspect> {
    let labels = pod.labels();
    if labels.contains_key(annotations::INJECTED)
        || labels.contains_key(annotations::WATCHDOG_PATCHED)
        || pod.metadata.deletion_timestamp.is_some()
        || !injection::is_wanted(pod.metadata.annotations.as_ref())
    {
        return None;
    }
    let owner = owner::controller(&pod.metadata).filter(|owner| owner::replaces_pods(owner));
    Some(Suspect {
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        owner: owner.map(|owner| owner.uid.clone()),
    })
}

fn has_sidecar(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let containers = spec.into_iter().flat_map(|spec| &spec.containers);
    let native = spec
        .into_iter()
        .flat_map(|spec| spec.init_containers.iter().flatten());
    containers
        .chain(native)
        .any(|container| container.name == SIDECAR)
}

fn is_ready(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let mut conditions = status
        .into_iter()
        .flat_map(|it| it.conditions.iter().flatten());
    conditions.any(|it| it.type_ == "Ready" && it.status == "True")
}

/// Whether all containers of a pod have ended, which no sidecar would change.
fn has_ended(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

async fn examine(options: &Options, suspect: &Suspect, memory: &mut Memory) {
    let Suspect {
        namespace, name, ..
    } = suspect;
    let pods: Api<Pod> = options.cluster.within(namespace);
    let pod = match pods.get_opt(name).await {
        Ok(Some(pod)) => pod,
        Ok(None) => return,
        Err(error) => {
            tracing::error!(%namespace, %name, %error, "cannot get pod");
            return;
        }
    };
    if has_sidecar(&pod) {
        if options.may_label {
            label(&pods, namespace, name).await;
        }
        return;
    }
    if has_ended(&pod) {
        return;
    }
    let outcome = evict(options, &pods, suspect, &mut memory.owners).await;
    memory.report.note(&pod, outcome).await;
    if outcome == Outcome::Evicted {
        tokio::time::sleep(pause(options.restarts_per_minute)).await;
    }
}

/// Evicts a pod if that is of use.
async fn evict(
    options: &Options,
    pods: &Api<Pod>,
    suspect: &Suspect,
    owners: &mut Owners,
) -> Outcome {
    let Suspect {
        namespace, name, ..
    } = suspect;
    let Some(owner) = &suspect.owner else {
        return Outcome::NoController;
    };
    match owners.verdict(owner) {
        Verdict::Evict => {}
        Verdict::Wait => return Outcome::Waits,
        Verdict::Keep => return Outcome::ComesBack,
    }
    let its = injected(options, namespace, |uid| uid == owner).await;
    let before: HashSet<String> = match its {
        Ok(before) => before.into_iter().map(|pod| pod.uid).collect(),
        Err(error) => {
            tracing::error!(%namespace, %name, %error, "cannot list the pods of an owner");
            return Outcome::Failed;
        }
    };
    tracing::warn!(%namespace, %name, "pod has no sidecar and is evicted, to be made again");
    match kubernetes::evict(pods, name, &suspect.uid).await {
        Ok(()) => {
            owners.evicted(owner, namespace, before, Instant::now());
            tracing::info!(%namespace, %name, "pod is evicted");
            Outcome::Evicted
        }
        Err(error) if status(&error) == Some(429) => Outcome::Budget,
        Err(error) => {
            tracing::error!(%namespace, %name, %error, "cannot evict pod");
            Outcome::Failed
        }
    }
}

async fn label(pods: &Api<Pod>, namespace: &str, name: &str) {
    let patch = json!({"metadata": {"labels": {annotations::WATCHDOG_PATCHED: "true"}}});
    let patched = pods
        .patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch))
        .await;
    if let Err(error) = patched {
        tracing::error!(%namespace, %name, %error, "cannot label pod");
    }
}

/// The pause after a restart.
fn pause(restarts_per_minute: i64) -> Duration {
    match u32::try_from(restarts_per_minute) {
        Ok(count) if count > 0 => Duration::from_secs(60) / count,
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests;
