//! Which Configuration an app's pods ask for, from their annotations. A sidecar does not say it about itself:
//! it would be told about Configurations that are not its own. Only metadata of pods is watched, and only what
//! is needed of it is kept.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::api::PartialObjectMeta;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use values::is_truthy;

use crate::annotations;
use crate::cluster::Cluster;
use crate::watch::{News, follow};

/// The handle. Cheap to clone.
#[derive(Clone)]
pub struct Pods {
    shared: Arc<Shared>,
}

struct Shared {
    assignments: Mutex<Assignments>,
    complete: watch::Sender<bool>,
}

/// Namespace and name of a pod.
type Key = (String, String);

/// What is known of the pods that have a sidecar and ask for a Configuration.
#[derive(Default)]
struct Assignments {
    /// By namespace and app id: pods, and the Configuration each asks for. Ordered, so that the answer does not
    /// change without a reason.
    apps: HashMap<(String, String), BTreeMap<String, String>>,
    pods: HashMap<Key, String>,
    listing: HashSet<Key>,
    complete: bool,
}

impl Pods {
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                assignments: Mutex::default(),
                complete: watch::Sender::new(false),
            }),
        }
    }

    /// Watches pods until shutdown.
    pub async fn run(self, cluster: Cluster, shutdown: CancellationToken) -> anyhow::Result<()> {
        let api = cluster.watched::<PartialObjectMeta<Pod>>();
        follow("pods", api, None, &shutdown, |news| {
            let mut assignments = self.shared.assignments.lock();
            assignments.apply(news);
            if assignments.complete {
                self.shared
                    .complete
                    .send_if_modified(|complete| !std::mem::replace(complete, true));
            }
        })
        .await;
        Ok(())
    }

    /// Waits until all pods are known.
    pub async fn complete(&self) {
        let mut complete = self.shared.complete.subscribe();
        let _ = complete.wait_for(|complete| *complete).await;
    }

    /// The name of the Configuration an app asks for. During a rollout not all pods may: the first that does counts.
    pub fn configuration(&self, namespace: &str, app_id: &str) -> Option<String> {
        let assignments = self.shared.assignments.lock();
        let key = (namespace.to_owned(), app_id.to_owned());
        assignments.apps.get(&key)?.values().next().cloned()
    }
}

impl Assignments {
    fn apply(&mut self, news: News<PartialObjectMeta<Pod>>) {
        match news {
            News::Listing => self.listing.clear(),
            News::Listed(pod) => {
                self.listing.insert(key(&pod));
                self.put(&pod);
            }
            News::Complete | News::UnknownKind => {
                let listed = std::mem::take(&mut self.listing);
                let gone: Vec<_> = self
                    .pods
                    .keys()
                    .filter(|key| !listed.contains(*key))
                    .cloned()
                    .collect();
                for key in gone {
                    self.remove(&key);
                }
                self.complete = true;
            }
            News::Applied(pod) => self.put(&pod),
            News::Deleted(pod) => self.remove(&key(&pod)),
        }
    }

    fn put(&mut self, pod: &PartialObjectMeta<Pod>) {
        let key = key(pod);
        self.remove(&key);
        let annotation = |name: &str| {
            let value = pod.metadata.annotations.as_ref()?.get(name)?;
            Some(value.clone()).filter(|value| !value.is_empty())
        };
        let enabled = annotation(annotations::ENABLED).is_some_and(|value| is_truthy(&value));
        let Some(configuration) = annotation(annotations::CONFIG).filter(|_| enabled) else {
            return;
        };
        let app_id = annotation(annotations::APP_ID).unwrap_or_else(|| key.1.clone());
        self.apps
            .entry((key.0.clone(), app_id.clone()))
            .or_default()
            .insert(key.1.clone(), configuration);
        self.pods.insert(key, app_id);
    }

    fn remove(&mut self, key: &Key) {
        let Some(app_id) = self.pods.remove(key) else {
            return;
        };
        let app = (key.0.clone(), app_id);
        if let Some(pods) = self.apps.get_mut(&app) {
            pods.remove(&key.1);
            if pods.is_empty() {
                self.apps.remove(&app);
            }
        }
    }
}

fn key(pod: &PartialObjectMeta<Pod>) -> Key {
    let metadata = &pod.metadata;
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let apply = |news| pods.shared.assignments.lock().apply(news);
        let app = [("dapr.io/enabled", "true"), ("dapr.io/app-id", "shop")];
        let with = |config| [app[0], app[1], ("dapr.io/config", config)];
        apply(News::Listing);
        apply(News::Listed(pod("a", &app)));
        apply(News::Listed(pod("b", &with("one"))));
        apply(News::Complete);
        assert_eq!(pods.configuration("n", "shop").as_deref(), Some("one"));
        assert_eq!(pods.configuration("m", "shop"), None);
        apply(News::Applied(pod("a", &with("two"))));
        assert_eq!(pods.configuration("n", "shop").as_deref(), Some("two"));
        apply(News::Deleted(pod("a", &[])));
        apply(News::Applied(pod("b", &app)));
        assert_eq!(pods.configuration("n", "shop"), None);
        assert!(pods.shared.assignments.lock().apps.is_empty());
    }

    #[test]
    fn the_name_stands_for_the_app_id_and_other_pods_do_not_count() {
        let pods = Pods::new();
        let apply = |news| pods.shared.assignments.lock().apply(news);
        apply(News::Applied(pod(
            "cart",
            &[("dapr.io/enabled", "y"), ("dapr.io/config", "c")],
        )));
        apply(News::Applied(pod(
            "off",
            &[("dapr.io/enabled", "false"), ("dapr.io/config", "c")],
        )));
        assert_eq!(pods.configuration("n", "cart").as_deref(), Some("c"));
        assert_eq!(pods.configuration("n", "off"), None);
        apply(News::Listing);
        apply(News::Complete);
        assert_eq!(pods.configuration("n", "cart"), None);
    }
}
