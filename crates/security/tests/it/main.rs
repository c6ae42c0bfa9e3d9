//! Mutual TLS between workloads, rotation under running configurations, and the client of Sentry.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod authority;
mod renewal;
mod sentry;
mod signatures;

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use security::{Expect, KeyKind, Security, SpiffeId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use transport::{Connector, Listener, RequestBody, ServerOptions};

use authority::{Authority, Source};

const DEADLINE: Duration = Duration::from_secs(20);

type Current = Arc<Mutex<Arc<Authority>>>;

#[allow(clippy::disallowed_methods, reason = "the handle owns the task")]
pub fn spawn<F>(future: F) -> AbortOnDropHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    AbortOnDropHandle::new(tokio::spawn(future))
}

struct Workload {
    security: Security,
    _runner: AbortOnDropHandle<Result<(), security::Error>>,
}

async fn workload(authority: &Current, uri: &str, key: KeyKind) -> Workload {
    let source = Source {
        authority: authority.clone(),
        uri: uri.to_owned(),
    };
    let (security, runner) = Security::from_source(Box::new(source), key);
    let runner = spawn(runner.run(CancellationToken::new()));
    timeout(DEADLINE, security.ready()).await.unwrap().unwrap();
    Workload {
        security,
        _runner: runner,
    }
}

/// A server that answers the caller's identity.
fn serve(tls: Option<Arc<rustls::ServerConfig>>) -> (http::Uri, AbortOnDropHandle<()>) {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let uri = format!("https://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let service = tower::service_fn(|request: http::Request<RequestBody>| async move {
        let peer = request.extensions().get::<transport::Peer>().unwrap();
        let text = security::peer_id(peer)
            .unwrap()
            .map_or("nobody".to_owned(), |id| id.to_string());
        Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from(text))))
    });
    let options = ServerOptions {
        tls,
        ..ServerOptions::default()
    };
    (
        uri,
        spawn(transport::serve(
            listener,
            options,
            service,
            CancellationToken::new(),
        )),
    )
}

/// Who the server takes us for; none if there is no connection.
async fn who(
    config: Arc<rustls::ClientConfig>,
    uri: &http::Uri,
) -> Option<(String, rustls::HandshakeKind)> {
    // The test speaks HTTP/1 by hand, so no ALPN.
    let mut config = rustls::ClientConfig::clone(&config);
    config.alpn_protocols.clear();
    let mut stream = Connector::tls(Arc::new(config))
        .connect(uri)
        .await
        .ok()?
        .into_stream();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .ok()?;
    let mut answer = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut answer))
        .await
        .unwrap()
        .ok()?;
    let kind = stream.tls().unwrap().handshake_kind().unwrap();
    let answer = String::from_utf8(answer).unwrap();
    Some((answer.rsplit("\r\n").next().unwrap().to_owned(), kind))
}

fn app(app_id: &str, namespace: &str) -> Expect {
    Expect::AppInNamespace {
        app_id: app_id.to_owned(),
        namespace: namespace.to_owned(),
    }
}

#[tokio::test]
async fn peers_know_each_other_and_refuse_strangers() {
    let authority = Arc::new(Mutex::new(Arc::new(Authority::new())));
    let one = workload(
        &authority,
        "spiffe://public/ns/default/one",
        KeyKind::Rsa2048,
    )
    .await;
    let two = workload(
        &authority,
        "spiffe://other.domain/ns/default/two",
        KeyKind::Ed25519,
    )
    .await;
    let (uri, _server) = serve(one.security.server());

    let ok = Some("spiffe://other.domain/ns/default/two".to_owned());
    let ask = async |workload: &Workload, expect: Expect| {
        who(workload.security.client(expect).unwrap(), &uri)
            .await
            .map(|(who, _)| who)
    };
    assert_eq!(ask(&two, app("one", "default")).await, ok);
    assert_eq!(ask(&two, Expect::Any).await, ok);
    assert_eq!(
        ask(
            &two,
            Expect::Id("spiffe://public/ns/default/one".parse().unwrap())
        )
        .await,
        ok
    );
    assert_eq!(
        ask(
            &two,
            Expect::Id("spiffe://other/ns/default/one".parse().unwrap())
        )
        .await,
        None
    );
    assert_eq!(ask(&two, app("one", "prod")).await, None);
    assert_eq!(ask(&two, app("two", "default")).await, None);

    let stranger = Arc::new(Mutex::new(Arc::new(Authority::new())));
    let stranger = workload(
        &stranger,
        "spiffe://public/ns/default/two",
        KeyKind::Ed25519,
    )
    .await;
    assert_eq!(
        ask(&stranger, Expect::Any).await,
        None,
        "the client refuses the server"
    );
    let mut trusting = rustls::RootCertStore::empty();
    for root in one.security.anchors().borrow().certificates() {
        trusting.add(root.clone()).unwrap();
    }
    let (open, _open_server) = serve(one.security.server_tls());
    assert_eq!(
        who(two.security.client(Expect::Any).unwrap(), &open)
            .await
            .unwrap()
            .0,
        "nobody"
    );
}

#[tokio::test]
async fn the_server_refuses_callers_of_other_authorities_and_callers_without_certificate() {
    let authority = Arc::new(Mutex::new(Arc::new(Authority::new())));
    let one = workload(
        &authority,
        "spiffe://public/ns/default/one",
        KeyKind::Ed25519,
    )
    .await;
    let (uri, _server) = serve(one.security.server());
    let elsewhere = Arc::new(Mutex::new(Arc::new(Authority::new())));
    let stranger = workload(
        &elsewhere,
        "spiffe://public/ns/default/two",
        KeyKind::Ed25519,
    )
    .await;

    // A client that trusts the server's authority but holds a certificate of another one.
    let mut roots = rustls::RootCertStore::empty();
    for root in one.security.anchors().borrow().certificates() {
        roots.add(root.clone()).unwrap();
    }
    let svid = stranger.security.svid().borrow().clone().unwrap();
    let key = rustls::pki_types::pem::PemObject::from_pem_slice(svid.key_pem().as_bytes()).unwrap();
    let trusting = || {
        rustls::ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone))
    };
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    let foreign = trusting()
        .with_client_auth_cert(svid.certificates().to_vec(), key)
        .unwrap();
    assert!(who(Arc::new(foreign), &uri).await.is_none());
    assert!(
        who(Arc::new(trusting().with_no_client_auth()), &uri)
            .await
            .is_none()
    );
}

#[tokio::test]
async fn configurations_survive_a_new_root() {
    let authority = Arc::new(Mutex::new(Arc::new(Authority::new())));
    let one = workload(
        &authority,
        "spiffe://public/ns/default/one",
        KeyKind::Ed25519,
    )
    .await;
    let two = workload(
        &authority,
        "spiffe://public/ns/default/two",
        KeyKind::Ed25519,
    )
    .await;
    let (uri, _server) = serve(one.security.server());
    let client = two.security.client(app("one", "default")).unwrap();
    let full = Some((
        "spiffe://public/ns/default/two".to_owned(),
        rustls::HandshakeKind::Full,
    ));
    let resumed = Some((
        "spiffe://public/ns/default/two".to_owned(),
        rustls::HandshakeKind::Resumed,
    ));
    assert_eq!(who(client.clone(), &uri).await, full);
    assert_eq!(who(client.clone(), &uri).await, resumed);

    // One moves on to the new root, two follows, and then the old one is gone; nobody is refused in between.
    let old = authority.lock().unwrap().clone();
    let next = Authority::after(&old);
    *authority.lock().unwrap() = Arc::new(next);
    let renew = async |workload: &Workload| {
        let mut svid = workload.security.svid();
        svid.borrow_and_update();
        workload.security.renew();
        timeout(DEADLINE, svid.changed()).await.unwrap().unwrap();
    };
    let known = |workload: &Workload| workload.security.anchors().borrow().certificates().len();
    renew(&one).await;
    assert_eq!((known(&one), known(&two)), (2, 1));
    assert_eq!(
        who(client.clone(), &uri).await,
        full,
        "two follows the new root by what the old one says for it; sessions are not resumed"
    );
    renew(&two).await;
    assert_eq!((known(&one), known(&two)), (2, 2));
    assert_eq!(who(client.clone(), &uri).await, full);
    let next = Arc::into_inner(std::mem::replace(
        &mut *authority.lock().unwrap(),
        old.clone(),
    ));
    *authority.lock().unwrap() = Arc::new(next.unwrap().retire());
    renew(&one).await;
    assert_eq!((known(&one), known(&two)), (1, 2));
    assert_eq!(who(client.clone(), &uri).await, full);
    renew(&two).await;
    assert_eq!(who(client.clone(), &uri).await, full);
    // A root that nobody vouches for is refused.
    *authority.lock().unwrap() = Arc::new(Authority::new());
    renew(&one).await;
    assert_eq!(who(client.clone(), &uri).await, None);
}

#[tokio::test]
async fn ids_come_from_the_certificate() {
    let authority = Arc::new(Mutex::new(Arc::new(Authority::new())));
    let one = workload(
        &authority,
        "spiffe://public/ns/default/one",
        KeyKind::Ed25519,
    )
    .await;
    assert_eq!(
        one.security.id(),
        Some(SpiffeId::new("public", "default", "one").unwrap())
    );
    assert!(
        one.security
            .svid()
            .borrow()
            .as_ref()
            .unwrap()
            .key_pem()
            .starts_with("-----BEGIN PRIVATE KEY-----\n")
    );
}

/// Accepts every server: only to see what the server thinks of the client.
#[derive(Debug)]
struct Anyone;

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
