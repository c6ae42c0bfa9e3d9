//! How many reviews the injector answers, and how long one takes, over connections that are open already.

use anyhow::Result;
use http::Method;
use serde_json::{Value, json};

use super::binaries::{self, Binary};
use super::calls::Target;
use super::cluster::{Cluster, NAMESPACE};
use super::rounds::{Contestant, Rounds};
use super::{load, mesh, tls};

/// Flags of the bench.
#[derive(Default, clap::Args)]
pub(super) struct Arguments {
    /// What to measure, as injector=path or label:injector=path; repeatable, measured in turn [default: our injector]
    #[arg(long = "binary")]
    binaries: Vec<String>,
    /// The sentry that gives it its certificate, as sentry=path [default: ours]
    #[arg(long)]
    sentry: Option<String>,
    #[command(flatten)]
    rounds: Rounds,
}

/// Measures and prints.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    load::precise_timers();
    let sentry = binaries::one(arguments.sentry.as_deref(), "sentry")?;
    let binaries = binaries::several(&arguments.binaries, "injector")?;
    let sites = binaries.iter().map(|binary| start(binary, &sentry));
    let sites = sites.collect::<Result<Vec<_>>>()?;
    arguments
        .rounds
        .run("injector, reviews of annotated pods", &sites)
}

fn start(binary: &Binary, sentry: &Binary) -> Result<Contestant> {
    let folder = tempfile::Builder::new().prefix("dapr-bench-").tempdir()?;
    let sentry = mesh::sentry(sentry, folder.path(), "")?;
    let cluster = Cluster::start(folder.path(), &sentry)?;
    let service = cluster.service(binary, folder.path(), &sentry)?;
    let target = Target::http(service.port, Method::POST, "/mutate", "application/json");
    let target = target.body(review().to_string());
    Ok(Contestant {
        label: binary.label.clone(),
        // A sidecar is in it, or the answer would be shorter.
        target: target
            .tls(tls::client(None, b"http/1.1")?)
            .answers(2000..=256 << 10),
        process: service.process,
        _alive: Box::new((sentry, cluster, folder)),
    })
}

/// The review of a pod as a Deployment's controller makes it.
fn review() -> Value {
    let annotations = json!({
        "dapr.io/enabled": "true", "dapr.io/app-id": "shop", "dapr.io/app-port": "8080",
        "dapr.io/config": "tracing", "dapr.io/log-as-json": "true",
        "dapr.io/sidecar-cpu-request": "100m", "dapr.io/sidecar-memory-limit": "128Mi",
    });
    let container = json!({
        "name": "app", "image": "registry.example/shop:1.2.3", "ports": [{"containerPort": 8080}],
        "env": [{"name": "LEVEL", "value": "info"}, {"name": "REGION", "value": "west"}],
        "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true}],
    });
    json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "0df28fbd-5f5f-11e8-bc74-36e6bb280816",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": NAMESPACE, "operation": "CREATE",
            "userInfo": {
                "username": "system:serviceaccount:kube-system:replicaset-controller",
                "groups": ["system:serviceaccounts", "system:masters"],
            },
            "object": {
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"generateName": "shop-5d9-", "labels": {"app": "shop"}, "annotations": annotations},
                "spec": {"containers": [container], "serviceAccountName": "default", "volumes": []},
            },
        },
    })
}
