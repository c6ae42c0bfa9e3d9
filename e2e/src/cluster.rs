//! The API server of a Kubernetes cluster, in this process and on a port of its own: real programs connect to it with the
//! kubeconfig they are given, and the test says what goes wrong with it.

use std::path::{Path, PathBuf};

use kubernetes_fake::Fake;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::{Sentry, ports, serve, wait};

/// The namespace of the control plane: that of the identities which the test's sentry signs by itself.
pub const NAMESPACE: &str = "default";

/// Where Configurations are.
pub const CONFIGURATIONS: &str = "/apis/dapr.io/v1alpha1/configurations";

/// An API server that listens.
pub struct Cluster {
    fake: Fake,
    port: u16,
    served: Option<(DropGuard, TaskTracker)>,
}

impl Cluster {
    /// An API server without objects, on a port of its own.
    pub async fn start() -> Self {
        let mut cluster = Self {
            fake: Fake::new(),
            port: ports::reserve().release(),
            served: None,
        };
        cluster.come_back().await;
        cluster
    }

    /// What it holds, and what goes wrong with it.
    pub fn fake(&self) -> &Fake {
        &self.fake
    }

    /// Puts the Configuration of the control plane there, which names `sentry`.
    pub fn put_configuration(&self, sentry: &Sentry, mtls: bool) {
        let spec = json!({"mtls": {
            "enabled": mtls, "sentryAddress": sentry.address(), "controlPlaneTrustDomain": sentry.trust_domain(),
        }});
        self.fake.put(
            CONFIGURATIONS,
            object("Configuration", NAMESPACE, "daprsystem", spec),
        );
    }

    /// Stops listening and breaks all connections, as a server does that goes down. What it holds stays.
    pub async fn go_down(&mut self) {
        if let Some((stop, tasks)) = self.served.take() {
            drop(stop);
            tasks.close();
            wait::within("the API server to go down", wait::DEADLINE, tasks.wait()).await;
        }
    }

    /// Listens, on the port it had before.
    pub async fn come_back(&mut self) {
        let listener = serve::listen(self.port).await;
        let (fake, stop, tasks) = (
            self.fake.clone(),
            CancellationToken::new(),
            TaskTracker::new(),
        );
        let stopped = stop.clone();
        tasks.spawn(async move {
            stopped.run_until_cancelled(fake.listen(listener)).await;
        });
        self.served = Some((stop.drop_guard(), tasks));
    }

    /// Writes a kubeconfig that names it into `folder`.
    pub fn kubeconfig(&self, folder: &Path) -> PathBuf {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://127.0.0.1:{}", self.port)}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        let path = folder.join("kubeconfig");
        std::fs::write(&path, config.to_string()).expect("the folder is ours");
        path
    }
}

/// An object of Dapr's first API version.
pub fn object(kind: &str, namespace: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "dapr.io/v1alpha1", "kind": kind,
        "metadata": {"namespace": namespace, "name": name}, "spec": spec,
    })
}
