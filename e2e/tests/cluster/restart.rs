//! Restarting the control plane disturbs nobody: running apps lose no request, and new pods get their sidecars.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;

use crate::apps::{Client, Namespace, containers};
use crate::installation::{SYSTEM, control_plane_alone};
use crate::kube::{kubectl, names, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rollout_restart_fails_no_request() {
    let (images, _alone) = control_plane_alone().await;
    let namespace = Namespace::create("restart", images).await;
    let redis = namespace.redis().await;
    namespace
        .component("store", "state.redis", &[("redisHost", &redis)])
        .await;
    namespace
        .component("events", "pubsub.redis", &[("redisHost", &redis)])
        .await;
    let callee = namespace.stock("callee").await;
    let caller = namespace.stock("caller").await;
    let load = Load::start(caller.sidecar().await);

    for deployment in ["dapr-sentry", "dapr-operator", "dapr-sidecar-injector"] {
        let before = load.done();
        let target = format!("deployment/{deployment}");
        kubectl(&["-n", SYSTEM, "rollout", "restart", &target]).await;
        // pods that are made meanwhile: each needs the injector, then sentry and the operator
        let app = format!("during-{deployment}");
        namespace.apply(namespace.stock_object(&app, 3)).await;
        kubectl(&["-n", SYSTEM, "rollout", "status", &target, "--timeout=180s"]).await;
        until("the old pod to be gone", 60, async || {
            let pods = names(&["-n", SYSTEM, "pods", "-l", &format!("app={deployment}")]).await;
            (pods.len() == 1).then_some(()).ok_or(format!("{pods:?}"))
        })
        .await;
        namespace.ready(&app).await;
        let pods = namespace.pods(&app).await;
        assert_eq!(pods.len(), 3);
        for pod in pods {
            assert_eq!(
                containers(&pod),
                ["app", "daprd"],
                "made while {deployment} restarted"
            );
        }
        namespace.apply(namespace.stock_object(&app, 0)).await;
        assert!(
            load.done() > before,
            "no request was made while {deployment} restarted"
        );
    }
    let (done, failures) = load.stop().await;
    assert!(
        failures.is_empty(),
        "{} of {done} requests failed, the first: {}",
        failures.len(),
        failures[0]
    );
    drop(callee);
    namespace.delete().await;
}

/// Requests of every kind, one after the other, until told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl Load {
    fn start(sidecar: Client) -> Self {
        let (stop, done) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopping, counting) = (stop.clone(), done.clone());
        #[allow(clippy::disallowed_methods, reason = "joined by stop()")]
        let task = tokio::spawn(async move {
            let mut failures = Vec::new();
            while !stopping.load(Ordering::Relaxed) {
                let number = counting.fetch_add(1, Ordering::Relaxed);
                let replies = [
                    (
                        "invoke",
                        200,
                        sidecar
                            .post("invoke/callee/method/echo", &json!({ "number": number }))
                            .await,
                    ),
                    (
                        "save",
                        204,
                        sidecar
                            .post(
                                "state/store",
                                &json!([{ "key": "number", "value": number }]),
                            )
                            .await,
                    ),
                    ("read", 200, sidecar.get("state/store/number").await),
                    (
                        "publish",
                        204,
                        sidecar
                            .post("publish/events/orders", &json!({ "number": number }))
                            .await,
                    ),
                ];
                for (what, expected, (status, said)) in replies {
                    if status != expected {
                        failures.push(format!("{what} {number}: {status} {said}"));
                    }
                }
            }
            failures
        });
        Self { stop, done, task }
    }

    fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// How many rounds there were, and what failed.
    async fn stop(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self.task.await.expect("the load");
        (self.done.load(Ordering::Relaxed), failures)
    }
}
