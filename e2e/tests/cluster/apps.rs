//! Namespaces and apps of a test: the sample app of `demo/` under a sidecar, spoken to through port-forwards.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::installation::{Images, repository, restricted};
use crate::kube::{Forward, apply, get, kubectl, until};

const TIMEOUT: Duration = Duration::from_secs(20);

/// A namespace that admits `restricted` pods only.
pub struct Namespace {
    pub name: String,
    images: &'static Images,
}

impl Namespace {
    pub async fn create(purpose: &str, images: &'static Images) -> Self {
        // a process has each purpose once
        let name = format!("{purpose}-{:x}", std::process::id());
        apply(&restricted(&name).to_string()).await;
        Self { name, images }
    }

    /// Applies an object in this namespace.
    pub async fn apply(&self, object: Value) {
        apply(&self.place(object).to_string()).await;
    }

    /// The object with this namespace in its metadata.
    pub fn place(&self, mut object: Value) -> Value {
        object["metadata"]["namespace"] = json!(self.name);
        object
    }

    /// A Redis of the test's own; returns its address.
    pub async fn redis(&self) -> String {
        let path = repository().join("demo/manifests/1-redis.yaml");
        let manifest = std::fs::read_to_string(&path).expect("the demo's Redis");
        apply(&manifest.replace("dapr-demo", &self.name)).await;
        kubectl(&[
            "-n",
            &self.name,
            "rollout",
            "status",
            "deployment/redis",
            "--timeout=60s",
        ])
        .await;
        format!("redis.{}.svc.cluster.local:6379", self.name)
    }

    /// Applies a Component.
    pub async fn component(&self, name: &str, kind: &str, settings: &[(&str, &str)]) {
        self.apply(component(name, kind, settings)).await;
    }

    /// Starts a stock with a sidecar and waits until both are ready.
    pub async fn stock(&self, app_id: &str) -> App<'_> {
        self.apply(self.stock_object(app_id, 1)).await;
        self.ready(app_id).await
    }

    /// The Deployment of a stock, as a user would write it.
    pub fn stock_object(&self, app_id: &str, replicas: u32) -> Value {
        let pod = self.stock_pod(&json!({
            "dapr.io/enabled": "true",
            "dapr.io/app-id": app_id,
            "dapr.io/app-port": "8080",
            "dapr.io/log-level": "debug",
        }));
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": app_id },
            "spec": {
                "replicas": replicas,
                "selector": { "matchLabels": { "app": app_id } },
                "template": { "metadata": { "labels": { "app": app_id }, "annotations": pod["metadata"]["annotations"] }, "spec": pod["spec"] },
            },
        })
    }

    /// A pod of the stock's, with these annotations.
    pub fn stock_pod(&self, annotations: &Value) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "annotations": annotations },
            "spec": {
                "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
                "containers": [{
                    "name": "app",
                    "image": self.images.name("sample"),
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["/sample", "stock"],
                    "readinessProbe": { "httpGet": { "path": "/healthz", "port": 8080 }, "periodSeconds": 1 },
                    "securityContext": { "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] } },
                }],
            },
        })
    }

    /// Waits for a Deployment's pods.
    pub async fn ready(&self, app_id: &str) -> App<'_> {
        kubectl(&[
            "-n",
            &self.name,
            "rollout",
            "status",
            &format!("deployment/{app_id}"),
            "--timeout=120s",
        ])
        .await;
        let pod = until("a ready pod", 60, async || {
            let pods = self.pods(app_id).await;
            pods.into_iter()
                .find(is_ready)
                .ok_or_else(|| format!("{app_id} has none"))
        })
        .await;
        let pod = pod["metadata"]["name"]
            .as_str()
            .expect("a pod has a name")
            .to_owned();
        App {
            namespace: self,
            pod,
        }
    }

    /// The pods of an app that are not being deleted.
    pub async fn pods(&self, app_id: &str) -> Vec<Value> {
        let list = get(&["-n", &self.name, "pods", "-l", &format!("app={app_id}")]).await;
        let pods = list["items"].as_array().expect("a list").clone();
        pods.into_iter()
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            .collect()
    }

    /// Deletes the namespace; a test that fails before leaves it to be looked at.
    pub async fn delete(self) {
        kubectl(&["delete", "namespace", &self.name, "--wait=false"]).await;
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("namespace {} is left as it was:", self.name);
            show(&["get", "pods", "-o", "wide"], &self.name);
            show(&["get", "events", "--sort-by=.lastTimestamp"], &self.name);
            show(
                &[
                    "logs",
                    "-l",
                    "dapr.io/sidecar-injected=true",
                    "-c",
                    "daprd",
                    "--tail=60",
                    "--prefix",
                ],
                &self.name,
            );
        }
    }
}

/// Best effort: the test has failed already.
fn show(args: &[&str], namespace: &str) {
    if let Ok(output) = Command::new("kubectl")
        .args(["-n", namespace])
        .args(args)
        .output()
    {
        eprintln!(
            "kubectl {}\n{}",
            args.join(" "),
            String::from_utf8_lossy(&output.stdout)
        );
    }
}

pub fn component(name: &str, kind: &str, settings: &[(&str, &str)]) -> Value {
    let settings: Vec<Value> = settings
        .iter()
        .map(|(name, value)| json!({ "name": name, "value": value }))
        .collect();
    json!({
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "Component",
        "metadata": { "name": name },
        "spec": { "type": kind, "version": "v1", "metadata": settings },
    })
}

pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| {
        all.iter()
            .any(|one| one["type"] == "Ready" && one["status"] == "True")
    })
}

/// The names of a pod's containers, sidecars that are init containers included.
pub fn containers(pod: &Value) -> Vec<&str> {
    let lists = [&pod["spec"]["initContainers"], &pod["spec"]["containers"]];
    lists
        .into_iter()
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(|one| one["name"].as_str())
        .collect()
}

/// A running app and its pod.
pub struct App<'a> {
    pub namespace: &'a Namespace,
    pub pod: String,
}

impl App<'_> {
    /// The sidecar's HTTP API.
    pub async fn sidecar(&self) -> Client {
        self.client(3500, "v1.0/").await
    }

    /// The app itself, past its sidecar.
    pub async fn direct(&self) -> Client {
        self.client(8080, "").await
    }

    async fn client(&self, port: u16, root: &str) -> Client {
        let forward = self.forward(port).await;
        let base = format!("http://127.0.0.1:{}/{root}", forward.port);
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(TIMEOUT)
            .build()
            .expect("a client");
        Client {
            http,
            base,
            _forward: forward,
        }
    }

    pub async fn forward(&self, port: u16) -> Forward {
        Forward::open(&self.namespace.name, &self.pod, port).await
    }
}

/// HTTP to one port of one pod.
pub struct Client {
    http: reqwest::Client,
    base: String,
    _forward: Forward,
}

/// Status and body; the body is a JSON string if it is not JSON, and null if there is none.
pub type Reply = (u16, Value);

impl Client {
    pub async fn get(&self, path: &str) -> Reply {
        self.send(self.http.get(format!("{}{path}", self.base)))
            .await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        let request = self
            .http
            .post(format!("{}{path}", self.base))
            .header("content-type", "application/json");
        self.send(request.body(body.to_string())).await
    }

    /// A request that got no answer at all has status 0.
    async fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        let answer = async {
            let reply = request.send().await?;
            let status = reply.status().as_u16();
            Ok::<_, reqwest::Error>((status, reply.text().await?))
        };
        match answer.await {
            Ok((status, text)) if text.is_empty() => (status, Value::Null),
            Ok((status, text)) => (
                status,
                serde_json::from_str(&text).unwrap_or(Value::String(text)),
            ),
            Err(error) => (0, json!(format!("{error:?}"))),
        }
    }
}
