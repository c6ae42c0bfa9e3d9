//! The chart with other values than its defaults, as Helm renders it: nobody's cluster is asked.

use serde_json::json;

use crate::installation::repository;
use crate::render::{
    argument, arguments, find, is_hook, program, refused, render, the, variable, workloads,
};

const AVAILABLE: &str = include_str!("values/available.yaml");
const EVERYTHING: &str = include_str!("values/everything.yaml");

/// Deployments of the chart, and their disruption budgets.
const REPLICATED: [(&str, &str); 3] = [
    ("dapr-operator", "dapr-operator-disruption-budget"),
    ("dapr-sentry", "dapr-sentry-budget"),
    (
        "dapr-sidecar-injector",
        "dapr-sidecar-injector-disruption-budget",
    ),
];

#[tokio::test]
async fn high_availability_gives_replicas_budgets_and_distance() {
    let objects = render(AVAILABLE).await;
    for (name, budget) in REPLICATED {
        let workload = the(&objects, "Deployment", name);
        assert_eq!(workload["spec"]["replicas"], 3, "{name}");
        let apart = &workload["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"];
        let term = &apart["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"];
        assert_eq!(term["topologyKey"], "kubernetes.io/hostname", "{name}");
        assert_eq!(term["labelSelector"]["matchLabels"]["app"], name);
        let budget = the(&objects, "PodDisruptionBudget", budget);
        assert_eq!(budget["spec"]["minAvailable"], 2);
        assert_eq!(budget["spec"]["selector"]["matchLabels"]["app"], name);
    }
    let placement = the(&objects, "StatefulSet", "dapr-placement-server");
    assert_eq!(placement["spec"]["replicas"], 3);
    let members = argument(placement, "initial-cluster").expect("they know each other");
    let members: Vec<&str> = members.split(',').collect();
    for (index, member) in members.iter().enumerate() {
        let name = format!("dapr-placement-server-{index}");
        let address = format!("{name}={name}.dapr-placement-server.");
        assert!(member.starts_with(&address), "{member}");
    }
    assert_eq!(members.len(), 3);
    assert_eq!(argument(placement, "id"), Some("$(POD_NAME)"));
    assert_eq!(argument(placement, "raft-logstore-path"), None);
    assert!(placement["spec"]["volumeClaimTemplates"].is_null());
    let budget = "dapr-placement-server-disruption-budget";
    let budget = the(&objects, "PodDisruptionBudget", budget);
    assert_eq!(budget["spec"]["minAvailable"], 2);

    let objects = render("global: {ha: {enabled: true}}").await;
    let placement = the(&objects, "StatefulSet", "dapr-placement-server");
    let volume = &placement["spec"]["volumeClaimTemplates"][0]["metadata"]["name"];
    assert_eq!(volume, "raft-log");
    assert_eq!(argument(placement, "inmem-store-enabled"), Some("false"));
    let folder = argument(placement, "raft-logstore-path");
    assert_eq!(folder, Some("/var/run/dapr/raft-log"));

    let required = "global: {ha: {enabled: true, podAntiAffinityPolicy: requiredDuringSchedulingIgnoredDuringExecution}}";
    let objects = render(required).await;
    let affinity =
        &the(&objects, "Deployment", "dapr-sentry")["spec"]["template"]["spec"]["affinity"];
    let term = &affinity["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(term["topologyKey"], "topology.kubernetes.io/zone");
}

#[tokio::test]
async fn values_reach_flags_and_variables() {
    let objects = render(EVERYTHING).await;
    let operator = the(&objects, "Deployment", "dapr-operator");
    assert_eq!(argument(operator, "watch-interval"), Some("30s"));
    assert_eq!(argument(operator, "watch-namespace"), Some("apps"));
    assert_eq!(argument(operator, "log-as-json"), Some("true"));
    for flag in [
        "--disable-service-reconciler",
        "--enable-argo-rollout-service-reconciler",
        "--watchdog-can-patch-pod-labels",
    ] {
        assert!(arguments(operator).contains(&flag), "{flag}");
    }
    let pod = &operator["spec"]["template"];
    assert_eq!(pod["metadata"]["labels"]["team"], "platform");
    assert_eq!(pod["metadata"]["annotations"]["note"], "mine");
    let secrets = json!([{ "name": "one" }, { "name": "two" }]);
    assert_eq!(pod["spec"]["imagePullSecrets"], secrets);
    assert_eq!(pod["spec"]["priorityClassName"], "system-cluster-critical");
    assert_eq!(pod["spec"]["nodeSelector"]["kubernetes.io/os"], "linux");

    let sentry = the(&objects, "Deployment", "dapr-sentry");
    assert_eq!(argument(sentry, "jwt-issuer"), Some("https://issuer.test"));
    assert_eq!(
        argument(sentry, "oidc-allowed-hosts"),
        Some("a.test,b.test")
    );
    assert_eq!(argument(sentry, "jwt-ttl"), Some("12h"));

    let injector = the(&objects, "Deployment", "dapr-sidecar-injector");
    for (name, value) in [
        ("SIDECAR_RUN_AS_USER", "1000"),
        ("SIDECAR_DROP_ALL_CAPABILITIES", "false"),
        ("NATIVE_SIDECAR_ENABLED", "true"),
        ("ALLOWED_SERVICE_ACCOUNTS", "apps:deployer-*"),
        (
            "IGNORE_ENTRYPOINT_TOLERATIONS",
            r#"[{"effect":"NoSchedule","key":"bare"}]"#,
        ),
    ] {
        assert_eq!(variable(injector, name), Some(value), "{name}");
    }
    assert!(
        find(&objects, "StatefulSet", "dapr-placement-server").is_none(),
        "actors are off"
    );
    let scheduler = the(&objects, "StatefulSet", "dapr-scheduler-server");
    for (flag, value) in [
        ("etcd-space-quota", "1Gi"),
        ("etcd-compaction-retention", "1h"),
        ("workers", "64"),
    ] {
        assert_eq!(argument(scheduler, flag), Some(value));
    }
    let pod = &scheduler["spec"]["template"];
    assert_eq!(pod["metadata"]["annotations"]["note"], "mine");
    assert_eq!(pod["spec"]["securityContext"]["fsGroup"], 2000);
    the(&objects, "ResourceQuota", "system-critical-quota");
    let config = the(&objects, "Configuration", "daprsystem");
    assert_eq!(config["spec"]["mtls"]["workloadCertTTL"], "1h");
}

#[tokio::test]
async fn an_image_with_a_slash_is_taken_as_it_stands() {
    let values = "global: {registry: registry.test/dapr, tag: 9}\n\
                  dapr_sentry: {image: {name: 'elsewhere.test/sentry@sha256:0'}}";
    let objects = render(values).await;
    for (name, image) in [
        ("dapr-operator", "registry.test/dapr/operator:9"),
        ("dapr-sentry", "elsewhere.test/sentry@sha256:0"),
    ] {
        assert_eq!(program(the(&objects, "Deployment", name))["image"], image);
    }
    let injector = the(&objects, "Deployment", "dapr-sidecar-injector");
    assert_eq!(
        variable(injector, "SIDECAR_IMAGE"),
        Some("registry.test/dapr/daprd:9")
    );
}

/// Keys of the Secret, keys of the ConfigMap, flags of sentry and what pods mount have to be the same names.
#[tokio::test]
async fn file_names_of_the_authority_hold_everywhere() {
    let own = "dapr_sentry: {tls: {root: {certPEM: ROOT}, issuer: {certPEM: CERT, keyPEM: KEY}}}";
    let named = format!(
        "global: {{issuerFilenames: {{ca: root.pem, cert: tls.crt, key: tls.key}}}}\n{own}"
    );
    for (values, ca, cert, key) in [
        (own, "ca.crt", "issuer.crt", "issuer.key"),
        (named.as_str(), "root.pem", "tls.crt", "tls.key"),
    ] {
        let objects = render(values).await;
        let secret = &the(&objects, "Secret", "dapr-trust-bundle")["data"];
        assert_eq!(
            *secret,
            json!({ ca: "Uk9PVA==", cert: "Q0VSVA==", key: "S0VZ" })
        );
        let map = &the(&objects, "ConfigMap", "dapr-trust-bundle")["data"];
        assert_eq!(*map, json!({ ca: "ROOT" }));
        let sentry = the(&objects, "Deployment", "dapr-sentry");
        assert_eq!(argument(sentry, "issuer-ca-filename"), Some(ca));
        assert_eq!(argument(sentry, "issuer-certificate-filename"), Some(cert));
        assert_eq!(argument(sentry, "issuer-key-filename"), Some(key));
        let mut mounting = 0;
        for workload in workloads(&objects).filter(|one| !is_hook(one)) {
            let volumes = workload["spec"]["template"]["spec"]["volumes"].as_array();
            for volume in volumes.into_iter().flatten() {
                if volume["configMap"]["name"] == "dapr-trust-bundle" {
                    mounting += 1;
                    let items = &volume["configMap"]["items"];
                    assert_eq!(*items, json!([{ "key": ca, "path": "ca.crt" }]));
                }
            }
        }
        assert_eq!(mounting, 4, "operator, injector, placement and scheduler");
    }
    for (names, why) in [
        ("{ca: a}", "ca, cert and key are needed together"),
        ("{ca: a, cert: a, key: b}", "need three names"),
        ("{ca: a/b, cert: c, key: d}", "global.issuerFilenames.ca"),
    ] {
        let said = refused(&format!("global: {{issuerFilenames: {names}}}")).await;
        assert!(said.contains(why), "{said}");
    }
}

/// The bundle is mounted also where the token is not, because another token is of no use without it.
#[tokio::test]
async fn without_its_token_a_pod_still_mounts_the_bundle() {
    let objects = render("global: {mtls: {mountSentryVolume: false}}").await;
    let pod = &the(&objects, "Deployment", "dapr-operator")["spec"]["template"]["spec"];
    let volumes = pod["volumes"].to_string();
    assert!(volumes.contains("dapr-trust-bundle") && !volumes.contains("dapr-identity-token"));
}

#[tokio::test]
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
            "demo/manifests/4-shelf.yaml",
            format!("image: localhost/dapr/sample:{version}"),
        ),
        (
            "demo/manifests/6-shop.yaml",
            format!("image: localhost/dapr/sample:{version}"),
        ),
    ] {
        let text = std::fs::read_to_string(repository().join(file)).expect(file);
        let said = text.lines().any(|one| one.trim() == line);
        assert!(said, "{file} does not say {line}");
    }
}
