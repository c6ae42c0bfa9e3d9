//! The chart with other values than its defaults: the API server takes what it renders, and nothing of it is below
//! Pod Security level `restricted`.

use serde_json::Value;

use crate::apps::Namespace;
use crate::installation::{control_plane, repository};
use crate::kube::{helm, run};

const NAMESPACED: &str = include_str!("values/namespaced.yaml");
const AVAILABLE: &str = include_str!("values/available.yaml");
const EVERYTHING: &str = include_str!("values/everything.yaml");

/// Renders the chart for a namespace that is there, and has the API server complete the objects without keeping them.
async fn rendered(namespace: &str, values: &str) -> Vec<Value> {
    let chart = repository().join("charts/dapr");
    let chart = chart.to_str().expect("a path in UTF-8");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), values).expect("the values");
    let file = file.path().to_str().expect("a path in UTF-8");
    let manifest = helm(&[
        "template",
        "dapr",
        chart,
        "-n",
        namespace,
        "--no-hooks",
        "-f",
        file,
    ])
    .await;
    let args = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "--warnings-as-errors",
        "-o",
        "json",
        "-f",
        "-",
    ];
    let text = run("kubectl", &args, &manifest)
        .await
        .unwrap_or_else(|said| panic!("{said}"));
    let list: Value = serde_json::from_str(&text).expect("JSON of kubectl");
    list["items"].as_array().expect("a list").clone()
}

fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> Option<&'a Value> {
    objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
}

fn program(workload: &Value) -> &Value {
    &workload["spec"]["template"]["spec"]["containers"][0]
}

fn argument<'a>(workload: &'a Value, flag: &str) -> Option<&'a str> {
    let args = program(workload)["args"]
        .as_array()?
        .iter()
        .filter_map(Value::as_str);
    args.into_iter()
        .find_map(|arg| arg.strip_prefix(&format!("--{flag}=")))
}

fn variable<'a>(workload: &'a Value, name: &str) -> Option<&'a str> {
    let all = program(workload)["env"].as_array()?;
    all.iter().find(|one| one["name"] == name)?["value"].as_str()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn high_availability_gives_replicas_budgets_and_distance() {
    let (images, _unchanged) = control_plane().await;
    let namespace = Namespace::create("available", images).await;
    let objects = rendered(&namespace.name, AVAILABLE).await;
    for (kind, name, budget) in [
        (
            "Deployment",
            "dapr-operator",
            "dapr-operator-disruption-budget",
        ),
        ("Deployment", "dapr-sentry", "dapr-sentry-budget"),
        (
            "Deployment",
            "dapr-sidecar-injector",
            "dapr-sidecar-injector-disruption-budget",
        ),
    ] {
        let workload = find(&objects, kind, name).unwrap_or_else(|| panic!("no {kind} {name}"));
        assert_eq!(workload["spec"]["replicas"], 3, "{name}");
        let apart = &workload["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"];
        let term = &apart["requiredDuringSchedulingIgnoredDuringExecution"][0];
        assert_eq!(term["topologyKey"], "kubernetes.io/hostname", "{name}");
        assert_eq!(term["labelSelector"]["matchLabels"]["app"], name);
        let budget =
            find(&objects, "PodDisruptionBudget", budget).unwrap_or_else(|| panic!("no {budget}"));
        assert_eq!(budget["spec"]["minAvailable"], 2);
        assert_eq!(budget["spec"]["selector"]["matchLabels"]["app"], name);
    }
    let placement = find(&objects, "StatefulSet", "dapr-placement-server").expect("placement");
    assert_eq!(
        placement["spec"]["replicas"], 1,
        "placement has no election"
    );
    namespace.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_reach_flags_and_variables() {
    let (images, _unchanged) = control_plane().await;
    let namespace = Namespace::create("everything", images).await;
    let objects = rendered(&namespace.name, EVERYTHING).await;
    let operator = find(&objects, "Deployment", "dapr-operator").expect("operator");
    let args = program(operator)["args"].to_string();
    assert_eq!(program(operator)["image"], "registry.test/dapr/operator:9");
    assert_eq!(argument(operator, "watch-interval"), Some("30s"));
    assert_eq!(argument(operator, "watch-namespace"), Some("apps"));
    assert_eq!(argument(operator, "log-as-json"), Some("true"));
    for flag in [
        "--disable-service-reconciler",
        "--enable-argo-rollout-service-reconciler",
        "--watchdog-can-patch-pod-labels",
    ] {
        assert!(args.contains(flag), "{args}");
    }
    let pod = &operator["spec"]["template"];
    assert_eq!(pod["metadata"]["labels"]["team"], "platform");
    assert_eq!(
        pod["spec"]["imagePullSecrets"],
        serde_json::json!([{ "name": "one" }, { "name": "two" }])
    );
    assert_eq!(pod["spec"]["priorityClassName"], "system-cluster-critical");
    assert_eq!(pod["spec"]["nodeSelector"]["disk"], "fast");

    let sentry = find(&objects, "Deployment", "dapr-sentry").expect("sentry");
    assert_eq!(
        program(sentry)["image"],
        "elsewhere.test/sentry@sha256:0000000000000000000000000000000000000000000000000000000000000000"
    );
    assert_eq!(argument(sentry, "issuer-ca-filename"), Some("root.pem"));
    assert_eq!(argument(sentry, "jwt-issuer"), Some("https://issuer.test"));
    assert_eq!(
        argument(sentry, "oidc-allowed-hosts"),
        Some("a.test,b.test")
    );
    assert!(
        program(sentry)["args"]
            .to_string()
            .contains("--kubeconfig=/nowhere")
    );
    let secret = find(&objects, "Secret", "dapr-trust-bundle").expect("the secret");
    assert_eq!(secret["data"]["issuer.key"], "S0VZ");

    let injector = find(&objects, "Deployment", "dapr-sidecar-injector").expect("injector");
    assert_eq!(
        variable(injector, "SIDECAR_IMAGE"),
        Some("registry.test/dapr/daprd:9")
    );
    assert_eq!(variable(injector, "SIDECAR_RUN_AS_USER"), Some("1000"));
    assert_eq!(
        variable(injector, "SIDECAR_DROP_ALL_CAPABILITIES"),
        Some("false")
    );
    assert_eq!(variable(injector, "NATIVE_SIDECAR_ENABLED"), Some("true"));
    assert_eq!(
        variable(injector, "ALLOWED_SERVICE_ACCOUNTS"),
        Some("apps:deployer-*")
    );
    assert_eq!(
        variable(injector, "IGNORE_ENTRYPOINT_TOLERATIONS"),
        Some(r#"[{"effect":"NoSchedule","key":"bare"}]"#)
    );
    let webhook = find(
        &objects,
        "MutatingWebhookConfiguration",
        "dapr-sidecar-injector",
    )
    .expect("the webhook");
    assert_eq!(webhook["webhooks"][0]["failurePolicy"], "Fail");
    assert_eq!(
        webhook["webhooks"][0]["namespaceSelector"]["matchLabels"]["dapr"],
        "yes"
    );
    assert!(
        find(&objects, "StatefulSet", "dapr-placement-server").is_none(),
        "actors are off"
    );
    assert!(find(&objects, "ResourceQuota", "system-critical-quota").is_some());
    let config = find(&objects, "Configuration", "daprsystem").expect("the configuration");
    assert_eq!(config["spec"]["mtls"]["workloadCertTTL"], "1h");
    namespace.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaced_rights_leave_only_what_has_no_namespace() {
    let (images, _unchanged) = control_plane().await;
    let namespace = Namespace::create("namespaced", images).await;
    let objects = rendered(&namespace.name, NAMESPACED).await;
    let allowed = [
        "customresourcedefinitions",
        "mutatingwebhookconfigurations",
        "serviceaccounts",
        "tokenreviews",
    ];
    for role in objects
        .iter()
        .filter(|object| object["kind"] == "ClusterRole")
    {
        for rule in role["rules"].as_array().into_iter().flatten() {
            for resource in rule["resources"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
            {
                assert!(
                    allowed.contains(&resource),
                    "{} reaches {resource} everywhere",
                    role["metadata"]["name"]
                );
            }
        }
    }
    let operator = find(&objects, "Role", "dapr-operator").expect("the operator's role");
    assert!(
        operator["rules"].to_string().contains("components"),
        "{operator}"
    );
    let operator = find(&objects, "Deployment", "dapr-operator").expect("operator");
    let watched = argument(operator, "watch-namespace");
    assert_eq!(
        watched,
        Some(namespace.name.as_str()),
        "no more than it may"
    );
    namespace.delete().await;
}

/// The verbs of a role on a resource.
fn verbs<'a>(objects: &'a [Value], kind: &str, name: &str, resource: &str) -> Vec<&'a str> {
    let role = find(objects, kind, name).expect(name);
    let rules = role["rules"].as_array().into_iter().flatten();
    let about = rules.filter(|rule| {
        let resources = rule["resources"].as_array();
        resources.is_some_and(|all| all.iter().any(|one| one == resource))
    });
    let verbs = about.flat_map(|rule| rule["verbs"].as_array().into_iter().flatten());
    verbs.filter_map(Value::as_str).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_may_do_more_than_it_does() {
    let (images, _unchanged) = control_plane().await;
    let namespace = Namespace::create("rights", images).await;
    let objects = rendered(&namespace.name, "{}").await;
    let (operator, clustered) = ("dapr-operator-admin", "ClusterRole");
    for (kind, name, resource, expected) in [
        (clustered, operator, "secrets", &["get"][..]),
        (
            clustered,
            operator,
            "services",
            &["get", "list", "watch", "update", "create"],
        ),
        (clustered, operator, "pods", &["get", "list", "watch"]),
        (clustered, operator, "pods/eviction", &["create"]),
        ("Role", "dapr-operator", "configmaps", &[]),
        ("Role", "dapr-injector", "secrets", &[]),
        ("Role", "dapr-injector", "statefulsets", &[]),
        ("Role", "dapr-sentry", "secrets", &["get", "update"]),
        (clustered, "dapr-sentry", "pods", &["get"]),
    ] {
        let found = verbs(&objects, kind, name, resource);
        assert_eq!(found, expected, "{name} on {resource}");
    }
    let role = find(&objects, clustered, operator).expect("the operator's role");
    let mut rules = role["rules"].as_array().expect("rules").iter();
    let definitions = rules.find(|rule| rule["resources"][0] == "customresourcedefinitions");
    let named = &definitions.expect("a rule")["resourceNames"];
    assert_eq!(*named, serde_json::json!(["subscriptions.dapr.io"]));
    namespace.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chart_names_the_version_of_the_workspace() {
    let version = env!("CARGO_PKG_VERSION");
    for (file, line) in [
        ("charts/dapr/Chart.yaml", format!("version: {version}")),
        ("charts/dapr/Chart.yaml", format!("appVersion: {version}")),
        ("charts/dapr/values.yaml", format!("tag: {version}")),
        (
            "demo/manifests/1-redis.yaml",
            format!("image: localhost/dapr/sample-redis:{version}"),
        ),
        (
            "demo/manifests/4-shop.yaml",
            format!("image: localhost/dapr/sample:{version}"),
        ),
    ] {
        let text = std::fs::read_to_string(repository().join(file)).expect(file);
        assert!(
            text.lines().any(|one| one.trim() == line),
            "{file} does not say {line}"
        );
    }
}
