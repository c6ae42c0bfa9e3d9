//! The accept loop and the connectors against each other, on loopback sockets.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod early;
mod peers;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use transport::{
    ClientOptions, Connector, KeepAlive, Listener, Peer, RequestBody, ServerOptions, client, serve,
};

const DEADLINE: Duration = Duration::from_secs(20);

/// Answers the version, the peer's identity and the path; `/slow` waits for the gate.
fn echo(
    gate: Arc<Gate>,
) -> impl tower::Service<
    Request<RequestBody>,
    Response = Response<Full<Bytes>>,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send
+ 'static {
    tower::service_fn(move |request: Request<RequestBody>| {
        let gate = gate.clone();
        async move {
            if request.uri().path() == "/slow" {
                gate.entered.notify_one();
                gate.open.notified().await;
            }
            let peer = request
                .extensions()
                .get::<Peer>()
                .cloned()
                .expect("the accept loop inserts it");
            let who = peer
                .identity
                .as_ref()
                .map_or("nobody", |identity| identity.uri());
            let text = format!(
                "{:?} {who} {} {}",
                request.version(),
                request.uri().path(),
                peer.address.is_some()
            );
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
        }
    })
}

/// Tells when `/slow` has begun, and when it may end.
#[derive(Default)]
struct Gate {
    entered: Notify,
    open: Notify,
}

struct Running {
    uri: http::Uri,
    gate: Arc<Gate>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

#[allow(
    clippy::disallowed_methods,
    reason = "the test owns the task and joins it"
)]
fn start(listener: Listener, options: ServerOptions) -> Running {
    let uri = listener
        .local_addr()
        .map_or("http://socket".to_owned(), |address| {
            format!("http://{address}")
        });
    let (gate, shutdown) = (Arc::new(Gate::default()), CancellationToken::new());
    let task = tokio::spawn(serve(
        listener,
        options,
        echo(gate.clone()),
        shutdown.clone(),
    ));
    Running {
        uri: uri.parse().unwrap(),
        gate,
        shutdown,
        task,
    }
}

fn tcp() -> Listener {
    Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap()
}

async fn get(
    connector: Connector,
    http2_only: bool,
    base: &http::Uri,
    path: &str,
) -> (StatusCode, String) {
    let client = client::<Full<Bytes>>(
        connector,
        ClientOptions {
            http2_only,
            ..ClientOptions::default()
        },
    );
    let response = client
        .get(format!("{base}{}", &path[1..]).parse().unwrap())
        .await
        .unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn nodelay_is_set_on_accepted_and_dialled_sockets() {
    let listener = tcp();
    let uri = format!("http://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let connector = Connector::plain();
    let (accepted, dialled) = tokio::join!(listener.accept(), connector.connect(&uri));
    assert_eq!(accepted.0.nodelay(), Some(true));
    assert_eq!(dialled.unwrap().stream().nodelay(), Some(true));
    // The same question on a socket nobody touched: the check can fail.
    let (_, raw) = tokio::join!(
        listener.accept(),
        tokio::net::TcpStream::connect(listener.local_addr().unwrap())
    );
    assert!(!raw.unwrap().nodelay().unwrap());
}

#[tokio::test]
async fn one_port_speaks_http1_and_http2() {
    let server = start(tcp(), ServerOptions::default());
    assert_eq!(
        get(Connector::plain(), false, &server.uri, "/a").await.1,
        "HTTP/1.1 nobody /a true"
    );
    assert_eq!(
        get(Connector::plain(), true, &server.uri, "/b").await.1,
        "HTTP/2.0 nobody /b true"
    );
    server.shutdown.cancel();
    timeout(DEADLINE, server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn unix_sockets_are_served_and_removed() {
    let path = std::env::temp_dir().join(format!("transport-{}.sock", std::process::id()));
    let server = start(Listener::unix(&path).unwrap(), ServerOptions::default());
    assert_eq!(
        get(Connector::unix(&path), false, &server.uri, "/u")
            .await
            .1,
        "HTTP/1.1 nobody /u false"
    );
    server.shutdown.cancel();
    timeout(DEADLINE, server.task).await.unwrap().unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn shutdown_lets_requests_finish_and_frees_the_port_at_once() {
    for http2 in [false, true] {
        let server = start(
            tcp(),
            ServerOptions {
                drain: DEADLINE,
                ..ServerOptions::default()
            },
        );
        let slow = get(Connector::plain(), http2, &server.uri, "/slow");
        let stop = async {
            server.gate.entered.notified().await;
            server.shutdown.cancel();
            while Connector::plain().connect(&server.uri).await.is_ok() {
                tokio::task::yield_now().await;
            }
            server.gate.open.notify_one();
        };
        let (answer, ()) = timeout(DEADLINE, async { tokio::join!(slow, stop) })
            .await
            .unwrap();
        assert!(answer.1.ends_with("/slow true"), "{answer:?}");
        timeout(DEADLINE, server.task).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn the_drain_has_a_deadline() {
    let server = start(
        tcp(),
        ServerOptions {
            drain: Duration::from_millis(50),
            ..ServerOptions::default()
        },
    );
    let mut stuck = Connector::plain()
        .connect(&server.uri)
        .await
        .unwrap()
        .into_stream();
    stuck
        .write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    server.gate.entered.notified().await;
    server.shutdown.cancel();
    timeout(DEADLINE, server.task).await.unwrap().unwrap();
    let mut rest = Vec::new();
    let _ = timeout(DEADLINE, stuck.read_to_end(&mut rest))
        .await
        .expect("the connection was closed");
}

#[tokio::test]
async fn a_slow_head_is_cut_but_a_quiet_connection_is_not() {
    let options = ServerOptions {
        header_timeout: Duration::from_millis(200),
        ..ServerOptions::default()
    };
    let server = start(tcp(), options);
    let mut slow = Connector::plain()
        .connect(&server.uri)
        .await
        .unwrap()
        .into_stream();
    let mut quiet = Connector::plain()
        .connect(&server.uri)
        .await
        .unwrap()
        .into_stream();
    slow.write_all(b"GET /never HTTP/1.1\r\nhost:")
        .await
        .unwrap();
    let mut rest = Vec::new();
    let _ = timeout(DEADLINE, slow.read_to_end(&mut rest))
        .await
        .expect("the slow head was cut");
    quiet
        .write_all(b"GET /late HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    timeout(DEADLINE, quiet.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert!(String::from_utf8(rest).unwrap().contains("/late"));
}

#[tokio::test]
async fn idle_connections_get_a_polite_end() {
    let keep_alive = KeepAlive {
        idle: Some(Duration::from_millis(100)),
        ..KeepAlive::default()
    };
    let options = ServerOptions {
        keep_alive: Some(keep_alive),
        header_timeout: Duration::from_millis(50),
        ..ServerOptions::default()
    };
    let server = start(tcp(), options);
    let mut stream = Connector::plain()
        .connect(&server.uri)
        .await
        .unwrap()
        .into_stream();
    stream
        .write_all(b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(String::from_utf8(answer).unwrap().contains("/x"));
}

#[tokio::test]
async fn oversized_heads_are_refused() {
    let server = start(
        tcp(),
        ServerOptions {
            max_header_bytes: 100,
            ..ServerOptions::default()
        },
    );
    let client = client::<Full<Bytes>>(Connector::plain(), ClientOptions::default());
    let request = Request::get(server.uri.clone()).header("x-big", "y".repeat(10_000));
    let response = client
        .request(request.body(Full::default()).unwrap())
        .await
        .unwrap();
    assert_eq!(
        response.status(),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    );
    assert_eq!(response.version(), Version::HTTP_11);
}

#[tokio::test]
async fn a_silent_tls_client_blocks_nobody_and_a_certificate_becomes_an_identity() {
    let ca = CertifiedIssuer::self_signed(ca_params(), KeyPair::generate().unwrap()).unwrap();
    let (chain, key) = leaf(&ca, &["spiffe://public/ns/default/one"]);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let roots = Arc::new(roots);
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    let verifier = WebPkiClientVerifier::builder(roots.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let mut tls = rustls::ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), key.clone_key())
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let server = start(
        tcp(),
        ServerOptions {
            tls: Some(Arc::new(tls)),
            ..ServerOptions::default()
        },
    );

    let _silent = Connector::plain().connect(&server.uri).await.unwrap();
    let anonymous = rustls::ClientConfig::builder().with_root_certificates(roots.clone());
    let anonymous = Arc::new(anonymous.with_no_client_auth());
    assert_eq!(
        get(Connector::tls(anonymous), false, &server.uri, "/t")
            .await
            .1,
        "HTTP/1.1 nobody /t true"
    );

    let identified = |(chain, key)| {
        let config = rustls::ClientConfig::builder().with_root_certificates(roots.clone());
        let mut config = config.with_client_auth_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Connector::tls(Arc::new(config))
    };
    let known = get(identified((chain, key)), false, &server.uri, "/t")
        .await
        .1;
    assert_eq!(known, "HTTP/2.0 spiffe://public/ns/default/one /t true");
    let two_names = leaf(
        &ca,
        &[
            "spiffe://public/ns/default/one",
            "spiffe://public/ns/default/two",
        ],
    );
    let client = client::<Full<Bytes>>(identified(two_names), ClientOptions::default());
    assert!(client.get(server.uri.clone()).await.is_err());
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn leaf(
    ca: &CertifiedIssuer<'_, KeyPair>,
    uris: &[&str],
) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    for uri in uris {
        params
            .subject_alt_names
            .push(SanType::URI((*uri).try_into().unwrap()));
    }
    let certificate = params.signed_by(&key, ca).unwrap();
    (
        vec![certificate.der().clone()],
        PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
    )
}
