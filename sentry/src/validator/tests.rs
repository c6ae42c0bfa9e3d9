//! Tests of the validators, with a scripted API server.

use kubernetes_fake::{Answer, Fake};
use serde_json::{Value, json};

use super::*;
use crate::api_server::ApiServer;
use crate::ca::images::Role;

fn request(id: &str, namespace: &str) -> SignCertificateRequest {
    SignCertificateRequest {
        id: id.into(),
        namespace: namespace.into(),
        token: format!(
            "e30.{}.c2ln",
            base64(&json!({"kubernetes.io": {"pod": {"name": "pod-1"}}}))
        ),
        certificate_signing_request: b"csr".to_vec().into(),
        ..SignCertificateRequest::default()
    }
}

fn base64(value: &Value) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string())
}

/// An API server with one pod, one Configuration, and one opinion on tokens.
fn cluster(review: Value, pod: Value, trust_domain: &'static str) -> ApiServer {
    let fake = Fake::scripted(move |seen| {
        Some(match seen.path.as_str() {
            "/apis/authentication.k8s.io/v1/tokenreviews" => {
                assert_eq!(seen.content_type, "application/json");
                let audiences = json!([
                    "dapr.io/sentry",
                    "spiffe://cluster.local/ns/dapr-system/dapr-sentry"
                ]);
                assert_eq!(seen.body["spec"]["audiences"], audiences);
                Answer::object(json!({ "status": review }))
            }
            "/api/v1/namespaces/default/pods/pod-1"
            | "/api/v1/namespaces/dapr-system/pods/pod-1" => Answer::object(pod.clone()),
            "/apis/dapr.io/v1alpha1/namespaces/default/configurations/mine" => {
                Answer::object(json!({"spec": {"accessControl": {"trustDomain": trust_domain}}}))
            }
            _ => Answer::status(404),
        })
    });
    ApiServer::new(fake.client())
}

fn validators(api: ApiServer) -> Validators {
    let sentry = SpiffeId::new("cluster.local", "dapr-system", "dapr-sentry").unwrap();
    Validators {
        kubernetes: Some(KubernetesValidator::new(api, &sentry)),
        jwks: None,
    }
}

async fn check(
    validators: &Validators,
    request: &SignCertificateRequest,
) -> Result<Granted, Refused> {
    validators.choose(request)?.check(request).await
}

fn known(namespace: &str) -> Value {
    json!({"authenticated": true, "user": {"username": format!("system:serviceaccount:{namespace}:account")}})
}

fn pod(annotations: Value) -> Value {
    json!({"metadata": {"annotations": annotations}, "spec": {"serviceAccountName": "account"}, "status": {}})
}

#[tokio::test]
async fn the_pod_decides_on_the_identity() {
    for (annotations, namespace, id, expected) in [
        (
            json!(null),
            "default",
            "pod-1",
            Ok("spiffe://public/ns/default/pod-1"),
        ),
        (
            json!({"dapr.io/app-id": "app"}),
            "default",
            "app",
            Ok("spiffe://public/ns/default/app"),
        ),
        (
            json!({"dapr.io/app-id": "app"}),
            "default",
            "other",
            Err("identity is app"),
        ),
        (
            json!({"dapr.io/app-id": "app", "dapr.io/config": "mine"}),
            "default",
            "app",
            Ok("spiffe://mine.domain/ns/default/app"),
        ),
        (
            json!({"dapr.io/app-id": "app", "dapr.io/config": "absent"}),
            "default",
            "app",
            Err("configuration"),
        ),
        (
            json!({"dapr.io/app-id": "app", "dapr.io/config": "../x"}),
            "default",
            "app",
            Err("configuration"),
        ),
        (
            json!({"dapr.io/control-plane": "operator"}),
            "dapr-system",
            "dapr-operator",
            Ok("spiffe://cluster.local/ns/dapr-system/dapr-operator"),
        ),
        (
            json!({"dapr.io/control-plane": "operator"}),
            "default",
            "dapr-operator",
            Err("not taken from"),
        ),
        (
            json!({"dapr.io/control-plane": "other"}),
            "dapr-system",
            "dapr-other",
            Err("no known"),
        ),
        (
            json!({"dapr.io/control-plane": "operator", "dapr.io/app-id": "app"}),
            "dapr-system",
            "dapr-operator",
            Err("must not have"),
        ),
    ] {
        let validators = validators(cluster(
            known(namespace),
            pod(annotations.clone()),
            "mine.domain",
        ));
        match (check(&validators, &request(id, namespace)).await, expected) {
            (Ok(granted), Ok(expected)) => assert_eq!(granted.id.to_string(), expected),
            (Err(refused), Err(expected)) => {
                assert!(refused.to_string().contains(expected), "{refused}")
            }
            (found, expected) => panic!("{annotations}: {found:?}, expected {expected:?}"),
        }
    }
}

#[tokio::test]
async fn tokens_must_be_those_of_the_pods_account() {
    let ours = pod(json!({"dapr.io/app-id": "app"}));
    let ask = async |review: Value, request: SignCertificateRequest| {
        let validators = validators(cluster(review, ours.clone(), "x"));
        let refused = check(&validators, &request).await;
        refused.map_or_else(
            |refused| refused.to_string(),
            |granted| granted.id.to_string(),
        )
    };
    let request = || request("app", "default");
    assert_eq!(
        ask(known("default"), request()).await,
        "spiffe://public/ns/default/app"
    );
    assert!(
        ask(json!({"authenticated": false}), request())
            .await
            .contains("does not know")
    );
    assert!(
        ask(json!({"error": "expired"}), request())
            .await
            .contains("refuses the token: expired")
    );
    let user = json!({"authenticated": true, "user": {"username": "system:admin"}});
    assert!(
        ask(user, request())
            .await
            .contains("not that of a service account")
    );
    let other =
        json!({"authenticated": true, "user": {"username": "system:serviceaccount:default:other"}});
    assert!(
        ask(other, request())
            .await
            .contains("service account of the pod default/pod-1")
    );
    let elsewhere = SignCertificateRequest {
        namespace: "prod".into(),
        ..request()
    };
    assert!(
        ask(known("default"), elsewhere)
            .await
            .contains("not from namespace")
    );
    for token in [
        "",
        "x",
        "a.b.c",
        "e30.e30.c2ln",
        "e30.eyJrdWJlcm5ldGVzLmlvIjp7InBvZCI6e319fQ.c2ln",
    ] {
        let broken = SignCertificateRequest {
            token: token.into(),
            ..request()
        };
        assert!(
            ask(known("default"), broken).await.contains("oken"),
            "{token}"
        );
    }
}

#[tokio::test]
async fn a_token_may_be_bare_claims() {
    let ours = pod(json!({"dapr.io/app-id": "app"}));
    for (token, granted) in [
        (r#" {"kubernetes.io":{"pod":{"name":"pod-1"}}}"#, true),
        (r#"{"kubernetes.io":{"pod":{"name":"pod-2"}}}"#, false),
        (r#"{"kubernetes.io":{"pod":{"name":"pod-1"}}"#, false),
        ("{}", false),
    ] {
        let request = SignCertificateRequest {
            token: token.into(),
            ..request("app", "default")
        };
        let validators = validators(cluster(known("default"), ours.clone(), "x"));
        assert_eq!(
            check(&validators, &request).await.is_ok(),
            granted,
            "{token}"
        );
    }
}

#[test]
fn unverified_tokens_are_told_from_wrong_claims() {
    for (error, expected) in [
        (tokens::Error::UnknownKey, true),
        (tokens::Error::Signature, true),
        (tokens::Error::NotReady, false),
    ] {
        let text = Refused::Token(error).to_string();
        assert!(text.starts_with("token validation failed: "), "{text}");
        assert_eq!(
            text.contains("could not verify message"),
            expected,
            "{text}"
        );
    }
}

#[tokio::test]
async fn images_of_the_pod_are_listed() {
    let pod = json!({
        "metadata": {"annotations": {"dapr.io/app-id": "app"}},
        "spec": {
            "serviceAccountName": "account",
            "initContainers": [
                {"name": "daprd", "image": "dapr:1", "restartPolicy": "Always"},
                {"name": "setup", "image": "setup:1"}
            ],
            "containers": [{"name": "web", "image": "web:1"}, {"name": "new", "image": "new:1"}]
        },
        "status": {
            "initContainerStatuses": [{"name": "daprd", "imageID": "docker.io/dapr@sha256:1"}],
            "containerStatuses": [{"name": "web", "imageID": "sha256:2"}]
        }
    });
    let validators = validators(cluster(known("default"), pod, "x"));
    let granted = check(&validators, &request("app", "default"))
        .await
        .unwrap();
    let found: Vec<_> = granted
        .images
        .iter()
        .map(|i| (i.role, i.container_name.as_str(), i.digest.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (Role::Daprd, "daprd", "sha256:1"),
            (Role::App, "web", "sha256:2"),
            (Role::App, "new", "")
        ]
    );
}

#[tokio::test]
async fn requests_need_their_parts_and_an_enabled_validator() {
    let open = Validators {
        kubernetes: None,
        jwks: None,
    };
    let ask = async |request: SignCertificateRequest| {
        check(&open, &request)
            .await
            .map_err(|refused| refused.to_string())
            .map(|granted| granted.id.to_string())
    };
    let good = || request("app", "default");
    assert_eq!(ask(good()).await.unwrap(), "spiffe://public/ns/default/app");
    let domain = SignCertificateRequest {
        trust_domain: "mine".into(),
        ..good()
    };
    assert_eq!(ask(domain).await.unwrap(), "spiffe://mine/ns/default/app");
    for (broken, reason) in [
        (request("", "default"), "empty"),
        (request("a.b", "default"), "dots"),
        (request(&"a".repeat(65), "default"), "64"),
        (request("app", ""), "namespace"),
        (
            SignCertificateRequest {
                certificate_signing_request: Vec::new().into(),
                ..good()
            },
            "CSR",
        ),
        (
            SignCertificateRequest {
                trust_domain: "NOT".into(),
                ..good()
            },
            "trust domain",
        ),
        (
            SignCertificateRequest {
                token_validator: TokenValidator::Jwks.into(),
                ..good()
            },
            "not enabled",
        ),
        (
            SignCertificateRequest {
                token_validator: TokenValidator::Kubernetes.into(),
                ..good()
            },
            "not enabled",
        ),
    ] {
        let refused = ask(broken).await.unwrap_err();
        assert!(refused.contains(reason), "{refused}");
    }
    let strange = SignCertificateRequest {
        token_validator: -1,
        ..good()
    };
    assert!(matches!(
        check(&open, &strange).await,
        Err(Refused::NotEnabled)
    ));
    assert!(ask(request(&"a".repeat(64), "default")).await.is_ok());
    let clustered = validators(cluster(known("default"), pod(json!({})), "x"));
    let insecure = SignCertificateRequest {
        token_validator: TokenValidator::Insecure.into(),
        ..good()
    };
    assert!(matches!(
        check(&clustered, &insecure).await,
        Err(Refused::NotEnabled)
    ));
}

#[tokio::test]
async fn a_token_counts_for_its_audience_only() {
    let pods = pod(json!({"dapr.io/app-id": "app"}));
    let ask = async |reviewed: Value, own: Value| {
        let mut review = known("default");
        review["audiences"] = reviewed;
        let claims = json!({"kubernetes.io": {"pod": {"name": "pod-1"}}, "aud": own});
        let request = SignCertificateRequest {
            token: format!("e30.{}.c2ln", base64(&claims)),
            ..request("app", "default")
        };
        check(&validators(cluster(review, pods.clone(), "x")), &request).await
    };
    let (ours, legacy) = (
        "spiffe://cluster.local/ns/dapr-system/dapr-sentry",
        "dapr.io/sentry",
    );
    let elsewhere = "https://kubernetes.default.svc";
    assert!(ask(json!([ours]), json!([ours, "x"])).await.is_ok());
    assert!(ask(json!([legacy]), json!(legacy)).await.is_ok());
    assert!(ask(json!([]), json!([ours])).await.is_ok());
    assert!(ask(Value::Null, Value::Null).await.is_ok());
    for (reviewed, own) in [
        (json!([elsewhere]), json!([ours])),
        (json!([]), json!([elsewhere])),
        (Value::Null, json!(elsewhere)),
    ] {
        let refused = ask(reviewed, own).await.unwrap_err().to_string();
        assert!(
            refused.contains(elsewhere) && refused.contains(legacy),
            "{refused}"
        );
    }
}

/// A key set and a token for an identity, signed with it.
fn jwks(id: &str) -> (tokens::Jwks, tokens::Runner, String) {
    use base64::Engine as _;
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let x = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(pair.public_key_raw());
    let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": x}]});
    let (keys, runner) = tokens::Jwks::new(tokens::Options::new(set.to_string())).unwrap();
    let claims = json!({
        "aud": "spiffe://cluster.local/ns/dapr-system/dapr-sentry", "sub": id,
        "exp": jiff::Timestamp::now().as_second() + 60,
    });
    let key = jsonwebtoken::EncodingKey::from_ed_der(&pair.serialize_der());
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::EdDSA);
    let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
    (keys, runner, token)
}

#[tokio::test]
async fn keys_of_apps_make_no_control_plane_in_a_cluster() {
    let sentry = SpiffeId::new("cluster.local", "dapr-system", "dapr-sentry").unwrap();
    for (namespace, id, domain, in_cluster, granted) in [
        ("dapr-system", "dapr-operator", "cluster.local", true, false),
        ("dapr-system", "dapr-operator", "public", true, false),
        ("dapr-system", "dapr-sentry", "cluster.local", true, false),
        ("dapr-system", "dapr-operator", "cluster.local", false, true),
        ("dapr-system", "app", "public", true, true),
        ("default", "dapr-operator", "public", true, true),
    ] {
        let (keys, runner, token) = jwks(&format!("spiffe://{domain}/ns/{namespace}/{id}"));
        let request = SignCertificateRequest {
            token,
            trust_domain: domain.into(),
            token_validator: TokenValidator::Jwks.into(),
            ..request(id, namespace)
        };
        let validators = Validators {
            kubernetes: None,
            jwks: Some(JwksValidator::new(
                keys.clone(),
                &sentry,
                in_cluster,
                std::sync::Arc::new(values::SystemClock),
            )),
        };
        let asked = async {
            keys.ready().await;
            check(&validators, &request).await
        };
        let found = tokio::select! {
            found = asked => found,
            ended = runner.run(tokio_util::sync::CancellationToken::new()) => panic!("{ended:?}"),
        };
        assert_eq!(found.is_ok(), granted, "{id} in {namespace}: {found:?}");
    }
}
