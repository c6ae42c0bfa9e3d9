//! Uninstalling leaves definitions and what users made, and nothing that hangs.

use serde_json::json;

use crate::apps::Namespace;
use crate::installation::{SYSTEM, control_plane_alone, install, uninstall};
use crate::kube::{get, kubectl, names, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uninstalling_leaves_only_definitions_and_users_resources() {
    let (images, _alone) = control_plane_alone().await;
    let namespace = Namespace::create("leftover", images).await;
    make_what_users_make(&namespace).await;
    let leases = list(SYSTEM, "leases").await;
    let lease = "lease.coordination.k8s.io/operator.dapr.io".to_owned();
    assert!(leases.contains(&lease), "{leases:?}");

    uninstall(SYSTEM).await;

    nothing_of_ours_is_left().await;
    all_of_the_users_is_left(&namespace).await;
    kubectl(&["delete", "namespace", &namespace.name, "--timeout=60s"]).await;

    // for the tests after this one, and because whoever uninstalls may come back
    install().await;
}

async fn make_what_users_make(namespace: &Namespace) {
    namespace.component("store", "state.in-memory", &[]).await;
    let versions = [
        ("v1alpha1", "old", json!({ "route": "/orders" })),
        (
            "v2alpha1",
            "new",
            json!({ "routes": { "default": "/orders" } }),
        ),
    ];
    for (version, name, mut spec) in versions {
        spec["pubsubname"] = json!("events");
        spec["topic"] = json!("orders");
        let object = json!({
            "apiVersion": format!("dapr.io/{version}"),
            "kind": "Subscription",
            "metadata": { "name": name },
            "spec": spec,
        });
        namespace.apply(object).await;
    }
    let newer = "subscriptions.v2alpha1.dapr.io";
    let converted = get(&["-n", &namespace.name, newer, "old"]).await;
    let route = &converted["spec"]["routes"]["default"];
    assert_eq!(route, "/orders", "not converted: {converted}");
    namespace.stock("leftover").await;
    until("the app's Service", 30, async || {
        let services = list(&namespace.name, "services").await;
        let made = services == ["service/leftover-dapr"];
        made.then_some(()).ok_or(format!("{services:?}"))
    })
    .await;
}

/// What Helm installed, and what the programs made meanwhile.
async fn nothing_of_ours_is_left() {
    let everywhere = [
        (
            "mutatingwebhookconfigurations",
            "app.kubernetes.io/part-of=dapr",
        ),
        ("services", "dapr.io/enabled=true"),
        (
            "clusterroles,clusterrolebindings",
            "app.kubernetes.io/part-of=dapr",
        ),
        (
            "clusterroles,clusterrolebindings",
            "app.kubernetes.io/component=uninstall",
        ),
    ];
    for (kinds, label) in everywhere {
        let left = names(&["-A", kinds, "-l", label]).await;
        assert!(left.is_empty(), "{left:?}");
    }
    let kinds = "all,leases,configmaps,secrets,serviceaccounts,roles,rolebindings,\
                 poddisruptionbudgets,configurations.dapr.io";
    until(
        "the control plane's namespace to be empty",
        60,
        async || {
            let mut left = list(SYSTEM, kinds).await;
            // every namespace has these
            let given = ["configmap/kube-root-ca.crt", "serviceaccount/default"];
            left.retain(|name| !given.contains(&name.as_str()));
            left.is_empty().then_some(()).ok_or(left.join(" "))
        },
    )
    .await;
}

async fn all_of_the_users_is_left(namespace: &Namespace) {
    let mut definitions = names(&["crds"]).await;
    definitions.retain(|name| name.ends_with(".dapr.io"));
    assert_eq!(definitions.len(), 7, "{definitions:?}");
    for (kind, expected) in [
        ("components", &["component.dapr.io/store"][..]),
        ("deployments", &["deployment.apps/leftover"]),
        // with nobody to convert them, they are still listed in either version
        (
            "subscriptions.v1alpha1.dapr.io",
            &["subscription.dapr.io/new", "subscription.dapr.io/old"],
        ),
        (
            "subscriptions.v2alpha1.dapr.io",
            &["subscription.dapr.io/new", "subscription.dapr.io/old"],
        ),
    ] {
        assert_eq!(list(&namespace.name, kind).await, expected, "{kind}");
    }
}

async fn list(namespace: &str, kinds: &str) -> Vec<String> {
    names(&["-n", namespace, kinds]).await
}
