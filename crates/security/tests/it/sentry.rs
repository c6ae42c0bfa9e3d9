//! The client of Sentry against a scripted one.

use std::sync::{Arc, Mutex};

use proto::sentry::v1::ca_server::{Ca, CaServer};
use proto::sentry::v1::sign_certificate_request::TokenValidator;
use proto::sentry::v1::{SignCertificateRequest, SignCertificateResponse};
use security::{Anchors, Expect, KeyKind, Options, Security, TokenSource};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use transport::{Listener, ServerOptions};

use crate::authority::{Authority, Source};
use crate::{DEADLINE, spawn};

struct Scripted {
    authority: Arc<Authority>,
    requests: Mutex<Vec<SignCertificateRequest>>,
}

#[tonic::async_trait]
impl Ca for Scripted {
    async fn sign_certificate(
        &self,
        request: Request<SignCertificateRequest>,
    ) -> Result<Response<SignCertificateResponse>, Status> {
        let request = request.into_inner();
        let mut requests = self.requests.lock().unwrap();
        requests.push(request.clone());
        if requests.len() == 1 {
            return Err(Status::unavailable("the first one always fails"));
        }
        let uri = format!("spiffe://public/ns/{}/{}", request.namespace, request.id);
        let csr = String::from_utf8(request.certificate_signing_request.to_vec()).unwrap();
        let signed = self.authority.sign(&csr, &[&uri]);
        Ok(Response::new(SignCertificateResponse {
            workload_certificate: signed.chain.into(),
            trust_chain_certificates: vec![signed.anchors.into()],
            valid_until: None,
            jwt: Some("e30.eyJleHAiOjQxMDI0NDQ4MDB9.c2ln".to_owned()),
            per_audience_jwts: Default::default(),
        }))
    }
}

fn options(address: String, anchors: Anchors) -> Options {
    Options {
        app_id: "app".into(),
        requested_id: None,
        namespace: "prod".into(),
        trust_domain: None,
        control_plane_trust_domain: "cluster.local".into(),
        control_plane_namespace: "dapr-system".into(),
        sentry_address: address,
        anchors,
        token: TokenSource {
            file: None,
            kubernetes: Vec::new(),
        },
        key: KeyKind::Ed25519,
        mtls: true,
        kubernetes: false,
        jwt_audiences: vec!["one".into()],
        registry: prometheus::Registry::new(),
    }
}

#[tokio::test]
async fn certificates_come_from_sentry_once_its_anchors_are_known() {
    let authority = Arc::new(Authority::new());
    let source = Source {
        authority: Arc::new(Mutex::new(authority.clone())),
        uri: "spiffe://cluster.local/ns/dapr-system/dapr-sentry".into(),
    };
    let (own, runner) = Security::from_source(Box::new(source), KeyKind::Ed25519);
    let _own = spawn(runner.run(CancellationToken::new()));
    timeout(DEADLINE, own.ready()).await.unwrap().unwrap();
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let scripted = Arc::new(Scripted {
        authority: authority.clone(),
        requests: Mutex::default(),
    });
    let tls = ServerOptions {
        tls: own.server_tls(),
        ..ServerOptions::default()
    };
    let service = CaServer::from_arc(scripted.clone());
    let _server = spawn(transport::serve(
        listener,
        tls,
        service,
        CancellationToken::new(),
    ));

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.crt");
    let options = options(address, Anchors::File(file.clone()));
    let registry = options.registry.clone();
    let (security, runner) = security::new(options).unwrap();
    let _runner = spawn(runner.run(CancellationToken::new()));
    assert!(security.id().is_none());
    std::fs::write(&file, authority.root_pem()).unwrap();
    timeout(DEADLINE, security.ready()).await.unwrap().unwrap();

    assert_eq!(
        security.id().unwrap().to_string(),
        "spiffe://public/ns/prod/app"
    );
    assert_eq!(
        security.anchors().borrow().pem(),
        authority.root_pem().as_bytes()
    );
    assert!(security.jwt(None).is_some());
    let requests = scripted.requests.lock().unwrap().clone();
    assert_eq!(requests.len(), 2);
    assert_eq!(
        (requests[1].id.as_str(), requests[1].trust_domain.as_str()),
        ("app", "")
    );
    assert_eq!(requests[1].token_validator(), TokenValidator::Unknown);
    assert_eq!(requests[1].jwt_audiences, ["one"]);
    let names: Vec<_> = registry
        .gather()
        .iter()
        .map(|family| family.name().to_owned())
        .collect();
    assert!(
        names.contains(&"dapr_runtime_mtls_init_total".to_owned()),
        "{names:?}"
    );
}

#[tokio::test]
async fn a_sentry_with_another_identity_gets_no_request() {
    let authority = Arc::new(Authority::new());
    let source = Source {
        authority: Arc::new(Mutex::new(authority.clone())),
        uri: "spiffe://cluster.local/ns/elsewhere/dapr-sentry".into(),
    };
    let (own, runner) = Security::from_source(Box::new(source), KeyKind::Ed25519);
    let _own = spawn(runner.run(CancellationToken::new()));
    timeout(DEADLINE, own.ready()).await.unwrap().unwrap();
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let scripted = Arc::new(Scripted {
        authority: authority.clone(),
        requests: Mutex::default(),
    });
    let tls = ServerOptions {
        tls: own.server_tls(),
        ..ServerOptions::default()
    };
    let _server = spawn(transport::serve(
        listener,
        tls,
        CaServer::from_arc(scripted.clone()),
        CancellationToken::new(),
    ));

    let options = options(address, Anchors::Static(authority.root_pem().into_bytes()));
    let registry = options.registry.clone();
    let (_security, runner) = security::new(options).unwrap();
    let _runner = spawn(runner.run(CancellationToken::new()));
    let failed = async {
        while !registry
            .gather()
            .iter()
            .any(|family| family.name() == "dapr_runtime_mtls_init_fail_total")
        {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, failed).await.unwrap();
    assert!(scripted.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn without_mtls_there_is_nothing_to_wait_for() {
    let off = Options {
        mtls: false,
        ..options(String::new(), Anchors::Static(Vec::new()))
    };
    let (security, runner) = security::new(off.clone()).unwrap();
    security.ready().await.unwrap();
    assert!(!security.enabled());
    assert!(
        security.server().is_none()
            && security.server_tls().is_none()
            && security.client(Expect::Any).is_none()
    );
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    runner.run(shutdown).await.unwrap();
    assert!(
        security::new(Options {
            kubernetes: true,
            ..off.clone()
        })
        .is_err(),
        "anchors are needed"
    );
    assert!(
        security::new(Options { mtls: true, ..off }).is_err(),
        "anchors are needed"
    );
}
