//! What the injector reads: reviews, which anyone in a cluster may send, and the annotations of pods.

use std::str::from_utf8;

use injector::Config;
use injector::patch::{Error, Injection, Surroundings, build};
use injector::review;
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};
use settings::Settings;

fn config() -> Config {
    let environment = |name: &str| match name {
        "NAMESPACE" => Some("dapr-system".to_owned()),
        "SIDECAR_IMAGE" => Some("daprd:1".to_owned()),
        "KUBE_CLUSTER_DOMAIN" => Some("c.local".to_owned()),
        _ => None,
    };
    Config::from_environment(environment, true).expect("a configuration")
}

fn around() -> Surroundings {
    let component =
        json!({"name": "c", "image": "c:1", "volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    let component: Container = serde_json::from_value(component).expect("a container");
    Surroundings {
        namespace: "ns".to_owned(),
        mtls: true,
        trust_anchors: "pem".to_owned(),
        components: vec![component],
        native_sidecars: Some(true),
    }
}

/// What is promised of every pod: the patch applies to what was asked about, and the sidecar can read its arguments.
fn holds(object: &Value, built: &Result<Injection, Error>) {
    let Ok(injection) = built else { return };
    let mut patched = object.clone();
    json_patch::patch(&mut patched, &injection.operations).expect("the patch applies");
    let spec = &patched["spec"];
    let lists = [&spec["containers"], &spec["initContainers"]];
    let mut containers = lists.into_iter().filter_map(Value::as_array).flatten();
    if injection.operations.is_empty() {
        return;
    }
    let sidecar = containers.find(|one| one["name"] == "daprd");
    let args = sidecar.expect("a sidecar")["args"]
        .as_array()
        .expect("arguments");
    let args = args
        .iter()
        .map(|arg| arg.as_str().expect("text").to_owned());
    let of_daprd = args.skip_while(|arg| arg != "--dapr-http-port");
    let command = std::iter::once("daprd".to_owned()).chain(of_daprd);
    Settings::from_args(command, |_| None).expect("arguments that daprd can read");
}

#[test]
fn admission_reviews() {
    let (config, around) = (config(), around());
    fuzz::run("admission_reviews", |input| {
        let (_, Ok(request)) = review::parse(input) else {
            return;
        };
        assert!(!request.uid.is_empty());
        let Ok(Some(pod)) = request.pod() else { return };
        // What nobody reads may still be no text.
        let Ok(review) = serde_json::from_slice::<Value>(input) else {
            return;
        };
        holds(&review["request"]["object"], &build(&pod, &around, &config));
    });
}

/// An annotation without its prefix and its value on each line, with `=` between them.
#[test]
fn pod_annotations() {
    let (config, around) = (config(), around());
    fuzz::run("pod_annotations", |input| {
        let Ok(text) = from_utf8(input) else { return };
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let annotations: serde_json::Map<String, Value> = lines
            .map(|(name, value)| (format!("dapr.io/{name}"), json!(value)))
            .collect();
        let object = json!({
            "metadata": {"name": "shop", "annotations": annotations},
            "spec": {"containers": [{"name": "app", "image": "a"}, {"name": "store", "image": "b"}],
                     "volumes": [{"name": "data", "emptyDir": {}}]},
        });
        let pod: Pod = serde_json::from_value(object.clone()).expect("a pod");
        holds(&object, &build(&pod, &around, &config));
    });
}
