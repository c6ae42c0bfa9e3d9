//! Single rules of the patch; whole patches stand in `tests/golden`.

use k8s_openapi::api::core::v1::Toleration;

use super::*;

fn config() -> Config {
    let environment = |name: &str| match name {
        "NAMESPACE" => Some("dapr-system".to_owned()),
        "SIDECAR_IMAGE" => Some("daprd:1".to_owned()),
        "KUBE_CLUSTER_DOMAIN" => Some("c.local".to_owned()),
        _ => None,
    };
    let mut config = Config::from_environment(environment, true).unwrap();
    config.token_volume = false;
    config
}

fn around() -> Surroundings {
    Surroundings {
        namespace: "ns".into(),
        mtls: false,
        trust_anchors: "pem".into(),
        components: Vec::new(),
        native_sidecars: None,
    }
}

fn pod(annotations: &[(&str, &str)]) -> Pod {
    let annotations: serde_json::Map<String, Value> = annotations
        .iter()
        .map(|(name, value)| (format!("dapr.io/{name}"), json!(value)))
        .collect();
    let pod = json!({"metadata": {"name": "shop", "annotations": annotations},
                     "spec": {"containers": [{"name": "app"}]}});
    serde_json::from_value(pod).unwrap()
}

/// The pod after the patch.
fn patched(pod: &Pod, around: &Surroundings, config: &Config) -> Value {
    let injection = build(pod, around, config).unwrap();
    let mut value = serde_json::to_value(pod).unwrap();
    json_patch::patch(&mut value, &injection.operations).unwrap();
    value
}

fn args(annotations: &[(&str, &str)], config: &Config) -> String {
    let value = patched(&pod(annotations), &around(), config);
    let args = value["spec"]["containers"][1]["args"]
        .as_array()
        .unwrap()
        .clone();
    let words: Vec<&str> = args.iter().map(|arg| arg.as_str().unwrap()).collect();
    format!("{} ", words.join(" "))
}

#[test]
fn placement_comes_from_the_pod_or_the_installation() {
    let mut config = config();
    let placement = "--placement-host-address dapr-placement-server.dapr-system.svc.c.local:50005 ";
    assert!(args(&[], &config).contains(placement));
    assert!(
        args(&[("placement-host-address", "mine:1")], &config)
            .contains("--placement-host-address mine:1 ")
    );
    assert!(
        !args(&[("placement-host-address", " ")], &config).contains("--placement-host-address")
    );
    config.actors = Actors::Other("other".into(), Service::new("srv", 9));
    assert!(args(&[], &config).contains("--actors-service other:srv.dapr-system.svc.c.local:9 "));
    config.actors = Actors::Off;
    assert!(!args(&[], &config).contains("--placement-host-address"));
    assert!(
        args(&[("placement-host-address", "mine:1")], &config)
            .contains("--placement-host-address mine:1 ")
    );
}

#[test]
fn the_scheduler_is_told_only_where_there_is_one() {
    let mut config = config();
    config.scheduler = false;
    assert!(!args(&[], &config).contains("--scheduler-host-address"));
    assert!(
        args(&[("scheduler-host-address", "mine:1")], &config)
            .contains("--scheduler-host-address mine:1 ")
    );
    config.scheduler = true;
    let address = "--scheduler-host-address dapr-scheduler-server-a.dapr-system.svc.c.local:443 ";
    assert!(args(&[], &config).contains(address));
    assert!(
        args(&[("scheduler-host-address", "")], &config).contains("--scheduler-host-address  ")
    );
}

#[test]
fn the_entry_point_of_the_image_is_kept_unless_tolerated() {
    let mut config = config();
    let toleration = Toleration {
        key: Some("k".into()),
        ..Toleration::default()
    };
    config.entrypoint_tolerations = vec![toleration.clone()];
    let mut pod = pod(&[]);
    let container = |pod: &Pod| patched(pod, &around(), &config)["spec"]["containers"][1].clone();
    assert_eq!(
        (&container(&pod)["args"][0], &container(&pod)["command"]),
        (&json!("/daprd"), &Value::Null)
    );
    pod.spec.as_mut().unwrap().tolerations = Some(vec![toleration]);
    assert_eq!(container(&pod)["command"], json!(["/daprd"]));
    assert_eq!(container(&pod)["args"][0], "--dapr-http-port");
}

#[test]
fn native_sidecars_are_for_clusters_that_have_them() {
    let is_native = |setting, annotation: Option<&str>, cluster| {
        let config = Config {
            native_sidecar: setting,
            ..config()
        };
        let around = Surroundings {
            native_sidecars: cluster,
            ..around()
        };
        let annotations = annotation.map(|value| ("enable-native-sidecar", value));
        let pod = pod(annotations.as_slice());
        let warned = !build(&pod, &around, &config).unwrap().warnings.is_empty();
        let native = patched(&pod, &around, &config)["spec"]["initContainers"].is_array();
        (native, warned)
    };
    use NativeSidecar::{No, WhereSupported, Yes};
    for (setting, annotation, cluster, expected) in [
        (No, None, Some(true), (false, false)),
        (No, Some("true"), Some(true), (true, false)),
        (No, Some("true"), None, (true, false)),
        (No, Some("true"), Some(false), (false, true)),
        (Yes, None, None, (true, false)),
        (Yes, None, Some(false), (false, true)),
        (Yes, Some("false"), Some(true), (false, false)),
        (WhereSupported, None, Some(true), (true, false)),
        (WhereSupported, None, None, (false, false)),
        (WhereSupported, None, Some(false), (false, false)),
        (WhereSupported, Some("false"), Some(true), (false, false)),
    ] {
        let found = is_native(setting, annotation, cluster);
        assert_eq!(found, expected, "{setting:?} {annotation:?} {cluster:?}");
    }
}

#[test]
fn windows_certificates_need_an_administrator() {
    let mut config = config();
    config.run_as_user = Some(1000);
    let value = patched(
        &pod(&[("env", "SSL_CERT_DIR=C:/certs")]),
        &around(),
        &config,
    );
    let context = &value["spec"]["containers"][1]["securityContext"];
    assert_eq!(
        context["windowsOptions"]["runAsUserName"],
        "ContainerAdministrator"
    );
    assert_eq!(
        (&context["runAsNonRoot"], &context["runAsUser"]),
        (&json!(false), &Value::Null)
    );
}

#[test]
fn the_restricted_pod_security_standard_holds() {
    let mut config = config();
    config.drop_all_capabilities = true;
    let context = |pod: &Pod, config: &Config| {
        patched(pod, &around(), config)["spec"]["containers"][1]["securityContext"].clone()
    };
    let expected = json!({
        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true,
        "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"},
    });
    assert_eq!(
        context(
            &pod(&[("sidecar-seccomp-profile-type", "RuntimeDefault")]),
            &config
        ),
        expected
    );
    config.seccomp_profile_type = Some("RuntimeDefault".into());
    assert_eq!(context(&pod(&[]), &config), expected);
}

#[test]
fn resources_are_all_or_none() {
    let resources = |annotations: &[(&str, &str)]| {
        patched(&pod(annotations), &around(), &config())["spec"]["containers"][1]["resources"]
            .clone()
    };
    let asked = [
        ("sidecar-cpu-request", "0.5"),
        ("sidecar-memory-limit", "1024Mi"),
    ];
    assert_eq!(
        resources(&asked),
        json!({"requests": {"cpu": "500m"}, "limits": {"memory": "1Gi"}})
    );
    assert_eq!(
        resources(&[asked[0], ("sidecar-memory-limit", "lots")]),
        Value::Null
    );
}

#[test]
fn volumes_of_the_pod_stay_and_are_mounted_when_they_exist() {
    let mut pod = pod(&[
        ("volume-mounts", "have:/a,miss:/b,bad"),
        ("volume-mounts-rw", "have:/c"),
        ("unix-domain-socket-path", "/s"),
    ]);
    pod.spec.as_mut().unwrap().volumes = Some(vec![
        serde_json::from_value(json!({"name": "have"})).unwrap(),
    ]);
    let value = patched(&pod, &around(), &config());
    let mounts = &value["spec"]["containers"][1]["volumeMounts"];
    assert_eq!(
        *mounts,
        json!([{"name": "have", "mountPath": "/a", "readOnly": true}, {"name": "have", "mountPath": "/c"},
               {"name": "dapr-unix-domain-socket", "mountPath": "/var/run/dapr-sockets"}])
    );
    assert_eq!(value["spec"]["volumes"][1]["emptyDir"]["medium"], "Memory");
    assert_eq!(
        value["spec"]["containers"][0]["volumeMounts"][0]["mountPath"],
        "/s"
    );
}

#[test]
fn the_app_keeps_its_own_variables() {
    let mut pod = pod(&[("app-protocol", "GRPC"), ("app-ssl", "true")]);
    let own = json!([{"name": "DAPR_HTTP_PORT", "value": "1"}]);
    pod.spec.as_mut().unwrap().containers[0].env = Some(serde_json::from_value(own).unwrap());
    let env = patched(&pod, &around(), &config())["spec"]["containers"][0]["env"].clone();
    assert_eq!(
        env,
        json!([{"name": "DAPR_HTTP_PORT", "value": "1"}, {"name": "DAPR_GRPC_PORT", "value": "50001"},
               {"name": "APP_PROTOCOL", "value": "grpcs"}])
    );
}

#[test]
fn a_pod_without_a_name_needs_an_app_id() {
    let mut pod = pod(&[]);
    pod.metadata.name = None;
    let refusal = |pod: &Pod| build(pod, &around(), &config()).unwrap_err().to_string();
    let plain = "app id is empty: the pod has no annotation dapr.io/app-id";
    assert_eq!(refusal(&pod), plain);
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert("dapr.io/id".to_owned(), "app".to_owned());
    let old = "; dapr.io/id, which it has, is an old name that is not read any more";
    assert_eq!(refusal(&pod), format!("{plain}{old}"));
}
