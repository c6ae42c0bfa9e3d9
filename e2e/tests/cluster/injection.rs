//! Which pods get a sidecar.

use serde_json::{Value, json};

use crate::apps::{Namespace, containers};
use crate::installation::control_plane;
use crate::kube::{get, run, try_apply};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_pods_that_ask_get_a_sidecar() {
    let (images, _unchanged) = control_plane().await;
    let namespace = Namespace::create("asking", images).await;
    for (name, annotations, expected) in [
        ("silent", json!({}), &["app"][..]),
        (
            "declining",
            json!({ "dapr.io/enabled": "false", "dapr.io/app-id": "declining" }),
            &["app"],
        ),
        ("naming", json!({ "dapr.io/app-id": "naming" }), &["app"]),
        (
            "asking",
            json!({ "dapr.io/enabled": "true", "dapr.io/app-id": "asking" }),
            &["app", "daprd"],
        ),
        (
            "native",
            json!({ "dapr.io/enabled": "true", "dapr.io/app-id": "native", "dapr.io/enable-native-sidecar": "true" }),
            &["daprd", "app"],
        ),
    ] {
        namespace.apply(pod(&namespace, name, &annotations)).await;
        let pod = get(&["-n", &namespace.name, "pod", name]).await;
        assert_eq!(containers(&pod), expected, "{name}");
        let marked = &pod["metadata"]["labels"]["dapr.io/sidecar-injected"];
        assert_eq!(*marked == "true", expected.len() == 2, "{name}: {marked}");
    }
    namespace.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_may_not_ask_gets_its_pod_without_a_sidecar() {
    let (images, _unchanged) = control_plane().await;
    let namespace = Namespace::create("account", images).await;
    let account = format!("system:serviceaccount:{}:someone", namespace.name);
    namespace
        .apply(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": { "name": "someone" },
            "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": ["create", "get"] }],
        }))
        .await;
    namespace
        .apply(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": { "name": "someone" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "someone" },
            "subjects": [{ "kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": account }],
        }))
        .await;
    let wanted = json!({ "dapr.io/enabled": "true", "dapr.io/app-id": "mine" });
    let object = namespace.place(pod(&namespace, "mine", &wanted));
    let created = run(
        "kubectl",
        &["create", "--as", &account, "-f", "-"],
        &object.to_string(),
    )
    .await;
    created.unwrap_or_else(|said| panic!("{said}"));
    assert_eq!(
        containers(&get(&["-n", &namespace.name, "pod", "mine"]).await),
        ["app"]
    );
    namespace.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_asks_wrongly_is_refused_with_the_reason() {
    let (images, _unchanged) = control_plane().await;
    let namespace = Namespace::create("wrong", images).await;
    let annotations = json!({ "dapr.io/enabled": "true", "dapr.io/app-id": "Not_A_Label" });
    let object = namespace.place(pod(&namespace, "wrong", &annotations));
    let said = try_apply(&object.to_string())
        .await
        .expect_err("a pod with an impossible app id");
    assert!(said.contains("Not_A_Label"), "{said}");
    namespace.delete().await;
}

fn pod(namespace: &Namespace, name: &str, annotations: &Value) -> Value {
    let mut pod = namespace.stock_pod(annotations);
    pod["metadata"]["name"] = json!(name);
    pod
}
