//! The injector before an API server that goes away, forgets, hangs, refuses, and lets others write over things.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::cluster::{CONFIGURATIONS, NAMESPACE, object};
use e2e::injector::{NAME, REGISTRATIONS, pod, registration, review, sidecar};
use e2e::mesh::Identity;
use e2e::{Ca, Cluster, Injector, Sentry, wait};
use kubernetes_fake::{Fault, On};
use serde_json::{Value, json};

/// The watch of an answer that began and does not go on is given up after 15 s, the registration looked at after 90 s.
const SLOW: Duration = Duration::from_secs(120);

const COMPONENTS: &str = "/apis/dapr.io/v1alpha1/components";

async fn cluster(sentry: &Sentry) -> Cluster {
    let cluster = Cluster::start().await;
    cluster.put_configuration(sentry, true);
    cluster.fake().put(REGISTRATIONS, registration());
    cluster
}

fn ca_bundle(cluster: &Cluster) -> Option<String> {
    let there = cluster.fake().object(REGISTRATIONS, "", NAME)?;
    let bundle = there["webhooks"][0]["clientConfig"]["caBundle"].as_str()?;
    let bytes = STANDARD.decode(bundle).expect("a bundle is base64");
    Some(String::from_utf8(bytes).expect("a bundle is PEM"))
}

/// Whether a pod that is made now gets a sidecar that is told to speak mutual TLS; the answer has to come promptly.
async fn told_mtls(injector: &Injector) -> bool {
    let pod = pod("shop", &[("enabled", "true")]);
    let review = injector.review("shop", &pod);
    let reply = wait::within("the answer to a review", Duration::from_secs(5), review).await;
    let answer = reply.expect_status(200).json();
    let sidecar = sidecar(&answer).expect("a sidecar");
    let args = sidecar["args"].as_array().expect("arguments");
    args.contains(&json!("--enable-mtls"))
}

async fn until_told_mtls(injector: &Injector, expected: bool, deadline: Duration) {
    let what = format!("sidecars with mtls={expected}");
    wait::eventually(&what, deadline, || async {
        told_mtls(injector).await == expected
    })
    .await;
}

/// Images of the component containers that a pod in `namespace` gets.
async fn component_images(injector: &Injector, namespace: &str) -> Vec<Value> {
    let annotations = [("enabled", "true"), ("inject-pluggable-components", "true")];
    let reply = injector.review(namespace, &pod("shop", &annotations)).await;
    let added = e2e::injector::patch(&reply.expect_status(200).json());
    let images = added
        .into_iter()
        .map(|step| step["value"].clone())
        .filter(|value| value["name"] != "daprd" && value["image"].is_string())
        .map(|value| value["image"].clone());
    images.collect()
}

fn pluggable(namespace: &str, name: &str) -> Value {
    let mut component = object(
        "Component",
        namespace,
        name,
        json!({"type": "state.x", "version": "v1", "metadata": []}),
    );
    component["metadata"]["annotations"] =
        json!({"dapr.io/component-container": json!({"image": name}).to_string()});
    component
}

#[tokio::test]
async fn it_registers_and_injects_and_stops() {
    let sentry = Sentry::start().await;
    let cluster = cluster(&sentry).await;
    let injector = Injector::builder(&sentry).start(&cluster).await;
    assert_eq!(ca_bundle(&cluster), Some(sentry.anchors_pem()));
    assert!(told_mtls(&injector).await);
    let answer = injector.review("shop", &pod("plain", &[])).await.json();
    assert_eq!(answer["response"], json!({"uid": "u-1", "allowed": true}));
    let metrics = injector.metrics().get("/metrics").await.text();
    for line in [
        "dapr_injector_sidecar_injection_requests_total 2",
        "dapr_injector_sidecar_injection_succeeded_total{app_id=\"shop\"} 1",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    injector.stop().await;
}

#[tokio::test]
async fn watches_that_break_or_are_too_old_go_on() {
    let sentry = Sentry::start().await;
    let cluster = cluster(&sentry).await;
    let injector = Injector::builder(&sentry).start(&cluster).await;
    let fake = cluster.fake();
    fake.until("watches", |fake| fake.watches() == 3).await;
    for expected in [false, true] {
        fake.drop_watches();
        cluster.put_configuration(&sentry, expected);
        until_told_mtls(&injector, expected, wait::DEADLINE).await;
        // what happened meanwhile is forgotten
        fake.fault(On::verb("watch").times(2), Fault::Break);
        fake.drop_watches();
        cluster.put_configuration(&sentry, !expected);
        fake.compact();
        until_told_mtls(&injector, !expected, wait::DEADLINE).await;
    }
    fake.fault(On::verb("watch").times(4), Fault::Status(429));
    fake.drop_watches();
    fake.remove(CONFIGURATIONS, NAMESPACE, "daprsystem");
    until_told_mtls(&injector, true, wait::DEADLINE).await;
    injector.stop().await;
}

#[tokio::test]
async fn a_list_that_hangs_once_it_is_acknowledged_is_asked_for_again() {
    let sentry = Sentry::start().await;
    let cluster = cluster(&sentry).await;
    let injector = Injector::builder(&sentry).start(&cluster).await;
    let fake = cluster.fake();
    fake.until("watches", |fake| fake.watches() == 3).await;
    fake.fault(On::verb("list").times(3), Fault::Stall);
    cluster.put_configuration(&sentry, false);
    fake.compact();
    fake.drop_watches();
    until_told_mtls(&injector, false, SLOW).await;
    injector.stop().await;
}

#[tokio::test]
async fn an_api_server_that_is_down_stops_no_injection() {
    let sentry = Sentry::start().await;
    let mut cluster = cluster(&sentry).await;
    cluster.put_configuration(&sentry, false);
    let injector = Injector::builder(&sentry).start(&cluster).await;
    until_told_mtls(&injector, false, wait::DEADLINE).await;
    cluster.go_down().await;
    assert!(!told_mtls(&injector).await, "what was known is still true");
    injector.health().get("/healthz").await.expect_status(200);
    cluster.put_configuration(&sentry, true);
    cluster.come_back().await;
    until_told_mtls(&injector, true, SLOW).await;
    injector.stop().await;
}

/// The rights of upstream's chart, which are those of a namespace: no watches, and of lists only the control plane's own.
#[tokio::test]
async fn an_injector_that_may_not_watch_starts_at_once_and_reads_what_it_may() {
    let sentry = Sentry::start().await;
    let cluster = cluster(&sentry).await;
    cluster.put_configuration(&sentry, false);
    let fake = cluster.fake();
    fake.put(COMPONENTS, pluggable(NAMESPACE, "own"));
    fake.put(COMPONENTS, pluggable("shop", "foreign"));
    fake.fault(On::verb("watch"), Fault::Status(403));
    fake.fault(On::verb("list").everywhere(), Fault::Status(403));
    fake.fault(On::verb("list").of("configurations"), Fault::Status(403));
    let mut injector = Injector::builder(&sentry).start(&cluster).await;
    // It says so where it gives up waiting for what it does not know.
    let log = injector.process().stdout();
    assert!(!log.contains("starting with defaults"), "{log}");
    assert!(!told_mtls(&injector).await);
    assert_eq!(component_images(&injector, NAMESPACE).await, ["own"]);
    assert!(component_images(&injector, "shop").await.is_empty());
    cluster.put_configuration(&sentry, true);
    until_told_mtls(&injector, true, wait::DEADLINE).await;
    injector.stop().await;
}

#[tokio::test]
async fn a_silent_api_server_delays_the_start_and_no_more() {
    let sentry = Sentry::start().await;
    let cluster = cluster(&sentry).await;
    cluster.put_configuration(&sentry, false);
    let fake = cluster.fake();
    fake.fault(On::verb("list"), Fault::Hang);
    let mut injector = Injector::builder(&sentry).start(&cluster).await;
    injector.process().logged("starting with defaults").await;
    assert!(told_mtls(&injector).await, "the default");
    fake.heal();
    until_told_mtls(&injector, false, SLOW).await;
    injector.stop().await;
}

#[tokio::test]
async fn a_registration_that_somebody_writes_over_is_restored() {
    let sentry = Sentry::start().await;
    let cluster = cluster(&sentry).await;
    let injector = Injector::builder(&sentry).start(&cluster).await;
    let wanted = Some(sentry.anchors_pem());
    assert_eq!(ca_bundle(&cluster), wanted);
    cluster.fake().put(REGISTRATIONS, registration());
    assert_eq!(ca_bundle(&cluster), None);
    wait::eventually("the caBundle to be there again", SLOW, || async {
        ca_bundle(&cluster) == wanted
    })
    .await;
    injector.stop().await;
}

/// A pod that reaches the port can write a review as an API server does, but not show its certificate.
#[tokio::test]
async fn where_api_servers_have_certificates_nobody_else_is_answered() {
    let sentry = Sentry::start().await;
    let cluster = cluster(&sentry).await;
    let (ours, theirs) = (Ca::new("api"), Ca::new("api"));
    let folder = e2e::process::folder("client-ca");
    let file = folder.path().join("ca.crt");
    std::fs::write(&file, ours.anchors_pem()).expect("the folder is ours");
    let injector = Injector::builder(&sentry)
        .arg(&format!("--client-ca-file={}", file.display()))
        .start(&cluster)
        .await;
    let review = review("shop", &pod("shop", &[("enabled", "true")]));
    let ask = async |identity: Option<Identity>| {
        let request = injector.webhook(identity.as_ref());
        let request = request.request(http::Method::POST, "/mutate").json(&review);
        request.attempt().await
    };
    let identity = |ca: &Ca| ca.identity("kube-system", "kube-apiserver");
    ask(None).await.expect_err("no certificate");
    ask(Some(identity(&theirs)))
        .await
        .expect_err("a certificate of somebody else");
    let reply = ask(Some(identity(&ours))).await.expect("an answer");
    assert!(sidecar(&reply.expect_status(200).json()).is_some());
    injector.stop().await;
}

/// Forged reviews are answered by the same rules as others, but make no series without end and are not read without end.
#[tokio::test]
async fn forged_reviews_cost_little() {
    let sentry = Sentry::start().await;
    let cluster = cluster(&sentry).await;
    let injector = Injector::builder(&sentry).start(&cluster).await;
    let webhook = injector.webhook(None);
    let post = |body: Vec<u8>| {
        webhook
            .request(http::Method::POST, "/mutate")
            .header("content-type", "application/json")
            .body(body)
    };
    for number in 0..5000 {
        let name = format!("app-{number}");
        let mut review = review("shop", &pod(&name, &[("enabled", "true")]));
        review["request"]["userInfo"]["username"] = json!("system:serviceaccount:shop:forger");
        let reply = post(review.to_string().into_bytes()).send().await;
        let answer = reply.expect_status(200).json();
        assert_eq!(answer["response"], json!({"uid": "u-1", "allowed": true}));
    }
    let metrics = injector.metrics().get("/metrics").await.text();
    let series = metrics.matches("injection_failed_total{").count();
    assert!(series <= 4097, "{series} series");
    let reply = post(vec![b' '; 9 << 20]).send().await;
    reply.expect_status(413);
    let truncated = post(review("shop", &Value::Null).to_string().into_bytes()[..90].to_vec());
    let answer = truncated.send().await.expect_status(200).json();
    assert_eq!(answer["response"]["allowed"], false);
    injector.stop().await;
}
