//! The whole annotation table of the contract (4.4): what each annotation alone changes, and what holds without it.

use std::collections::BTreeSet;

use injector::Config;
use injector::patch::{Surroundings, build};
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};

/// An annotation without its prefix and a value for it; what the pod shows of it, and what it shows without. Either is
/// empty where there is nothing to see. What stands behind a `+` is there in both cases.
const TABLE: &[(&str, &str, &str, &str)] = &[
    ("app-id", "cart", "--app-id cart ", "--app-id shop "),
    ("app-port", "80", "--app-port 80 ", ""),
    (
        "app-protocol",
        "grpc",
        "--app-protocol grpc ",
        "--app-protocol http ",
    ),
    ("app-ssl", "true", "--app-ssl ", ""),
    (
        "app-channel-address",
        "10.0.0.1",
        "--app-channel-address 10.0.0.1 ",
        "",
    ),
    ("app-max-concurrency", "5", "--app-max-concurrency 5 ", ""),
    ("config", "mine", "--config mine ", ""),
    (
        "log-level",
        "debug",
        "--log-level debug ",
        "--log-level info ",
    ),
    ("log-as-json", "true", "--log-as-json ", ""),
    (
        "enable-api-logging",
        "false",
        "--enable-api-logging=false ",
        "",
    ),
    ("enable-profiling", "true", "--enable-profiling ", ""),
    (
        "enable-metrics",
        "false",
        "--enable-metrics=false ",
        "--enable-metrics --metrics-port 9090 ",
    ),
    (
        "metrics-port",
        "9091",
        "--metrics-port 9091 ",
        "--metrics-port 9090 ",
    ),
    (
        "enable-debug",
        "true",
        "/dlv --listen :40000 --accept-multiclient --headless=true --log --api-version=2 exec /daprd -- ",
        "",
    ),
    (
        "debug-port",
        "4",
        "/dlv --listen :4 ",
        "/dlv --listen :40000 +enable-debug=true",
    ),
    ("env", "A=1,B=x,y", "{\"name\":\"B\",\"value\":\"x,y\"}", ""),
    (
        "env-from-secret",
        "C=s:k",
        "{\"name\":\"C\",\"valueFrom\":{\"secretKeyRef\":{\"key\":\"k\",\"name\":\"s\"}}}",
        "",
    ),
    (
        "grpc-port",
        "51",
        "--dapr-grpc-port 51 ",
        "--dapr-grpc-port 50001 ",
    ),
    (
        "internal-grpc-port",
        "52",
        "--dapr-internal-grpc-port 52 ",
        "--dapr-internal-grpc-port 50002 ",
    ),
    (
        "sidecar-cpu-request",
        "1",
        "\"requests\":{\"cpu\":\"1\"}",
        "",
    ),
    ("sidecar-cpu-limit", "2", "\"limits\":{\"cpu\":\"2\"}", ""),
    (
        "sidecar-memory-request",
        "1Gi",
        "\"requests\":{\"memory\":\"1Gi\"}",
        "",
    ),
    (
        "sidecar-memory-limit",
        "2Gi",
        "\"limits\":{\"memory\":\"2Gi\"}",
        "",
    ),
    (
        "sidecar-listen-addresses",
        "0.0.0.0",
        "--dapr-listen-addresses 0.0.0.0 ",
        "--dapr-listen-addresses [::1],127.0.0.1 ",
    ),
    (
        "sidecar-liveness-probe-delay-seconds",
        "7",
        "\"livenessProbe\":{\"failureThreshold\":5,\"initialDelaySeconds\":7,",
        "\"livenessProbe\":{\"failureThreshold\":5,\"initialDelaySeconds\":180,",
    ),
    (
        "sidecar-liveness-probe-timeout-seconds",
        "7",
        "\"tcpSocket\":{\"port\":3501},\"timeoutSeconds\":7",
        "\"tcpSocket\":{\"port\":3501},\"timeoutSeconds\":3",
    ),
    (
        "sidecar-liveness-probe-period-seconds",
        "7",
        "\"periodSeconds\":7,\"tcpSocket\"",
        "\"periodSeconds\":10,\"tcpSocket\"",
    ),
    (
        "sidecar-liveness-probe-threshold",
        "7",
        "\"livenessProbe\":{\"failureThreshold\":7,",
        "\"livenessProbe\":{\"failureThreshold\":5,",
    ),
    (
        "sidecar-readiness-probe-delay-seconds",
        "7",
        "\"port\":3501},\"initialDelaySeconds\":7,",
        "\"port\":3501},\"initialDelaySeconds\":1,",
    ),
    (
        "sidecar-readiness-probe-timeout-seconds",
        "7",
        "\"initialDelaySeconds\":1,\"periodSeconds\":1,\"timeoutSeconds\":7",
        "\"initialDelaySeconds\":1,\"periodSeconds\":1,\"timeoutSeconds\":1",
    ),
    (
        "sidecar-readiness-probe-period-seconds",
        "7",
        "\"initialDelaySeconds\":1,\"periodSeconds\":7",
        "\"initialDelaySeconds\":1,\"periodSeconds\":1",
    ),
    (
        "sidecar-readiness-probe-threshold",
        "7",
        "\"readinessProbe\":{\"failureThreshold\":7,\"httpGet\":{\"path\":\"/v1.0/healthz\"",
        "\"readinessProbe\":{\"failureThreshold\":5,",
    ),
    (
        "sidecar-image",
        "my/daprd:2",
        "\"image\":\"my/daprd:2\"",
        "\"image\":\"daprd:1\"",
    ),
    (
        "sidecar-seccomp-profile-type",
        "RuntimeDefault",
        "\"seccompProfile\":{\"type\":\"RuntimeDefault\"}",
        "",
    ),
    (
        "http-max-request-size",
        "8",
        "--dapr-http-max-request-size 8 ",
        "",
    ),
    ("max-body-size", "16Mi", "--max-body-size 16Mi ", ""),
    (
        "http-read-buffer-size",
        "8",
        "--dapr-http-read-buffer-size 8 ",
        "",
    ),
    ("read-buffer-size", "32Ki", "--read-buffer-size 32Ki ", ""),
    (
        "graceful-shutdown-seconds",
        "20",
        "--dapr-graceful-shutdown-seconds 20 ",
        "--dapr-graceful-shutdown-seconds -1 ",
    ),
    (
        "block-shutdown-duration",
        "2s",
        "--dapr-block-shutdown-duration 2s ",
        "",
    ),
    (
        "unix-domain-socket-path",
        "/s",
        "--unix-domain-socket /var/run/dapr-sockets ",
        "",
    ),
    (
        "volume-mounts",
        "data:/d,none:/n",
        "{\"mountPath\":\"/d\",\"name\":\"data\",\"readOnly\":true}",
        "",
    ),
    (
        "volume-mounts-rw",
        "data:/d",
        "{\"mountPath\":\"/d\",\"name\":\"data\"}",
        "",
    ),
    (
        "disable-builtin-k8s-secret-store",
        "true",
        "--disable-builtin-k8s-secret-store ",
        "",
    ),
    (
        "enable-app-health-check",
        "true",
        "--enable-app-health-check --app-health-check-path /healthz --app-health-probe-interval 5 --app-health-probe-timeout 500 --app-health-threshold 3 ",
        "",
    ),
    (
        "app-health-check-path",
        "/live",
        "--app-health-check-path /live ",
        "--app-health-check-path /healthz +enable-app-health-check=true",
    ),
    (
        "app-health-probe-interval",
        "9",
        "--app-health-probe-interval 9 ",
        "--app-health-probe-interval 5 +enable-app-health-check=true",
    ),
    (
        "app-health-probe-timeout",
        "9",
        "--app-health-probe-timeout 9 ",
        "--app-health-probe-timeout 500 +enable-app-health-check=true",
    ),
    (
        "app-health-threshold",
        "9",
        "--app-health-threshold 9 ",
        "--app-health-threshold 3 +enable-app-health-check=true",
    ),
    (
        "app-binding-options-timeout",
        "30s",
        "--app-binding-options-timeout 30s ",
        "",
    ),
    (
        "placement-host-address",
        "mine:1",
        "--placement-host-address mine:1 ",
        "--placement-host-address dapr-placement-server.dapr-system.svc.c.local:50005 ",
    ),
    (
        "actors-disseminate-timeout",
        "10s",
        "--actors-disseminate-timeout 10s ",
        "",
    ),
    (
        "scheduler-host-address",
        "mine:1",
        "--scheduler-host-address mine:1 ",
        "--scheduler-host-address dapr-scheduler-server-a.dapr-system.svc.c.local:443 ",
    ),
    (
        "api-token-secret",
        "s",
        "{\"name\":\"DAPR_API_TOKEN\",\"valueFrom\":{\"secretKeyRef\":{\"key\":\"token\",\"name\":\"s\"}}}",
        "",
    ),
    (
        "app-token-secret",
        "s",
        "{\"name\":\"APP_API_TOKEN\",\"valueFrom\":{\"secretKeyRef\":{\"key\":\"token\",\"name\":\"s\"}}}",
        "",
    ),
    (
        "sentry-request-jwt-audiences",
        "one,two",
        "--sentry-request-jwt-audiences one,two ",
        "",
    ),
    (
        "pluggable-components",
        "app",
        "{\"name\":\"DAPR_COMPONENT_SOCKETS_FOLDER\",\"value\":\"/tmp/dapr-components-sockets\"}",
        "",
    ),
    (
        "pluggable-components-sockets-folder",
        "/c",
        "{\"mountPath\":\"/c\",\"name\":\"dapr-components-unix-domain-socket\"}",
        "{\"mountPath\":\"/tmp/dapr-components-sockets\",+pluggable-components=app",
    ),
    (
        "inject-pluggable-components",
        "true",
        "\"image\":\"component:1\"",
        "",
    ),
    (
        "disable-init-endpoints",
        "config",
        "--disable-init-endpoints config ",
        "",
    ),
    (
        "enable-native-sidecar",
        "true",
        "\"restartPolicy\":\"Always\"",
        "",
    ),
];

/// `enabled` is what the webhook asks before it builds a patch, the operator reads the second, and the third stands on
/// Components.
const ELSEWHERE: [&str; 3] = ["enabled", "sidecar-svc-annotations", "component-container"];

/// Everything that a pod with these annotations becomes: the arguments of its containers as words, the rest as JSON.
fn shown(annotations: &[(&str, &str)]) -> String {
    let environment = |name: &str| match name {
        "NAMESPACE" => Some("dapr-system".to_owned()),
        "SIDECAR_IMAGE" => Some("daprd:1".to_owned()),
        "KUBE_CLUSTER_DOMAIN" => Some("c.local".to_owned()),
        _ => None,
    };
    let config = Config::from_environment(environment, true).expect("a configuration");
    let component: Container =
        serde_json::from_value(json!({"name": "c", "image": "component:1"})).expect("a container");
    let around = Surroundings {
        namespace: "ns".to_owned(),
        mtls: true,
        trust_anchors: "pem".to_owned(),
        components: vec![component],
        native_sidecars: Some(true),
    };
    let annotations: serde_json::Map<String, Value> = annotations
        .iter()
        .map(|(name, value)| (format!("dapr.io/{name}"), json!(value)))
        .collect();
    let mut value = json!({
        "metadata": {"name": "shop", "annotations": annotations},
        "spec": {"containers": [{"name": "app", "image": "app:1"}], "volumes": [{"name": "data", "emptyDir": {}}]},
    });
    let pod: Pod = serde_json::from_value(value.clone()).expect("a pod");
    let injection = build(&pod, &around, &config).expect("an injection");
    assert!(injection.warnings.is_empty(), "{:?}", injection.warnings);
    json_patch::patch(&mut value, &injection.operations).expect("applies");
    let spec = &value["spec"];
    let lists = [&spec["containers"], &spec["initContainers"]];
    let containers = lists.into_iter().filter_map(Value::as_array).flatten();
    let words = containers.flat_map(|one| one["args"].as_array().into_iter().flatten());
    let words: Vec<&str> = words.filter_map(Value::as_str).collect();
    format!("{} \n{spec}", words.join(" "))
}

#[test]
fn every_annotation_does_what_the_contract_says() {
    let all: BTreeSet<&str> = include_str!("../annotations.txt")
        .split_whitespace()
        .collect();
    let covered: BTreeSet<&str> = TABLE.iter().map(|row| row.0).chain(ELSEWHERE).collect();
    let missing: Vec<_> = all.symmetric_difference(&covered).collect();
    assert!(missing.is_empty(), "not in both lists: {missing:?}");
    for (name, value, with, without) in TABLE {
        let (without, both) = without.split_once('+').unwrap_or((without, ""));
        let both: Vec<(&str, &str)> = both.split_once('=').into_iter().collect();
        let before = shown(&both);
        let after = shown(&[both.as_slice(), &[(*name, *value)]].concat());
        assert!(after.contains(with), "{name}: no {with:?} in {after}");
        assert!(!before.contains(with), "{name}: {with:?} without it");
        assert!(
            before.contains(without),
            "{name}: no {without:?} in {before}"
        );
        assert!(
            without.is_empty() || !after.contains(without),
            "{name}: {without:?} with it"
        );
    }
}
