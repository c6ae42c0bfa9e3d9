//! Every fixture of values starts, and serves an app: one release after the other, each changed into the next, as users change
//! theirs. It has the control plane alone, and puts it back as it was.

use std::time::Instant;

use e2e::ca::Ca;
use serde_json::{Value, json};

use crate::apps::{Namespace, containers};
use crate::installation::{
    SYSTEM, control_plane_alone, install, install_with, repository, uninstall,
};
use crate::kube::{apply, get, helm, kubectl, names, run, took, try_kubectl, until};
use crate::render::{arguments, render_with, the};

const HARDENED: &str = "charts/dapr/hardened.yaml";
const AVAILABLE: &str = "e2e/tests/cluster/values/available.yaml";
const EVERYTHING: &str = "e2e/tests/cluster/values/everything.yaml";
const NAMESPACED: &str = "e2e/tests/cluster/values/namespaced.yaml";

fn values(file: &str) -> String {
    let path = repository().join(file);
    path.to_str().expect("a path in UTF-8").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fixture_of_values_starts() {
    let (images, _alone) = control_plane_alone().await;
    let namespace = Namespace::create("boot", images).await;
    let root = bundle("ca.crt").await;

    let members = images.members();
    let members = members.unwrap_or_else(|| {
        ["--set", "dapr_scheduler.etcd.enabled=false"]
            .map(str::to_owned)
            .into()
    });
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    install_with(
        SYSTEM,
        &[&["-f", &values(AVAILABLE)], &members[..]].concat(),
    )
    .await;
    for deployment in ["dapr-operator", "dapr-sentry", "dapr-sidecar-injector"] {
        let status = get(&["-n", SYSTEM, "deployment", deployment]).await;
        assert_eq!(status["status"]["readyReplicas"], 3, "{deployment}");
    }
    namespace.stock("available").await;

    install_with(SYSTEM, &[&["-f", &values(HARDENED)], &members[..]].concat()).await;
    namespace.stock("hardened").await;
    assert_eq!(
        bundle("ca.crt").await,
        root,
        "an upgrade keeps the authority"
    );

    let (own, folder) = (
        Ca::new("cluster.local"),
        tempfile::tempdir().expect("a folder"),
    );
    own.write(folder.path());
    let place = folder.path().display();
    let root_of_own = format!("dapr_sentry.tls.root.certPEM={place}/ca.crt");
    let chain = format!("dapr_sentry.tls.issuer.certPEM={place}/issuer.crt");
    let key = format!("dapr_sentry.tls.issuer.keyPEM={place}/issuer.key");
    let files = [
        "--set-file",
        &root_of_own,
        "--set-file",
        &chain,
        "--set-file",
        &key,
    ];
    install_with(SYSTEM, &[&["-f", &values(EVERYTHING)][..], &files].concat()).await;
    assert_eq!(bundle("root.pem").await, own.anchors_pem());
    asking_pod_is_injected(&namespace).await;
    // Whoever leaves the files out of a later upgrade has not asked for another authority.
    install_with(SYSTEM, &["-f", &values(EVERYTHING)]).await;
    assert_eq!(bundle("root.pem").await, own.anchors_pem());

    install().await;
    assert_eq!(
        bundle("ca.crt").await,
        root,
        "the first authority is there again"
    );
    let began = Instant::now();
    helm(&["test", "dapr", "-n", SYSTEM, "--timeout", "120s"]).await;
    took("helm test", began);
    let began = Instant::now();
    namespace.stock("default").await;
    took("an app with a sidecar is ready", began);
    let began = Instant::now();
    namespace.apply(namespace.stock_object("ten", 10)).await;
    // as long as a machine that compiles beside it may need
    let rollout = ["rollout", "status", "deployment/ten", "--timeout=300s"];
    kubectl(&[&["-n", &namespace.name][..], &rollout].concat()).await;
    took("ten replicas of an app are ready", began);
    namespace.delete().await;
}

/// The namespace is labelled and the pod as well, as the fixture's selectors ask; its sidecar gets a certificate of the
/// authority that came with the values.
async fn asking_pod_is_injected(namespace: &Namespace) {
    // the fixture's sidecars keep their capabilities
    let enforced = "pod-security.kubernetes.io/enforce-";
    kubectl(&["label", "namespace", &namespace.name, "dapr=yes", enforced]).await;
    let mut app = namespace.stock_object("everything", 1);
    app["spec"]["template"]["metadata"]["labels"]["dapr"] = json!("yes");
    namespace.apply(app).await;
    namespace.ready("everything").await;
    let pod = &namespace.pods("everything").await[0];
    assert_eq!(containers(pod), ["daprd", "app"], "a native sidecar");
}

/// The trust bundle that pods mount, once it is written.
async fn bundle(key: &str) -> String {
    until("the trust bundle", 60, async || {
        let map = get(&["-n", SYSTEM, "configmap", "dapr-trust-bundle"]).await;
        let text = map["data"][key].as_str().map(str::to_owned);
        text.ok_or_else(|| format!("{map}"))
    })
    .await
}

/// Installed by somebody who may touch two namespaces and three objects beside them; apps of other namespaces are not its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespaced_installation_serves_its_namespace_and_no_other() {
    let (images, _alone) = control_plane_alone().await;
    uninstall(SYSTEM).await;
    let apps = Namespace::create("within", images).await;
    let elsewhere = Namespace::create("without", images).await;
    let watched = format!("global.rbac.watchNamespace={}", apps.name);
    let own = format!("own-{:x}", std::process::id());

    let began = Instant::now();
    install_with(&own, &["-f", &values(NAMESPACED), "--set", &watched]).await;
    took("helm install --wait, namespaced", began);
    apps.component("store", "state.in-memory", &[]).await;
    let app = apps.stock("inside").await;
    let sidecar = app.sidecar().await;
    let item = json!([{ "key": "k", "value": 1 }]);
    assert_eq!(
        sidecar.post("state/store", &item).await.0,
        204,
        "the operator gave it its component"
    );
    until("the app's Service", 30, async || {
        let services = names(&["-n", &apps.name, "services"]).await;
        let made = services == ["service/inside-dapr"];
        made.then_some(()).ok_or(format!("{services:?}"))
    })
    .await;
    let outside = elsewhere.place(elsewhere.stock_object("outside", 1));
    run("kubectl", &["apply", "-f", "-"], &outside.to_string())
        .await
        .expect("an app elsewhere");
    elsewhere.ready("outside").await;
    assert_eq!(containers(&elsewhere.pods("outside").await[0]), ["app"]);
    only_sentry_reads_the_key(&own).await;

    uninstall(&own).await;
    let left = names(&["-n", &apps.name, "services"]).await;
    assert!(left.is_empty(), "{left:?}");
    kubectl(&["delete", "namespace", &own, "--wait=false"]).await;
    apps.delete().await;
    elsewhere.delete().await;
    install().await;
}

async fn only_sentry_reads_the_key(namespace: &str) {
    for (account, may) in [
        ("dapr-sentry", true),
        ("dapr-operator", false),
        ("dapr-injector", false),
        ("dapr-placement", false),
        ("dapr-scheduler", false),
        ("default", false),
    ] {
        let user = format!("system:serviceaccount:{namespace}:{account}");
        let question = [
            "auth",
            "can-i",
            "get",
            "secret/dapr-trust-bundle",
            "-n",
            namespace,
        ];
        let answer = try_kubectl(&[&question[..], &["--as", &user]].concat()).await;
        assert_eq!(answer.is_ok(), may, "{account}: {answer:?}");
    }
}

/// What the hook before an upgrade applies, applied as it applies it: the definitions are those of the chart, and Subscriptions
/// are converted as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_of_the_definitions_keeps_the_conversion() {
    let (_, _alone) = control_plane_alone().await;
    let conversion = async || {
        let definition = get(&["crd", "subscriptions.dapr.io"]).await;
        definition["spec"]["conversion"].clone()
    };
    let before = conversion().await;
    let client = &before["webhook"]["clientConfig"];
    assert_eq!(client["service"]["namespace"], SYSTEM, "{before}");
    assert!(client["caBundle"].is_string(), "{before}");

    let values = "global: {crds: {upgradeImage: kubectl:1}}";
    let objects = render_with(values, &["--is-upgrade"]).await;
    let definitions = the(&objects, "ConfigMap", "dapr-crds")["data"]
        .as_object()
        .expect("definitions");
    assert_eq!(definitions.len(), 7);
    let all: Vec<&str> = definitions.values().filter_map(Value::as_str).collect();
    let job = the(&objects, "Job", "dapr-crds");
    let args = arguments(job);
    assert_eq!(args.last(), Some(&"--filename=/crds"));
    let own = [
        "--filename=-",
        "--as",
        "system:serviceaccount:dapr-system:dapr-crds",
    ];
    let args = [&args[..args.len() - 1], &own].concat();
    // with the rights of the hook, and no more
    let rights: Vec<String> = ["ServiceAccount", "ClusterRole", "ClusterRoleBinding"]
        .map(|kind| the(&objects, kind, "dapr-crds").to_string())
        .into();
    let rights = rights.join("\n---\n");
    apply(&rights).await;
    let drift = r#"[{"op": "remove", "path": "/spec/versions/0/additionalPrinterColumns"}]"#;
    kubectl(&[
        "patch",
        "crd",
        "subscriptions.dapr.io",
        "--type=json",
        "-p",
        drift,
    ])
    .await;
    let said = run("kubectl", &args, &all.join("\n---\n")).await;
    said.unwrap_or_else(|said| panic!("{said}"));
    let args = ["delete", "--ignore-not-found", "-f", "-"];
    run("kubectl", &args, &rights)
        .await
        .expect("the hook's rights");

    assert_eq!(conversion().await, before);
    let definition = get(&["crd", "subscriptions.dapr.io"]).await;
    assert!(
        definition["spec"]["versions"][0]["additionalPrinterColumns"].is_array(),
        "not upgraded"
    );
}
