//! Sentry and mTLS between sidecars (contract 6; process behaviour 1.6).

use e2e::app::Answer;
use e2e::mesh::{self, Tls};
use e2e::{App, Ca, Daprd, Sentry, ports};
use http::Method;
use proto::common::v1::http_extension::Verb;
use proto::common::v1::{HttpExtension, InvokeRequest};
use proto::internals::v1::service_invocation_client::ServiceInvocationClient;
use proto::internals::v1::{ApiVersion, InternalInvokeRequest};
use proto::sentry::v1::ca_client::CaClient;
use proto::sentry::v1::sign_certificate_request::TokenValidator;
use proto::sentry::v1::{SignCertificateRequest, SignCertificateResponse};
use tonic::{Code, Status};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::resources::configuration;

fn request(id: &str) -> SignCertificateRequest {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let csr = rcgen::CertificateParams::default()
        .serialize_request(&key)
        .expect("a request");
    SignCertificateRequest {
        id: id.into(),
        namespace: "shop".into(),
        trust_domain: "example.org".into(),
        certificate_signing_request: csr.pem().expect("PEM").into_bytes().into(),
        token_validator: TokenValidator::Insecure.into(),
        ..Default::default()
    }
}

async fn sign(
    sentry: &Sentry,
    request: SignCertificateRequest,
) -> Result<SignCertificateResponse, Status> {
    let tls = Tls::new(sentry.anchor(), None);
    CaClient::new(tls.channel(sentry.port()))
        .sign_certificate(request)
        .await
        .map(tonic::Response::into_inner)
}

fn uris(der: &[u8]) -> Vec<String> {
    let (_, certificate) = X509Certificate::from_der(der).expect("a certificate");
    let names = certificate
        .subject_alternative_name()
        .expect("valid")
        .expect("there")
        .value
        .general_names
        .clone();
    let uri = |name| {
        if let GeneralName::URI(uri) = name {
            Some(uri.to_owned())
        } else {
            None
        }
    };
    names.into_iter().filter_map(uri).collect()
}

#[tokio::test]
async fn sentry_signs_what_it_is_asked() {
    e2e::mesh::install_provider();
    let sentry = Sentry::start().await;
    let response = sign(&sentry, request("orders")).await.expect("signed");
    let chain: Vec<Pem> = Pem::iter_from_buffer(&response.workload_certificate)
        .map(|pem| pem.expect("PEM"))
        .collect();
    assert_eq!(chain.len(), 2, "leaf and issuer");
    assert_eq!(
        uris(&chain[0].contents),
        ["spiffe://example.org/ns/shop/orders"]
    );
    let (_, leaf) = X509Certificate::from_der(&chain[0].contents).expect("a certificate");
    let (_, issuer) = X509Certificate::from_der(&chain[1].contents).expect("a certificate");
    leaf.verify_signature(Some(issuer.public_key()))
        .expect("signed by the issuer");
    assert!(!leaf.is_ca());
    assert_eq!(leaf.subject().iter().count(), 0);
    let usage = leaf
        .extended_key_usage()
        .expect("valid")
        .expect("there")
        .value
        .clone();
    assert!(usage.server_auth && usage.client_auth);
    let lifetime =
        (leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp()) / 3600;
    assert!((24..=25).contains(&lifetime), "{lifetime} h");
    let anchors = &response.trust_chain_certificates[0];
    assert_eq!(
        String::from_utf8_lossy(anchors).trim(),
        sentry.anchors_pem().trim()
    );

    let page = sentry
        .metrics()
        .get("/metrics")
        .await
        .expect_status(200)
        .text();
    assert!(
        page.contains("dapr_sentry_cert_sign_success_total 1"),
        "{page}"
    );
    sentry.stop().await;
}

#[tokio::test]
async fn sentry_shows_its_own_identity() {
    let sentry = Sentry::start().await;
    let tls = Tls::new(sentry.anchor(), None);
    let mut client = CaClient::new(tls.channel(sentry.port()));
    client.sign_certificate(request("a")).await.expect("signed");
    assert_eq!(
        uris(&tls.server_chain()[0]),
        ["spiffe://localhost/ns/default/dapr-sentry"]
    );
    sentry.stop().await;
}

#[tokio::test]
async fn sentry_refuses_bad_requests() {
    let sentry = Sentry::start().await;
    let good = request("a");
    let bad = [
        (
            "no id",
            SignCertificateRequest {
                id: String::new(),
                ..good.clone()
            },
        ),
        (
            "an id with dots",
            SignCertificateRequest {
                id: "a.b".into(),
                ..good.clone()
            },
        ),
        (
            "a long id",
            SignCertificateRequest {
                id: "a".repeat(65),
                ..good.clone()
            },
        ),
        (
            "no namespace",
            SignCertificateRequest {
                namespace: String::new(),
                ..good.clone()
            },
        ),
        (
            "no CSR",
            SignCertificateRequest {
                certificate_signing_request: "".into(),
                ..good.clone()
            },
        ),
        (
            "no PEM",
            SignCertificateRequest {
                certificate_signing_request: "hello".into(),
                ..good.clone()
            },
        ),
        (
            "broken DER",
            SignCertificateRequest {
                certificate_signing_request: BROKEN.into(),
                ..good.clone()
            },
        ),
    ];
    for (what, request) in bad {
        let error = sign(&sentry, request).await.expect_err(what);
        assert!(
            matches!(error.code(), Code::InvalidArgument | Code::PermissionDenied),
            "{what}: {error}"
        );
    }
    let jwks = SignCertificateRequest {
        token_validator: TokenValidator::Jwks.into(),
        ..good.clone()
    };
    assert_eq!(
        sign(&sentry, jwks).await.expect_err("not enabled").code(),
        Code::InvalidArgument
    );
    sign(&sentry, good).await.expect("it still signs");
    sentry.stop().await;
}

const BROKEN: &str =
    "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";

#[tokio::test]
async fn sentry_makes_credentials_of_its_own() {
    let sentry = Sentry::builder().without_credentials().start().await;
    let response = sign(&sentry, request("a")).await.expect("signed");
    assert!(!response.workload_certificate.is_empty());
    sentry.stop().await;
}

#[tokio::test]
async fn sidecars_call_each_other() {
    let _alone = e2e::wait::alone().await;
    let sentry = Sentry::start().await;
    let app = App::builder()
        .route("/hi", Answer::bytes("hello"))
        .start()
        .await;
    let callee = Daprd::builder("callee")
        .sentry(&sentry)
        .app(&app)
        .start()
        .await;
    let caller = Daprd::builder("caller").sentry(&sentry).start().await;
    let reply = caller
        .http()
        .get("/v1.0/invoke/callee/method/hi")
        .await
        .expect_status(200);
    assert_eq!(reply.text(), "hello");
    caller.stop().await;
    callee.stop().await;
    sentry.stop().await;
}

pub fn local_call() -> InternalInvokeRequest {
    InternalInvokeRequest {
        ver: ApiVersion::V1.into(),
        message: Some(InvokeRequest {
            method: "hi".into(),
            http_extension: Some(HttpExtension {
                verb: Verb::Get.into(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[tokio::test]
async fn the_internal_port_wants_an_identity_of_the_mesh() {
    let sentry = Sentry::start().await;
    let app = App::builder()
        .route("/hi", Answer::bytes("hello"))
        .start()
        .await;
    let daprd = Daprd::builder("app")
        .sentry(&sentry)
        .app(&app)
        .start()
        .await;
    let port = daprd.internal_port();
    let call = |channel| async move {
        ServiceInvocationClient::new(channel)
            .call_local(local_call())
            .await
    };

    call(mesh::plain(port)).await.expect_err("no TLS");
    call(Tls::new(sentry.anchor(), None).channel(port))
        .await
        .expect_err("no certificate");
    let stranger = Ca::new("localhost").identity("default", "app");
    call(Tls::new(sentry.anchor(), Some(stranger)).channel(port))
        .await
        .expect_err("another root");
    assert!(app.calls("/hi").is_empty());

    let member = Tls::new(
        sentry.anchor(),
        Some(sentry.ca().identity("default", "friend")),
    );
    call(member.channel(port))
        .await
        .expect("a member of the mesh");
    assert_eq!(
        uris(&member.server_chain()[0]),
        ["spiffe://public/ns/default/app"]
    );
    daprd.stop().await;
    sentry.stop().await;
}

#[tokio::test]
async fn a_sidecar_waits_for_its_identity() {
    let ca = Ca::new("localhost");
    let port = ports::reserve().release();
    let builder =
        Daprd::builder("app").mtls(&format!("127.0.0.1:{port}"), &ca.anchors_pem(), "localhost");
    let mut daprd = builder.spawn();
    daprd.logged("Starting Dapr").await;
    let early = daprd
        .http()
        .request(Method::GET, "/v1.0/healthz")
        .attempt()
        .await;
    assert!(
        early.is_err(),
        "no API before there is an identity: {early:?}"
    );
    let sentry = Sentry::builder().ca(ca).port(port).start().await;
    daprd.ready().await;
    daprd.stop().await;
    sentry.stop().await;
}

#[tokio::test]
async fn access_lists_judge_by_identity() {
    let _alone = e2e::wait::alone().await;
    let sentry = Sentry::start().await;
    let app = App::builder()
        .route("/open", Answer::status(200))
        .route("/closed", Answer::status(200))
        .start()
        .await;
    let policy = configuration(
        "  accessControl:
    defaultAction: deny
    trustDomain: public
    policies:
    - appId: caller
      defaultAction: deny
      trustDomain: public
      namespace: default
      operations:
      - name: /open
        httpVerb: ['GET']
        action: allow",
    );
    let callee = Daprd::builder("callee")
        .config(&policy)
        .sentry(&sentry)
        .app(&app)
        .start()
        .await;
    let caller = Daprd::builder("caller").sentry(&sentry).start().await;
    let other = Daprd::builder("other").sentry(&sentry).start().await;
    let path = |name: &str| format!("/v1.0/invoke/callee/method/{name}");
    caller.http().get(&path("open")).await.expect_status(200);
    caller.http().get(&path("closed")).await.expect_status(403);
    caller
        .http()
        .get(&path("closed/below"))
        .await
        .expect_status(403);
    caller
        .http()
        .request(Method::POST, &path("open"))
        .send()
        .await
        .expect_status(403);
    other.http().get(&path("open")).await.expect_status(403);
    assert!(app.calls("/closed").is_empty());
    for daprd in [other, caller, callee] {
        daprd.stop().await;
    }
    sentry.stop().await;
}
