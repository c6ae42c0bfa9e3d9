//! How far the control plane reaches: which pods the webhook looks at, which namespaces the programs touch, what pods may do, and
//! who may speak to them. All of it as Helm renders it.

use serde_json::{Value, json};

use crate::installation::SYSTEM;
use crate::render::{argument, find, render, render_with, the, workloads};

const AVAILABLE: &str = include_str!("values/available.yaml");
const EVERYTHING: &str = include_str!("values/everything.yaml");
const NAMESPACED: &str = include_str!("values/namespaced.yaml");
const HARDENED: &str = include_str!("../../../charts/dapr/hardened.yaml");

#[tokio::test]
async fn pods_that_ask_are_refused_rather_than_started_without_a_sidecar_where_only_those_are_looked_at()
 {
    for (version, policy, conditions) in [
        ("1.34.0", "Fail", true),
        ("1.29.0", "Ignore", true),
        ("1.27.0", "Ignore", false),
    ] {
        let objects = render_with("{}", &["--kube-version", version]).await;
        let webhook = webhook(&objects);
        assert_eq!(webhook["failurePolicy"], policy, "{version}");
        assert_eq!(
            webhook["matchConditions"].is_array(),
            conditions,
            "{version}"
        );
        assert_eq!(webhook["timeoutSeconds"], 5);
        assert_eq!(
            place(webhook),
            ("NotIn".to_owned(), SYSTEM.to_owned()),
            "the control plane cannot wait for itself"
        );
    }
    let objects = render(EVERYTHING).await;
    assert_eq!(webhook(&objects)["failurePolicy"], "Ignore");
    let selector = &webhook(&objects)["namespaceSelector"];
    assert_eq!(selector["matchLabels"]["dapr"], "yes");
    assert_eq!(
        place(webhook(&objects)).0,
        "NotIn",
        "beside a selector of one's own"
    );
}

fn webhook(objects: &[Value]) -> &Value {
    &the(
        objects,
        "MutatingWebhookConfiguration",
        "dapr-sidecar-injector",
    )["webhooks"][0]
}

/// Operator and namespace of the rule about names of namespaces.
fn place(webhook: &Value) -> (String, String) {
    let rule = &webhook["namespaceSelector"]["matchExpressions"][0];
    assert_eq!(rule["key"], "kubernetes.io/metadata.name", "{webhook}");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    (text(&rule["operator"]), text(&rule["values"][0]))
}

#[tokio::test]
async fn a_namespaced_installation_has_one_namespace_with_apps() {
    for (more, apps) in [
        (&[][..], SYSTEM),
        (&["--set", "global.rbac.watchNamespace=apps"], "apps"),
    ] {
        let objects = render_with(NAMESPACED, more).await;
        let operator = the(&objects, "Deployment", "dapr-operator");
        assert_eq!(argument(operator, "watch-namespace"), Some(apps));
        assert_eq!(place(webhook(&objects)), ("In".to_owned(), apps.to_owned()));
        let cleanup = the(&objects, "Job", "dapr-uninstall");
        assert_eq!(argument(cleanup, "watch-namespace"), Some(apps));
        let beyond = [
            "customresourcedefinitions",
            "mutatingwebhookconfigurations",
            "tokenreviews",
        ];
        for object in &objects {
            let namespace = &object["metadata"]["namespace"];
            assert!(
                namespace.is_null() || *namespace == SYSTEM || *namespace == apps,
                "{object}"
            );
            if object["kind"] == "ClusterRole" {
                for rule in object["rules"].as_array().expect("rules") {
                    let resource = rule["resources"][0].as_str().expect("a resource");
                    assert!(beyond.contains(&resource), "{object}");
                }
            }
        }
    }
}

/// Each of what has no namespace can be left to somebody else; without all three, nothing of it is left.
#[tokio::test]
async fn what_has_no_namespace_can_be_turned_off() {
    let off = "global: {rbac: {namespaced: true, tokenReviews: false, conversionWebhook: false, admissionWebhook: false}}";
    let objects = render(off).await;
    let beyond: Vec<&Value> = objects
        .iter()
        .filter(|one| one["metadata"]["namespace"].is_null())
        .collect();
    assert!(beyond.is_empty(), "{beyond:?}");
    for (value, gone) in [
        ("tokenReviews", "dapr-sentry"),
        ("conversionWebhook", "dapr-operator-admin"),
        ("admissionWebhook", "dapr-injector"),
    ] {
        let one = format!("global: {{rbac: {{namespaced: true, {value}: false}}}}");
        assert!(
            find(&render(&one).await, "ClusterRole", gone).is_none(),
            "{value}"
        );
        assert!(
            find(&render(NAMESPACED).await, "ClusterRole", gone).is_some(),
            "{value}"
        );
    }
}

/// Every pod, hooks included, is one that Pod Security level `restricted` admits.
#[tokio::test]
async fn every_pod_is_restricted() {
    for values in [
        "{}",
        AVAILABLE,
        EVERYTHING,
        NAMESPACED,
        HARDENED,
        "global: {crds: {upgradeImage: kubectl:1}}",
    ] {
        let objects = render(values).await;
        for workload in workloads(&objects) {
            let (name, pod) = (
                &workload["metadata"]["name"],
                &workload["spec"]["template"]["spec"],
            );
            let context = &pod["securityContext"];
            assert_eq!(context["runAsNonRoot"], true, "{name}");
            assert_eq!(
                context["seccompProfile"]["type"], "RuntimeDefault",
                "{name}"
            );
            for container in pod["containers"].as_array().expect("containers") {
                let context = &container["securityContext"];
                assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
                assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
                assert_eq!(
                    context["capabilities"],
                    json!({ "drop": ["ALL"] }),
                    "{name}"
                );
            }
        }
    }
}

/// A policy for each program, which lets in what its Services name.
#[tokio::test]
async fn network_policies_open_what_services_name() {
    assert!(
        render("{}")
            .await
            .iter()
            .all(|object| object["kind"] != "NetworkPolicy")
    );
    let objects = render(HARDENED).await;
    let mut seen = 0;
    for service in objects.iter().filter(|object| object["kind"] == "Service") {
        let app = service["spec"]["selector"]["app"]
            .as_str()
            .expect("a selector");
        let policy = the(&objects, "NetworkPolicy", app);
        assert_eq!(policy["spec"]["podSelector"]["matchLabels"]["app"], app);
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
        let rules = policy["spec"]["ingress"].as_array().into_iter().flatten();
        let open: Vec<Value> = rules
            .flat_map(|rule| {
                rule["ports"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|port| port["port"].clone())
            })
            .collect();
        for port in service["spec"]["ports"].as_array().expect("ports") {
            let target = match &port["targetPort"] {
                Value::Null => port["port"].clone(),
                Value::String(name) if name == "https" => json!(4000),
                target => target.clone(),
            };
            assert!(open.contains(&target), "{app} has {target} closed");
            seen += 1;
        }
    }
    assert!(seen > 8, "{seen} ports");
}
