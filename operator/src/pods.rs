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

/// Namespace and app id.
type App = (String, String);

/// What is known of the pods that have a sidecar and ask for a Configuration.
#[derive(Default)]
struct Assignments {
    store: Store<Assignment>,
    /// By namespace and app id: pods, and the Configuration each asks for. Ordered, so that the answer does not
    /// change without a reason.
    apps: HashMap<App, BTreeMap<String, String>>,
    /// Who wants to know what an app asks for.
    followed: HashMap<App, watch::Sender<Option<String>>>,
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
        reflector.run(&shutdown, |signal| self.apply(signal)).await;
        Ok(())
    }

    pub fn apply(&self, signal: impl Into<Signal<PartialObjectMeta<Pod>>>) {
        let mut assignments = self.shared.assignments.lock();
        assignments.apply(signal);
        let known = assignments.store.is_known();
        drop(assignments);
        if known {
            let set = |known: &mut bool| !std::mem::replace(known, true);
            self.shared.known.send_if_modified(set);
        }
    }

    /// Waits until all pods are known.
    pub async fn known(&self) {
        let mut known = self.shared.known.subscribe();
        let _ = known.wait_for(|known| *known).await;
    }

    /// The name of the Configuration an app asks for, now and from now on. During a rollout not all pods may: the first that
    /// does counts.
    pub fn follow(&self, namespace: &str, app_id: &str) -> Following {
        let app = (namespace.to_owned(), app_id.to_owned());
        let mut assignments = self.shared.assignments.lock();
        let name = assignments.configuration(&app);
        let followed = assignments.followed.entry(app.clone());
        let name = followed
            .or_insert_with(|| watch::Sender::new(name))
            .subscribe();
        Following {
            pods: self.clone(),
            app,
            name,
        }
    }
}

/// What an app asks for, for as long as somebody wants to know.
pub struct Following {
    pods: Pods,
    app: App,
    name: watch::Receiver<Option<String>>,
}

impl Following {
    /// The name of the Configuration, as it is now.
    pub fn name(&mut self) -> Option<String> {
        self.name.borrow_and_update().clone()
    }

    /// Waits until it may be another one.
    pub async fn changed(&mut self) {
        // The sender stays for as long as it is followed.
        let _ = self.name.changed().await;
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let followed = &mut self.pods.shared.assignments.lock().followed;
        if followed
            .get(&self.app)
            .is_some_and(|name| name.receiver_count() <= 1)
        {
            followed.remove(&self.app);
        }
    }
}

impl Assignments {
    fn configuration(&self, app: &App) -> Option<String> {
        self.apps.get(app)?.values().next().cloned()
    }

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
            for assignment in [&change.old, &change.new].into_iter().flatten() {
                let app = app(assignment);
                if let Some(followed) = self.followed.get(&app) {
                    let name = self.configuration(&app);
                    followed.send_if_modified(|told| {
                        let changed = *told != name;
                        told.clone_from(&name);
                        changed
                    });
                }
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
        let apply = |event: Event<PartialObjectMeta<Pod>>| pods.apply(event);
        let configuration = |namespace, app_id| pods.follow(namespace, app_id).name();
        let app = [("dapr.io/enabled", "true"), ("dapr.io/app-id", "shop")];
        let with = |config| [app[0], app[1], ("dapr.io/config", config)];
        apply(Event::Init);
        apply(Event::InitApply(pod("a", &app)));
        apply(Event::InitApply(pod("b", &with("one"))));
        apply(Event::InitDone);
        assert_eq!(configuration("n", "shop").as_deref(), Some("one"));
        assert_eq!(configuration("m", "shop"), None);
        apply(Event::Apply(pod("a", &with("two"))));
        assert_eq!(configuration("n", "shop").as_deref(), Some("two"));
        apply(Event::Delete(pod("a", &[])));
        apply(Event::Apply(pod("b", &app)));
        assert_eq!(configuration("n", "shop"), None);
        let assignments = pods.shared.assignments.lock();
        assert!(assignments.apps.is_empty() && assignments.followed.is_empty());
    }

    #[tokio::test]
    async fn a_pod_that_comes_later_is_heard_of_and_others_are_not() {
        let pods = Pods::new();
        let mut following = pods.follow("n", "cart");
        assert_eq!(following.name(), None);
        let enabled = ("dapr.io/enabled", "true");
        pods.apply(Event::Apply(pod(
            "other",
            &[enabled, ("dapr.io/config", "x")],
        )));
        assert!(!following.name.has_changed().expect("a sender"));
        pods.apply(Event::Apply(pod(
            "cart",
            &[enabled, ("dapr.io/config", "c")],
        )));
        following.changed().await;
        assert_eq!(following.name().as_deref(), Some("c"));
    }

    #[test]
    fn the_name_stands_for_the_app_id_and_other_pods_do_not_count() {
        let pods = Pods::new();
        let apply = |event: Event<PartialObjectMeta<Pod>>| pods.apply(event);
        let configuration = |namespace, app_id| pods.follow(namespace, app_id).name();
        apply(Event::Apply(pod(
            "cart",
            &[("dapr.io/enabled", "y"), ("dapr.io/config", "c")],
        )));
        apply(Event::Apply(pod(
            "off",
            &[("dapr.io/enabled", "false"), ("dapr.io/config", "c")],
        )));
        assert_eq!(configuration("n", "cart").as_deref(), Some("c"));
        assert_eq!(configuration("n", "off"), None);
        apply(Event::Init);
        apply(Event::InitDone);
        assert_eq!(configuration("n", "cart"), None);
    }
}
