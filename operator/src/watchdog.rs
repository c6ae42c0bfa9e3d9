//! The watchdog restarts pods that should have a sidecar and have none, because the injector was away when they
//! were made (contract 5.1, 5.2). It runs on the leader, and only while the injector is there to do better.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PartialObjectMeta, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use values::is_truthy;

use crate::annotations;
use crate::cluster::Cluster;
use crate::flags::WatchInterval;

/// What the watchdog needs to know.
#[derive(Clone)]
pub struct Options {
    pub cluster: Cluster,
    pub interval: WatchInterval,
    /// Pods that may be restarted in a minute; zero or less is no limit.
    pub restarts_per_minute: i64,
    /// Whether pods that have a sidecar by other means are labelled, so as not to be looked at again.
    pub may_label: bool,
}

/// The label of the injector's Deployment.
const INJECTOR: &str = "app=dapr-sidecar-injector";

/// The container the watchdog looks for.
const SIDECAR: &str = "daprd";

/// The pause before the first round is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Pods in one page of a list.
const PAGE: u32 = 250;

/// Checks pods until the token is cancelled. There is at least one round that succeeds.
pub async fn run(options: Options, stop: CancellationToken) {
    stop.run_until_cancelled(check(&options)).await;
}

async fn check(options: &Options) {
    while !round(options).await {
        tokio::time::sleep(RETRY).await;
    }
    let WatchInterval::Every(interval) = options.interval else {
        return std::future::pending().await;
    };
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        round(options).await;
    }
}

async fn round(options: &Options) -> bool {
    tracing::info!("checking pods for missing sidecars");
    match check_all(options).await {
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
            false
        }
    }
}

/// Whether the injector runs and all pods were looked at.
async fn check_all(options: &Options) -> Result<bool, kube::Error> {
    let deployments: Api<Deployment> = options.cluster.watched();
    let injectors = deployments
        .list(&ListParams::default().labels(INJECTOR))
        .await?;
    let ready = |deployment: &Deployment| {
        let status = deployment.status.as_ref();
        status
            .and_then(|status| status.ready_replicas)
            .unwrap_or_default()
            > 0
    };
    if !injectors.iter().any(ready) {
        return Ok(false);
    }
    // Metadata first: in a cluster where all is well, no pod has to be read whole.
    let suspects: Api<PartialObjectMeta<Pod>> = options.cluster.watched();
    let labels = format!(
        "!{},!{}",
        annotations::INJECTED,
        annotations::WATCHDOG_PATCHED
    );
    let mut params = ListParams::default().labels(&labels).limit(PAGE);
    loop {
        let page = suspects.list(&params).await?;
        for pod in &page.items {
            if wants_sidecar(pod) {
                examine(options, pod).await;
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(true),
        }
    }
}

fn wants_sidecar(pod: &PartialObjectMeta<Pod>) -> bool {
    let labels = pod.labels();
    !labels.contains_key(annotations::INJECTED)
        && !labels.contains_key(annotations::WATCHDOG_PATCHED)
        && pod.metadata.deletion_timestamp.is_none()
        && pod
            .annotations()
            .get(annotations::ENABLED)
            .is_some_and(|value| is_truthy(value))
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

async fn examine(options: &Options, suspect: &PartialObjectMeta<Pod>) {
    let (namespace, name) = (suspect.namespace().unwrap_or_default(), suspect.name_any());
    let pods: Api<Pod> = options.cluster.within(&namespace);
    let pod = match pods.get_opt(&name).await {
        Ok(Some(pod)) => pod,
        Ok(None) => return,
        Err(error) => {
            tracing::error!(%namespace, %name, %error, "cannot get pod");
            return;
        }
    };
    if has_sidecar(&pod) {
        if options.may_label {
            label(&pods, &namespace, &name).await;
        }
        return;
    }
    tracing::warn!(%namespace, %name, "pod has no sidecar and is deleted, to be made again");
    // Not a pod of the same name that has taken its place meanwhile.
    let params = DeleteParams::default().preconditions(Preconditions {
        uid: pod.uid(),
        resource_version: None,
    });
    match pods.delete(&name, &params).await {
        Ok(_) => {
            tracing::info!(%namespace, %name, "pod is deleted");
            tokio::time::sleep(pause(options.restarts_per_minute)).await;
        }
        Err(error) => tracing::error!(%namespace, %name, %error, "cannot delete pod"),
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
mod tests {
    use super::*;

    #[test]
    fn suspects_ask_for_a_sidecar_and_have_no_label() {
        let pod = |enabled: &str, label: &str, gone: Option<&str>| {
            let pod = json!({"metadata": {
                "name": "p", "namespace": "n", "deletionTimestamp": gone,
                "annotations": {"dapr.io/enabled": enabled}, "labels": {label: "true"},
            }});
            serde_json::from_value::<PartialObjectMeta<Pod>>(pod).unwrap()
        };
        assert!(wants_sidecar(&pod("true", "x", None)));
        assert!(!wants_sidecar(&pod("no", "x", None)));
        assert!(!wants_sidecar(&pod("true", annotations::INJECTED, None)));
        assert!(!wants_sidecar(&pod(
            "true",
            annotations::WATCHDOG_PATCHED,
            None
        )));
        assert!(!wants_sidecar(&pod(
            "true",
            "x",
            Some("2026-01-01T00:00:00Z")
        )));
    }

    #[test]
    fn sidecars_are_found_by_their_name() {
        let pod = |list: &str, name: &str| {
            let pod = json!({"metadata": {}, "spec": {"containers": [{"name": "app"}]}});
            let mut pod = pod;
            pod["spec"][list] = json!([{"name": "app"}, {"name": name}]);
            serde_json::from_value::<Pod>(pod).unwrap()
        };
        assert!(has_sidecar(&pod("containers", "daprd")));
        assert!(has_sidecar(&pod("initContainers", "daprd")));
        assert!(!has_sidecar(&pod("containers", "other")));
        assert!(!has_sidecar(&Pod::default()));
    }

    #[test]
    fn restarts_are_spread_over_the_minute() {
        assert_eq!(pause(20), Duration::from_secs(3));
        assert_eq!(pause(0), Duration::ZERO);
        assert_eq!(pause(-1), Duration::ZERO);
    }
}
