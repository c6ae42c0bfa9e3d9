//! The webhook through its router: status codes, decisions, counts.

use axum::body::Body;
use base64::Engine as _;
use http::Request;
use http_body_util::BodyExt as _;
use prometheus::Registry;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::webhook::body::MAX_REVIEW_BYTES;

struct Bench {
    webhook: Webhook,
    registry: Registry,
}

fn bench() -> Bench {
    let environment = |name: &str| match name {
        "NAMESPACE" => Some("dapr-system".to_owned()),
        "SIDECAR_IMAGE" => Some("daprd:1".to_owned()),
        _ => None,
    };
    let config = Config::from_environment(environment, true).unwrap();
    let requesters = Requesters::new(&[]).unwrap();
    let listers = Listers::new(kubernetes_fake::Fake::new().client(), "dapr-system");
    let registry = Registry::new();
    let meter = telemetry::Meter::new(&registry, telemetry::MetricOptions::default()).unwrap();
    let metrics = Metrics::new(&meter);
    let (_, anchors) = watch::channel(Arc::new(TrustBundle::default()));
    Bench {
        webhook: Webhook::new(config, requesters, listers, anchors, metrics),
        registry,
    }
}

impl Bench {
    async fn post(&self, content_type: &str, body: impl Into<Body>) -> (StatusCode, Vec<u8>) {
        let request = Request::post("/mutate")
            .header(header::CONTENT_TYPE, content_type)
            .body(body.into())
            .unwrap();
        let response = self
            .webhook
            .clone()
            .router()
            .oneshot(request)
            .await
            .unwrap();
        let status = response.status();
        (
            status,
            response
                .into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes()
                .to_vec(),
        )
    }

    async fn review(&self, kind: &str, group: &str, pod: Value) -> Value {
        let review = json!({
            "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
            "request": {"uid": "u-1", "kind": {"group": "", "version": "v1", "kind": kind}, "namespace": "shop-ns",
                        "operation": "CREATE", "userInfo": {"groups": [group]}, "object": pod},
        });
        let (status, body) = self.post(JSON, review.to_string()).await;
        assert_eq!(status, StatusCode::OK);
        serde_json::from_slice(&body).unwrap()
    }

    fn count(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name().contains(name));
        family.map_or(0.0, |family| {
            family
                .get_metric()
                .iter()
                .map(|m| m.get_counter().get_value())
                .sum()
        })
    }
}

fn pod(annotations: Value) -> Value {
    json!({"metadata": {"name": "shop", "annotations": annotations},
           "spec": {"containers": [{"name": "app", "image": "app:1"}]}})
}

#[tokio::test]
async fn http_errors() {
    let bench = bench();
    assert_eq!(bench.post(JSON, "").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(
        bench.post("text/plain", "{}").await.0,
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    );
    assert_eq!(
        bench.post(JSON, vec![b' '; MAX_REVIEW_BYTES + 1]).await.0,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    assert_eq!(bench.count("requests_total"), 3.0);
}

#[tokio::test]
async fn bad_json_is_refused_with_a_message() {
    let (status, body) = bench().post(JSON, "{").await;
    assert_eq!(status, StatusCode::OK);
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["response"]["allowed"], false);
    assert!(
        answer["response"]["status"]["message"]
            .as_str()
            .unwrap()
            .contains("cannot decode")
    );
}

/// Reviews that are none, or of which something is missing: the answer says what and where, and quotes little.
#[tokio::test]
async fn what_is_wrong_with_a_review_is_named() {
    let user = json!({"username": "system:serviceaccount:kube-system:job-controller"});
    let good = json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {"uid": "u-1", "kind": {"kind": "Pod"}, "namespace": "ns", "operation": "CREATE", "userInfo": user,
                    "object": pod(json!({"dapr.io/enabled": "true"}))},
    });
    let with = |path: &str, value: Value| {
        let mut review = good.clone();
        match path.rsplit_once('/') {
            Some((parent, name)) if value == Value::Null => {
                let parent = review.pointer_mut(parent).unwrap();
                parent.as_object_mut().unwrap().remove(name);
            }
            _ => *review.pointer_mut(path).unwrap() = value,
        }
        review.to_string()
    };
    let bench = bench();
    let whole = good.to_string();
    let long = "x".repeat(1 << 20);
    let mut many = good.clone();
    many["request"]["object"]["metadata"]["annotations"]["other"] = json!("x".repeat(300 << 10));
    for (body, expected) in [
        (whole[..whole.len() / 2].to_owned(), "EOF while parsing"),
        ("[".repeat(100_000), "cannot decode the AdmissionReview"),
        (with("/kind", json!("Pod")), "got \"Pod\" of"),
        (
            with("/apiVersion", json!(long.clone())),
            "got \"AdmissionReview\" of \"xxx",
        ),
        (with("/request", Value::Null), "no request"),
        (with("/request/uid", Value::Null), "no request.uid"),
        (
            with("/request/uid", json!(7)),
            "expected a string at line 1 column",
        ),
        (with("/request/object", Value::Null), "no request.object"),
        (
            with("/request/object/spec", json!(long)),
            "cannot read the pod in request.object: invalid type",
        ),
        (many.to_string(), "the annotations of request.object have"),
    ] {
        let (status, answer) = bench.post(JSON, body).await;
        assert_eq!(status, StatusCode::OK);
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["response"]["allowed"], false, "{expected}");
        let message = answer["response"]["status"]["message"].as_str().unwrap();
        assert!(message.contains(expected), "{expected:?} in {message:.300}");
        assert!(message.len() <= MAX_MESSAGE, "{}", message.len());
    }
    let mut removed = good.clone();
    removed["request"]["operation"] = json!("DELETE");
    removed["request"].as_object_mut().unwrap().remove("object");
    let (_, answer) = bench.post(JSON, removed.to_string()).await;
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["response"], json!({"uid": "u-1", "allowed": true}));
}

#[tokio::test]
async fn a_thousand_annotations_of_others_change_nothing() {
    let mut annotations = json!({"dapr.io/enabled": "true"});
    for number in 0..1000 {
        annotations[format!("example.com/note-{number}")] = json!("x".repeat(200));
        annotations[format!("dapr.io/unknown-{number}")] = json!("7");
    }
    let answer = bench()
        .review("Pod", "system:masters", pod(annotations))
        .await;
    assert_eq!(answer["response"]["allowed"], true);
    assert!(answer["response"]["patch"].is_string());
}

#[tokio::test]
async fn many_volumes_and_mounts_take_no_time() {
    let names: Vec<String> = (0..20_000).map(|number| format!("v{number}")).collect();
    let mounts: Vec<String> = names.iter().map(|name| format!("{name}:/m")).collect();
    let annotations = json!({"dapr.io/enabled": "true", "dapr.io/volume-mounts": mounts.join(",")});
    let mut pod = pod(annotations);
    pod["spec"]["volumes"] = names
        .iter()
        .rev()
        .map(|name| json!({"name": name}))
        .collect();
    let began = std::time::Instant::now();
    let answer = bench().review("Pod", "system:masters", pod).await;
    assert!(answer["response"]["patch"].is_string());
    assert!(
        began.elapsed() < std::time::Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_pod_that_opts_in_is_patched() {
    let bench = bench();
    let answer = bench
        .review(
            "Pod",
            "system:masters",
            pod(json!({"dapr.io/enabled": "True"})),
        )
        .await;
    assert_eq!(answer["response"]["uid"], "u-1");
    assert_eq!(answer["response"]["allowed"], true);
    let patch = answer["response"]["patch"].as_str().unwrap();
    let patch = base64::engine::general_purpose::STANDARD
        .decode(patch)
        .unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    let mut patched = pod(json!({"dapr.io/enabled": "True"}));
    json_patch::patch(&mut patched, &patch).unwrap();
    assert_eq!(patched["spec"]["containers"][1]["name"], "daprd");
    assert_eq!(patched["metadata"]["labels"]["dapr.io/app-id"], "shop");
    assert!(
        patched["spec"]["containers"][1]["args"]
            .as_array()
            .unwrap()
            .contains(&json!("--enable-mtls"))
    );
    assert_eq!(
        (bench.count("succeeded_total"), bench.count("failed_total")),
        (1.0, 0.0)
    );
}

#[tokio::test]
async fn other_pods_pass_uncounted() {
    let bench = bench();
    for annotations in [json!({}), json!({"dapr.io/enabled": "yes"}), json!(null)] {
        let answer = bench.review("Pod", "nobody", pod(annotations)).await;
        assert_eq!(answer["response"], json!({"uid": "u-1", "allowed": true}));
    }
    assert_eq!(
        (bench.count("succeeded_total"), bench.count("failed_total")),
        (0.0, 0.0)
    );
}

#[tokio::test]
async fn strangers_and_other_kinds_pass_but_count() {
    let bench = bench();
    let enabled = pod(json!({"dapr.io/enabled": "true"}));
    for (kind, group) in [
        ("Pod", "system:authenticated"),
        ("Deployment", "system:masters"),
    ] {
        let answer = bench.review(kind, group, enabled.clone()).await;
        assert_eq!(answer["response"], json!({"uid": "u-1", "allowed": true}));
    }
    assert_eq!(bench.count("failed_total"), 2.0);
}

#[tokio::test]
async fn what_cannot_work_is_refused_by_name() {
    let bench = bench();
    let refused = [
        (
            pod(json!({"dapr.io/enabled": "true", "dapr.io/app-id": "No_Good"})),
            "No_Good",
        ),
        (
            pod(json!({"dapr.io/enabled": "true", "dapr.io/max-body-size": "4ki"})),
            "dapr.io/max-body-size",
        ),
        (
            json!({"metadata": {"annotations": 7}}),
            "cannot read the pod",
        ),
        (
            json!({"metadata": {"name": "shop", "annotations": {"dapr.io/enabled": "true"}}}),
            "the pod has no spec",
        ),
    ];
    for (pod, expected) in refused {
        let answer = bench.review("Pod", "system:masters", pod).await;
        assert_eq!(
            (&answer["response"]["allowed"], &answer["response"]["uid"]),
            (&json!(false), &json!("u-1"))
        );
        let message = answer["response"]["status"]["message"].as_str().unwrap();
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(bench.count("failed_total"), 4.0);
}

#[tokio::test]
async fn a_second_sidecar_is_not_added() {
    let bench = bench();
    let mut pod = pod(json!({"dapr.io/enabled": "true"}));
    pod["spec"]["initContainers"] = json!([{"name": "daprd"}]);
    let answer = bench.review("Pod", "system:masters", pod).await;
    assert_eq!(answer["response"], json!({"uid": "u-1", "allowed": true}));
    assert_eq!(bench.count("succeeded_total"), 0.0);
}

#[tokio::test]
async fn values_that_are_passed_over_come_back_as_warnings() {
    for (name, value) in [("metrics-port", "many"), ("sidecar-memory-limit", "512MB")] {
        let mut annotations = json!({"dapr.io/enabled": "true"});
        annotations[format!("dapr.io/{name}")] = json!(value);
        let answer = bench()
            .review("Pod", "system:masters", pod(annotations))
            .await;
        let warning = answer["response"]["warnings"][0].as_str().unwrap();
        let named = format!("{value:?} for annotation dapr.io/{name}");
        assert!(warning.contains(&named), "{warning}");
    }
}
