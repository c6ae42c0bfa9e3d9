//! The injector as a process, before the fake API server.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::cluster::{Cluster, NAMESPACE};
use crate::http::{Client, Reply};
use crate::mesh::Identity;
use crate::process::{self, Options};
use crate::service::{Service, is_service};
use crate::{Sentry, ports};

/// The collection of its registration.
pub const REGISTRATIONS: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
/// The name of its registration, and of its Service.
pub const NAME: &str = "dapr-sidecar-injector";

/// How the injector is started.
pub struct Builder {
    args: Vec<String>,
    env: BTreeMap<String, String>,
    anchors: String,
}

impl Builder {
    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// An environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Starts it and waits until it is ready.
    pub async fn start(self, cluster: &Cluster) -> Injector {
        let dir = process::folder("injector");
        let [port, metrics, health] = ports::several().map(ports::Reserved::release);
        let anchors = dir.path().join("ca.crt");
        std::fs::write(&anchors, &self.anchors).expect("the folder is ours");
        let mut args = vec![format!(
            "-kubeconfig={}",
            cluster.kubeconfig(dir.path()).display()
        )];
        args.extend(self.args);
        let mut env = self.env;
        env.insert(
            "DAPR_TRUST_ANCHORS_FILE".to_owned(),
            anchors.display().to_string(),
        );
        let ports = [port, metrics, health];
        let options = Options {
            program: "injector",
            args,
            env,
            ..Options::default()
        };
        Injector {
            service: Service::start(options, dir, ports).await,
            anchors: self.anchors,
        }
    }
}

/// A running injector.
pub struct Injector {
    service: Service,
    anchors: String,
}

is_service!(Injector);

impl Injector {
    /// An injector whose certificate comes from `sentry`.
    pub fn builder(sentry: &Sentry) -> Builder {
        let env = [
            ("NAMESPACE", NAMESPACE),
            ("SIDECAR_IMAGE", "daprd:test"),
            ("KUBE_CLUSTER_DOMAIN", "cluster.local"),
            ("DAPR_CONTROL_PLANE_TRUST_DOMAIN", sentry.trust_domain()),
            ("DAPR_SENTRY_ADDRESS", &sentry.address()),
        ];
        Builder {
            args: Vec::new(),
            env: env
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            anchors: sentry.anchors_pem(),
        }
    }

    /// The webhook as an API server reaches it: by the name of its Service, trusting the anchors, and showing `identity` if
    /// it is asked who it is.
    pub fn webhook(&self, identity: Option<&Identity>) -> Client {
        let name = format!("{NAME}.{NAMESPACE}.svc");
        Client::tls(&name, self.port(), &self.anchors, identity)
    }

    /// The answer to the review of a pod that a controller makes.
    pub async fn review(&self, namespace: &str, pod: &Value) -> Reply {
        self.webhook(None)
            .post("/mutate", &review(namespace, pod))
            .await
    }
}

/// The registration as the chart leaves it, whose `caBundle` is for the injector to write.
pub fn registration() -> Value {
    let service = json!({"name": NAME, "namespace": NAMESPACE, "path": "/mutate"});
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": NAME},
        "webhooks": [{"name": "sidecar-injector.dapr.io", "clientConfig": {"service": service}}],
    })
}

/// The review of a pod that a controller makes.
pub fn review(namespace: &str, pod: &Value) -> Value {
    json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "u-1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "namespace": namespace,
            "operation": "CREATE", "object": pod,
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
        },
    })
}

/// A pod of one container with these annotations, each without its prefix.
pub fn pod(name: &str, annotations: &[(&str, &str)]) -> Value {
    let annotations: BTreeMap<String, &str> = annotations
        .iter()
        .map(|(name, value)| (format!("dapr.io/{name}"), *value))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": annotations},
        "spec": {"containers": [{"name": "app", "image": "app:test"}]},
    })
}

/// The patch in an answer; empty if there is none.
pub fn patch(answer: &Value) -> Vec<Value> {
    let Some(text) = answer["response"]["patch"].as_str() else {
        return Vec::new();
    };
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .expect("a patch is base64");
    serde_json::from_slice(&bytes).expect("a patch is a list")
}

/// The sidecar that an answer adds, if it adds one.
pub fn sidecar(answer: &Value) -> Option<Value> {
    let added = patch(answer).into_iter().map(|step| step["value"].clone());
    added.into_iter().find(|value| value["name"] == "daprd")
}
