//! Which Configuration an app's pods ask for, from their annotations. A sidecar does not say it about itself:
//! it would be told about Configurations that are not its own. Only metadata of pods is watched, and only what
//! is needed of it is kept.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::PartialObjectMeta;
use kubernetes::{Cluster, Reflector, Signal, Store};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use values::is_truthy;

use crate::annotations;

/// The handle. Cheap to clone.
#[derive(Clone)]
pub struct Pods {
    shared: Arc<Shared>,
}

struct Shared {
    assignments: Mutex<Assignments>,
    known: watch::Sender<bool>,
}

/// What is known of the pods that have a sidecar and ask for a Configuration.
#[derive(Default)]
struct Assignments {
    store: Store<Assignment>,
    /// By namespace and app id: pods, and the Configuration each asks for. Ordered, so that the answer does not
    /// change without a reason.
    apps: HashMap<(String, String), BTreeMap<String, String>>,
}

/// What a pod asks for.
#[derive(Debug, PartialEq, Eq)]
struct Assignment {
    app_id: String,
    configuration: String,
}

impl Pods {
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                assignments: Mutex::default(),
                known: watch::Sender::new(false),
            }),
        }
    }

    /// Watches pods until shutdown.
    pub async fn run(self, cluster: Cluster, shutdown: CancellationToken) -> anyhow::Result<()> {
        let reflector =
            Reflector::new("pods", &cluster, Cluster::watched::<PartialObjectMeta<Pod>>);
        let tell = |signal| {
            let mut assignments = self.shared.assignments.lock();
            assignments.apply(signal);
            if assignments.store.is_known() {
                self.shared
                    .known
                    .send_if_modified(|known| !std::mem::replace(known, true));
            }
        };
        reflector.run(&shutdown, tell).await;
        Ok(())
    }

    /// Waits until all pods are known.
    pub async fn known(&self) {
        let mut known = self.shared.known.subscribe();
        let _ = known.wait_for(|known| *known).await;
    }

    /// The name of the Configuration an app asks for. During a rollout not all pods may: the first that does counts.
    pub fn configuration(&self, namespace: &str, app_id: &str) -> Option<String> {
        let assignments = self.shared.assignments.lock();
        let key = (namespace.to_owned(), app_id.to_owned());
        assignments.apps.get(&key)?.values().next().cloned()
    }
}

impl Assignments {
    fn apply(&mut self, signal: impl Into<Signal<PartialObjectMeta<Pod>>>) {
        for change in self.store.apply(signal, assignment) {
            let app =
                |assignment: &Assignment| (change.key.namespace.clone(), assignment.app_id.clone());
            if let Some(old) = &change.old
                && let Some(pods) = self.apps.get_mut(&app(old))
            {
                pods.remove(&change.key.name);
                if pods.is_empty() {
                    self.apps.remove(&app(old));
                }
            }
            if let Some(new) = &change.new {
                let pods = self.apps.entry(app(new)).or_default();
                pods.insert(change.key.name.clone(), new.configuration.clone());
            }
        }
    }
}

fn assignment(pod: PartialObjectMeta<Pod>) -> Option<Assignment> {
    let annotation = |name: &str| {
        let value = pod.annotations().get(name)?;
        Some(value.clone()).filter(|value| !value.is_empty())
    };
    let enabled = annotation(annotations::ENABLED).is_some_and(|value| is_truthy(&value));
    Some(Assignment {
        configuration: annotation(annotations::CONFIG).filter(|_| enabled)?,
        app_id: annotation(annotations::APP_ID).unwrap_or_else(|| pod.name_any()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::runtime::watcher::Event;

    fn pod(name: &str, annotations: &[(&str, &str)]) -> PartialObjectMeta<Pod> {
        let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "namespace": "n", "annotations": annotations},
        }))
        .unwrap()
    }

    #[test]
    fn the_first_pod_that_asks_counts() {
        let pods = Pods::new();
        let apply =
            |event: Event<PartialObjectMeta<Pod>>| pods.shared.assignments.lock().apply(event);
        let app = [("dapr.io/enabled", "true"), ("dapr.io/app-id", "shop")];
        let with = |config| [app[0], app[1], ("dapr.io/config", config)];
        apply(Event::Init);
        apply(Event::InitApply(pod("a", &app)));
        apply(Event::InitApply(pod("b", &with("one"))));
        apply(Event::InitDone);
        assert_eq!(pods.configuration("n", "shop").as_deref(), Some("one"));
        assert_eq!(pods.configuration("m", "shop"), None);
        apply(Event::Apply(pod("a", &with("two"))));
        assert_eq!(pods.configuration("n", "shop").as_deref(), Some("two"));
        apply(Event::Delete(pod("a", &[])));
        apply(Event::Apply(pod("b", &app)));
        assert_eq!(pods.configuration("n", "shop"), None);
        assert!(pods.shared.assignments.lock().apps.is_empty());
    }

    #[test]
    fn the_name_stands_for_the_app_id_and_other_pods_do_not_count() {
        let pods = Pods::new();
        let apply =
            |event: Event<PartialObjectMeta<Pod>>| pods.shared.assignments.lock().apply(event);
        apply(Event::Apply(pod(
            "cart",
            &[("dapr.io/enabled", "y"), ("dapr.io/config", "c")],
        )));
        apply(Event::Apply(pod(
            "off",
            &[("dapr.io/enabled", "false"), ("dapr.io/config", "c")],
        )));
        assert_eq!(pods.configuration("n", "cart").as_deref(), Some("c"));
        assert_eq!(pods.configuration("n", "off"), None);
        apply(Event::Init);
        apply(Event::InitDone);
        assert_eq!(pods.configuration("n", "cart"), None);
    }
}
