//! gRPC channels for tests, plain or with TLS. A server is trusted if its chain leads to the anchors, and
//! its name is not looked at: workloads are named by SPIFFE IDs (contract 6.4), which tests read from the
//! certificate themselves.

use std::sync::{Arc, Mutex};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, TrustAnchor, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// A certificate chain, leaf first, and its key.
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
        }
    }
}

/// Makes aws-lc-rs the provider of this process; a second call changes nothing.
pub fn install_provider() {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
}

/// A channel without TLS to a port of this machine; connects at the first call.
pub fn plain(port: u16) -> Channel {
    endpoint(port).connect_lazy()
}

/// A TLS client of one server.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    seen: Arc<Mutex<Vec<CertificateDer<'static>>>>,
}

impl Tls {
    /// A client that trusts `anchor`, and shows `identity` if asked for a certificate.
    pub fn new(anchor: CertificateDer<'static>, identity: Option<Identity>) -> Self {
        install_provider();
        let seen = Arc::default();
        let verifier = ChainOnly {
            anchor,
            algorithms: algorithms(),
            seen: Arc::clone(&seen),
        };
        let config = ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match identity {
            Some(Identity { chain, key }) => config
                .with_client_auth_cert(chain, key)
                .expect("key and leaf match"),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            config: Arc::new(config),
            seen,
        }
    }

    /// A channel to a port of this machine; connects at the first call.
    pub fn channel(&self, port: u16) -> Channel {
        let tls = TlsConnector::from(Arc::clone(&self.config));
        endpoint(port).connect_with_connector_lazy(tower::service_fn(move |uri: Uri| {
            let tls = tls.clone();
            async move {
                let stream =
                    TcpStream::connect(("127.0.0.1", uri.port_u16().unwrap_or_default())).await?;
                let name = ServerName::try_from("localhost").expect("a valid name");
                Ok::<_, std::io::Error>(TokioIo::new(tls.connect(name, stream).await?))
            }
        }))
    }

    /// The chain that the server showed last, leaf first.
    pub fn server_chain(&self) -> Vec<CertificateDer<'static>> {
        self.seen.lock().expect("nobody panics with it").clone()
    }
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint::from_shared(format!("http://127.0.0.1:{port}"))
        .expect("a valid address")
        .connect_timeout(crate::wait::DEADLINE)
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms
}

/// Verifies the chain and the handshake, not the name.
#[derive(Debug)]
struct ChainOnly {
    anchor: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
    seen: Arc<Mutex<Vec<CertificateDer<'static>>>>,
}

impl ServerCertVerifier for ChainOnly {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let refused = |error: webpki::Error| rustls::Error::General(error.to_string());
        let anchors: [TrustAnchor<'_>; 1] =
            [webpki::anchor_from_trusted_cert(&self.anchor).map_err(refused)?];
        let usage = webpki::KeyUsage::server_auth();
        webpki::EndEntityCert::try_from(leaf)
            .map_err(refused)?
            .verify_for_usage(
                self.algorithms.all,
                &anchors,
                intermediates,
                now,
                usage,
                None,
                None,
            )
            .map_err(refused)?;
        let chain = std::iter::once(leaf)
            .chain(intermediates)
            .map(|certificate| certificate.clone().into_owned());
        *self.seen.lock().expect("nobody panics with it") = chain.collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
