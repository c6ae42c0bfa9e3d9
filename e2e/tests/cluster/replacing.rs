//! A release of upstream's chart can be upgraded to one of ours and back: what Kubernetes lets nobody change is the same in
//! both. The table holds what upstream's chart gives these objects; a cell that changes there is to be changed here too.

use serde_json::{Value, json};

use crate::render::{is_hook, render, render_with, the};

/// Highly available, as upstream's users have it.
const AVAILABLE: &str = "global: {ha: {enabled: true}}";

/// Selectors of workloads: immutable, and what Services go by.
const WORKLOADS: [(&str, &str); 5] = [
    ("Deployment", "dapr-operator"),
    ("Deployment", "dapr-sentry"),
    ("Deployment", "dapr-sidecar-injector"),
    ("StatefulSet", "dapr-placement-server"),
    ("StatefulSet", "dapr-scheduler-server"),
];

/// Name, app that it selects, whether it is headless (immutable), and ports that sidecars and the API server call.
const SERVICES: [(&str, &str, bool, &[u16]); 7] = [
    ("dapr-api", "dapr-operator", false, &[443, 80]),
    ("dapr-webhook", "dapr-operator", false, &[443]),
    ("dapr-sentry", "dapr-sentry", false, &[443]),
    (
        "dapr-sidecar-injector",
        "dapr-sidecar-injector",
        false,
        &[443],
    ),
    (
        "dapr-placement-server",
        "dapr-placement-server",
        true,
        &[50005, 8201],
    ),
    (
        "dapr-scheduler-server",
        "dapr-scheduler-server",
        true,
        &[50006, 2379, 2380],
    ),
    (
        "dapr-scheduler-server-a",
        "dapr-scheduler-server",
        false,
        &[443, 2379, 2380],
    ),
];

/// Bindings, whose role is immutable: kind, name and role are alike.
const BINDINGS: [(&str, &str, &str); 8] = [
    ("ClusterRoleBinding", "dapr-injector", "dapr-injector"),
    (
        "ClusterRoleBinding",
        "dapr-operator-admin",
        "dapr-operator-admin",
    ),
    ("ClusterRoleBinding", "dapr-scheduler", "dapr-scheduler"),
    ("ClusterRoleBinding", "dapr-sentry", "dapr-sentry"),
    ("RoleBinding", "dapr-injector", "dapr-injector"),
    ("RoleBinding", "dapr-operator", "dapr-operator"),
    ("RoleBinding", "dapr-secret-reader", "secret-reader"),
    ("RoleBinding", "dapr-sentry", "dapr-sentry"),
];

/// Objects without immutable fields that keep their names, so that an upgrade changes them and makes no second one.
const OTHERS: [(&str, &str); 10] = [
    ("Secret", "dapr-trust-bundle"),
    ("ConfigMap", "dapr-trust-bundle"),
    ("Configuration", "daprsystem"),
    ("MutatingWebhookConfiguration", "dapr-sidecar-injector"),
    ("ServiceAccount", "dapr-injector"),
    ("ServiceAccount", "dapr-operator"),
    ("ServiceAccount", "dapr-placement"),
    ("ServiceAccount", "dapr-scheduler"),
    ("ServiceAccount", "dapr-sentry"),
    ("PodDisruptionBudget", "dapr-sentry-budget"),
];

#[tokio::test]
async fn what_cannot_be_changed_is_as_upstream_has_it() {
    for values in ["{}", AVAILABLE] {
        let objects = render(values).await;
        for (kind, app) in WORKLOADS {
            let spec = &the(&objects, kind, app)["spec"];
            assert_eq!(
                spec["selector"],
                json!({ "matchLabels": { "app": app } }),
                "{app}"
            );
            assert_eq!(spec["template"]["metadata"]["labels"]["app"], app);
        }
        for (name, app, headless, ports) in SERVICES {
            let spec = &the(&objects, "Service", name)["spec"];
            assert_eq!(spec["selector"], json!({ "app": app }), "{name}");
            assert_eq!(spec["clusterIP"] == "None", headless, "{name}");
            let all = spec["ports"].as_array().expect("ports");
            for port in ports {
                assert!(
                    all.iter().any(|one| one["port"] == *port),
                    "{name} has no port {port}"
                );
            }
        }
        for (kind, name, role) in BINDINGS {
            assert_eq!(the(&objects, kind, name)["roleRef"]["name"], role, "{name}");
        }
    }
    let objects = render(AVAILABLE).await;
    for (kind, name) in OTHERS {
        the(&objects, kind, name);
    }
}

/// A StatefulSet's claims, the name of its Service and the order of its pods are for ever.
#[tokio::test]
async fn placement_claims_what_upstream_claims() {
    let claim = |size: &str| {
        json!([{
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "raft-log" },
            "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": size } } },
        }])
    };
    let sized = "dapr_placement: {ha: true, volumeclaims: {storageSize: 2Gi}}";
    let in_memory =
        "{global: {ha: {enabled: true}}, dapr_placement: {cluster: {forceInMemoryLog: true}}}";
    for (values, claims) in [
        ("{}", Value::Null),
        (AVAILABLE, claim("1Gi")),
        (sized, claim("2Gi")),
        (in_memory, Value::Null),
    ] {
        let objects = render(values).await;
        let spec = &the(&objects, "StatefulSet", "dapr-placement-server")["spec"];
        assert_eq!(spec["volumeClaimTemplates"], claims, "{values}");
        assert_eq!(spec["serviceName"], "dapr-placement-server");
        assert_eq!(spec["podManagementPolicy"], "Parallel");
    }
}

#[tokio::test]
async fn the_scheduler_claims_what_upstream_claims() {
    let claim = |size: &str, class: Option<&str>| {
        let mut spec = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": size } } });
        if let Some(class) = class {
            spec["storageClassName"] = json!(class);
        }
        json!([{
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "dapr-scheduler-data-dir" },
            "spec": spec,
        }])
    };
    for (values, claims) in [
        ("{}", claim("16Gi", None)),
        (AVAILABLE, claim("16Gi", None)),
        (
            "dapr_scheduler: {cluster: {storageSize: 1Gi, storageClassName: fast}}",
            claim("1Gi", Some("fast")),
        ),
        (
            "dapr_scheduler: {cluster: {inMemoryStorage: true}}",
            Value::Null,
        ),
    ] {
        let objects = render(values).await;
        let spec = &the(&objects, "StatefulSet", "dapr-scheduler-server")["spec"];
        assert_eq!(spec["volumeClaimTemplates"], claims, "{values}");
        assert_eq!(spec["serviceName"], "dapr-scheduler-server");
        assert_eq!(spec["podManagementPolicy"], "Parallel");
    }
}

/// Helm takes out of the live objects what the old chart rendered and the new one does not, an empty `data` with all that is in
/// it: the credentials, which sentry wrote, must be in neither.
#[tokio::test]
async fn the_authority_is_not_the_charts_to_write() {
    for values in ["{}", AVAILABLE] {
        let objects = render(values).await;
        for kind in ["Secret", "ConfigMap"] {
            let data = &the(&objects, kind, "dapr-trust-bundle")["data"];
            assert!(data.is_null(), "{kind}: {data}");
        }
    }
}

/// What is created beside upstream's objects must not have the name of one of them and another kind of life.
#[tokio::test]
async fn hooks_are_named_apart() {
    let objects = render_with("global: {crds: {upgradeImage: k:1}}", &["--is-upgrade"]).await;
    let mut hooks = 0;
    for hook in objects.iter().filter(|object| is_hook(object)) {
        hooks += 1;
        let name = hook["metadata"]["name"].as_str().expect("a name");
        assert!(
            ["dapr-uninstall", "dapr-test", "dapr-crds"].contains(&name),
            "{hook}"
        );
        let kept = &hook["metadata"]["annotations"]["helm.sh/hook-delete-policy"];
        assert_eq!(*kept, "before-hook-creation,hook-succeeded", "{name}");
        assert_ne!(
            hook["kind"], "CustomResourceDefinition",
            "a hook would delete it"
        );
    }
    assert!(hooks >= 10, "{hooks}");
}
