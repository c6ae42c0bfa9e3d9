//! A Kubernetes for programs that need one: an API server in this process, and the operator and the injector before it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kubernetes_fake::Fake;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::binaries::Binary;
use super::mesh::{Sentry, environment, shared};
use super::process::{self, Process};
use super::tls::TRUST_DOMAIN;

/// The API server. It stops when dropped.
pub(super) struct Cluster {
    pub fake: Fake,
    kubeconfig: PathBuf,
    _stop: DropGuard,
}

/// A program before it.
pub(super) struct Service {
    pub process: Process,
    pub ready: Duration,
    pub port: u16,
}

/// Where the namespace of the control plane is.
pub(super) const NAMESPACE: &str = "default";
pub(super) const CONFIGURATIONS: &str = "/apis/dapr.io/v1alpha1/configurations";
pub(super) const COMPONENTS: &str = "/apis/dapr.io/v1alpha1/components";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const REGISTRATIONS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

impl Cluster {
    /// Starts one with what an installation has; its sentry is `sentry`.
    pub fn start(folder: &Path, sentry: &Sentry) -> Result<Self> {
        let (fake, stop) = (Fake::new(), CancellationToken::new());
        let port = process::port()?;
        let (served, stopped) = (fake.clone(), stop.clone());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", port)))?;
        std::thread::spawn(move || {
            runtime.block_on(stopped.run_until_cancelled(served.listen(listener)));
        });
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "bench",
            "clusters": [{"name": "bench", "cluster": {"server": format!("http://127.0.0.1:{port}")}}],
            "users": [{"name": "bench", "user": {}}],
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        });
        let kubeconfig = folder.join("kubeconfig");
        std::fs::write(&kubeconfig, config.to_string())?;
        std::fs::write(folder.join("ca.crt"), &sentry.anchors)?;
        let mtls = json!({"mtls": {
            "enabled": true, "sentryAddress": sentry.address(), "controlPlaneTrustDomain": TRUST_DOMAIN,
        }});
        fake.put(
            CONFIGURATIONS,
            object("Configuration", NAMESPACE, "daprsystem", mtls),
        );
        fake.put(
            REGISTRATIONS,
            json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
                "metadata": {"name": "dapr-sidecar-injector"},
                "webhooks": [{"name": "sidecar-injector.dapr.io", "clientConfig": {
                    // Upstream's injector replaces it, which needs one to be there.
                    "caBundle": "Cg==",
                    "service": {"name": "dapr-sidecar-injector", "namespace": NAMESPACE, "path": "/mutate"},
                }}],
            }),
        );
        // Upstream's operator writes its address into one of them.
        for definition in crds::definitions::all() {
            fake.put(DEFINITIONS, definition.json);
        }
        Ok(Self {
            fake,
            kubeconfig,
            _stop: stop.drop_guard(),
        })
    }

    /// Starts the operator or the injector, with its files in `folder`, which has the anchors.
    pub fn service(&self, binary: &Binary, folder: &Path, sentry: &Sentry) -> Result<Service> {
        let (port, health) = (process::port()?, process::port()?);
        let anchors = folder.join("ca.crt").display().to_string();
        let mut args = shared(&[("port", port), ("healthz-port", health)])?;
        args.push("--healthz-listen-address=127.0.0.1".to_owned());
        args.push("--listen-address=127.0.0.1".to_owned());
        args.push(format!("--kubeconfig={}", self.kubeconfig.display()));
        let mut env = environment();
        // In a cluster programs want not to be root; who measures may be.
        env.insert(
            "DAPR_UNSAFE_SKIP_CONTAINER_UID_GID_CHECK".to_owned(),
            "true".to_owned(),
        );
        match binary.program.as_str() {
            "operator" => {
                // Upstream's finds the namespace of its Lease in a pod only.
                args.push("--disable-leader-election".to_owned());
                args.push(format!("--webhook-server-port={}", process::port()?));
                args.push("--webhook-server-listen-address=127.0.0.1".to_owned());
                args.push(format!("--trust-anchors-file={anchors}"));
            }
            "injector" => {
                for (name, value) in [
                    ("SIDECAR_IMAGE", "daprd:bench"),
                    ("KUBE_CLUSTER_DOMAIN", "cluster.local"),
                    ("DAPR_CONTROL_PLANE_TRUST_DOMAIN", TRUST_DOMAIN),
                    ("DAPR_SENTRY_ADDRESS", &sentry.address()),
                    ("DAPR_TRUST_ANCHORS_FILE", &anchors),
                ] {
                    env.insert(name.to_owned(), value.to_owned());
                }
            }
            other => bail!("{other} is started in no cluster: operator and injector are"),
        }
        let log = folder.join(format!("{}.log", binary.program));
        let mut process = Process::start(&binary.path, &args, &env, &log)?;
        let ready = process
            .ready(health, "/healthz")
            .with_context(|| format!("starting {}", binary.label))?;
        Ok(Service {
            process,
            ready,
            port,
        })
    }
}

/// An object of Dapr's first API version.
pub(super) fn object(kind: &str, namespace: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "dapr.io/v1alpha1", "kind": kind,
        "metadata": {"namespace": namespace, "name": name}, "spec": spec,
    })
}
