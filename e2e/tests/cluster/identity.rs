//! Who may talk to whom: sidecars accept only peers whose certificate sentry signed, and a caller only the app that it
//! dialled.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::apps::{App, Namespace};
use crate::installation::control_plane;
use crate::kube::{Forward, until};

/// Sidecar to sidecar.
const INTERNAL_PORT: u16 = 50002;
/// HTTP/2's first words and an empty SETTINGS frame.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_refuses_peers_that_sentry_did_not_sign() {
    let (images, _unchanged) = control_plane().await;
    let namespace = Namespace::create("identity", images).await;
    let app = namespace.stock("guarded").await;

    let (stream, _forward) = connect(&app).await;
    let plain = answer(stream).await;
    assert!(
        !speaks_http2(&plain),
        "a plaintext peer was answered: {plain:?}"
    );

    let id = format!("spiffe://public/ns/{}/guarded", namespace.name);
    let seen = Arc::new(AnyServer::default());
    let anonymous = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(seen.clone())
        .with_no_client_auth();
    assert!(
        !accepted(&app, anonymous).await,
        "a peer without certificate was accepted"
    );
    assert!(seen.names(&id), "what answered was not the sidecar {id}");

    // everything right but the signature: sentry's word is missing
    let (chain, key) = self_signed(&format!("spiffe://public/ns/{}/friend", namespace.name));
    let seen = Arc::new(AnyServer::default());
    let stranger = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(seen.clone())
        .with_client_auth_cert(chain, key)
        .expect("a client certificate");
    assert!(
        !accepted(&app, stranger).await,
        "a peer whose chain ends elsewhere was accepted"
    );
    assert!(seen.names(&id), "what answered was not the sidecar {id}");
    namespace.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_refuses_an_app_that_it_did_not_dial() {
    let (images, _unchanged) = control_plane().await;
    let namespace = Namespace::create("dialled", images).await;
    let elsewhere = Namespace::create("elsewhere", images).await;
    namespace.stock("callee").await;
    let caller = namespace.stock("caller").await;
    let sidecar = caller.sidecar().await;
    assert_eq!(sidecar.get("invoke/callee/method/echo").await.0, 200);

    // another app id, answered by the callee's pod
    namespace
        .apply(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": "ghost-dapr" },
            "spec": { "clusterIP": "None", "selector": { "app": "callee" }, "ports": [{ "name": "dapr-internal", "port": INTERNAL_PORT }] },
        }))
        .await;
    // the same app id in another namespace, answered by the callee's pod
    elsewhere
        .apply(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": "callee-dapr" },
            "spec": { "type": "ExternalName", "externalName": format!("callee-dapr.{}.svc.cluster.local", namespace.name) },
        }))
        .await;
    let found = format!("spiffe://public/ns/{}/callee", namespace.name);
    for dialled in ["ghost".to_owned(), format!("callee.{}", elsewhere.name)] {
        // the name takes a moment to resolve; from then on, the caller says whom it met
        until("the callee to be refused", 60, async || {
            let (status, said) = sidecar.get(&format!("invoke/{dialled}/method/echo")).await;
            assert_ne!(status, 200, "{dialled} was answered: {said}");
            let refused = said["errorCode"] == "ERR_DIRECT_INVOKE";
            let known = said["message"]
                .as_str()
                .is_some_and(|text| text.contains(&found));
            (status == 500 && refused && known)
                .then_some(())
                .ok_or(format!("{status} {said}"))
        })
        .await;
    }
    assert_eq!(sidecar.get("invoke/callee/method/echo").await.0, 200);
    elsewhere.delete().await;
    namespace.delete().await;
}

/// kubectl's forwarding ends with a connection that the pod resets, so each connection has its own.
async fn connect(app: &App<'_>) -> (TcpStream, Forward) {
    let forward = app.forward(INTERNAL_PORT).await;
    let stream = TcpStream::connect(("127.0.0.1", forward.port))
        .await
        .expect("the forwarded port");
    (stream, forward)
}

/// Whether a TLS peer gets as far as HTTP/2.
async fn accepted(app: &App<'_>, mut config: ClientConfig) -> bool {
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("guarded").expect("a name");
    let (stream, _forward) = connect(app).await;
    // with TLS 1.3 the server judges our certificate after our side is done
    match tokio::time::timeout(PATIENCE, connector.connect(name, stream)).await {
        Ok(Ok(stream)) => speaks_http2(&answer(stream).await),
        Ok(Err(_)) => false,
        Err(_) => panic!("the handshake neither ended nor failed"),
    }
}

/// Says hello and listens until the other side has said something or hung up.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Vec<u8> {
    // it may have hung up already
    let _ = stream.write_all(HELLO).await;
    let mut said = vec![0; 1024];
    let length = tokio::time::timeout(PATIENCE, stream.read(&mut said))
        .await
        .expect("an answer or an end");
    said.truncate(length.unwrap_or(0));
    said
}

/// A server's first frame is SETTINGS: length, type 4, flags, stream 0.
fn speaks_http2(said: &[u8]) -> bool {
    said.len() >= 9 && said[3] == 4 && said[5..9] == [0, 0, 0, 0]
}

fn self_signed(uri: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().expect("a URI"))];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.self_signed(&key).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a private key");
    (vec![certificate.der().clone()], key)
}

/// Believes every server, and remembers what it showed.
#[derive(Debug, Default)]
struct AnyServer {
    shown: std::sync::Mutex<Vec<u8>>,
}

impl AnyServer {
    fn names(&self, id: &str) -> bool {
        let shown = self.shown.lock().expect("no panic under this lock");
        shown
            .windows(id.len())
            .any(|window| window == id.as_bytes())
    }
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.shown.lock().expect("no panic under this lock") = end_entity.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
