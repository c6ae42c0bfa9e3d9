//! Which values the chart takes, and what it says to the others.

use serde_json::Value;

use crate::installation::repository;
use crate::render::{argument, refused, render, the};

#[tokio::test]
async fn what_cannot_work_is_refused_with_the_reason() {
    for (values, why) in [
        (
            "dapr_config: {dapr_default_system_config_name: mine}",
            "reads the Configuration daprsystem",
        ),
        (
            "dapr_sentry: {tls: {root: {certPEM: ROOT}}}",
            "are needed together",
        ),
        (
            "{global: {rbac: {namespaced: true}}, dapr_operator: {watchNamespace: apps}}",
            "set global.rbac.watchNamespace alone",
        ),
        (
            "global: {ha: {enabled: 'yes'}}",
            "at '/global/ha/enabled': got string, want boolean",
        ),
        (
            "global: {prometheus: {port: http}}",
            "/global/prometheus/port",
        ),
        (
            "global: {mtls: {workloadCertTTL: 1d}}",
            "/global/mtls/workloadCertTTL",
        ),
        (
            "dapr_sidecar_injector: {webhookFailurePolicy: Never}",
            "'Ignore', 'Fail'",
        ),
        (
            "dapr_scheduler: {etcdEmbed: false}",
            "etcdClientEndpoints has to name the etcd",
        ),
        (
            "dapr_scheduler: {etcdClientEndpoints: ['http://etcd:2379']}",
            "so of etcdEmbed=false",
        ),
        (
            "dapr_scheduler: {etcd: {enabled: true}, cluster: {inMemoryStorage: true}}",
            "does not take back a member that has lost its files",
        ),
        (
            "dapr_scheduler: {cluster: {folder: /jobs}}",
            "/dapr_scheduler/cluster/folder",
        ),
        (
            "dapr_operator: {image: {name: 5}}",
            "at '/dapr_operator/image/name': got number, want string",
        ),
    ] {
        let said = refused(values).await;
        assert!(said.contains(why), "{said}");
    }
}

/// Values files of upstream's users have keys that we have not, and types that upstream's templates bear.
#[tokio::test]
async fn what_upstream_accepts_is_accepted() {
    let values = r#"
        global: {tag: 1.16, unknown: 1, scheduler: {enabled: true}, extraVolumes: {scheduler: []}, imagePullSecrets: one,
          prometheus: {port: "9091"}, k8sLabels: {app.kubernetes.io/component: "{{ .Values.component }}"}}
        dapr_scheduler: {etcdDataDirPath: /data, cluster: {storageSize: 1Gi}, securityContext: {fsGroup: 1}, workers: "64"}
        dapr_operator: {watchInterval: 0, maxPodRestartsPerMinute: -1, nameOverride: x}
        dapr_rbac: {serviceAccount: {scheduler: {annotations: {a: b}}}}
        dapr_dashboard: {enabled: true}"#;
    let objects = render(values).await;
    let operator = the(&objects, "Deployment", "dapr-operator");
    assert_eq!(argument(operator, "metrics-port"), Some("9091"));
    assert_eq!(
        operator["metadata"]["labels"]["app.kubernetes.io/component"],
        "operator"
    );
}

/// A value without a type in the schema would be the one that breaks an installation (Q-chart-schema).
#[tokio::test]
async fn the_schema_knows_every_value() {
    let folder = repository().join("charts/dapr");
    let text = std::fs::read_to_string(folder.join("values.schema.json")).expect("the schema");
    let schema: Value = serde_json::from_str(&text).expect("JSON");
    let mut files = vec![(String::new(), folder.join("values.yaml"))];
    for part in std::fs::read_dir(folder.join("charts")).expect("the parts") {
        let part = part.expect("a part");
        let name = part.file_name().into_string().expect("UTF-8");
        files.push((format!("/{name}"), part.path().join("values.yaml")));
    }
    let mut unknown = Vec::new();
    for (place, path) in files {
        let text = std::fs::read_to_string(&path).expect("values");
        let values: Value = serde_saphyr::from_str(&text).expect("YAML");
        let mut at = &schema;
        if let Some(part) = place.strip_prefix('/') {
            at = &schema["properties"][part];
        }
        unknown_in(&schema, at, &values, &place, &mut unknown);
    }
    assert!(unknown.is_empty(), "{unknown:?}");
}

fn unknown_in(whole: &Value, at: &Value, value: &Value, place: &str, unknown: &mut Vec<String>) {
    let reference = at["$ref"].as_str().and_then(|text| text.strip_prefix('#'));
    let at = reference.map_or(at, |pointer| whole.pointer(pointer).unwrap_or(&Value::Null));
    if at.is_null() {
        unknown.push(place.to_owned());
        return;
    }
    let Some(properties) = at["properties"].as_object() else {
        return;
    };
    for (key, value) in value.as_object().into_iter().flatten() {
        let below = properties.get(key).unwrap_or(&Value::Null);
        unknown_in(whole, below, value, &format!("{place}/{key}"), unknown);
    }
}
