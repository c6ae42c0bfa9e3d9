//! Callers of the control plane: keys and certificate requests, identities that a sentry has signed, and TLS to servers that
//! are started here and that nobody needs to doubt.

use std::sync::Arc;

use anyhow::{Context, Result};
use proto::sentry::v1::ca_client::CaClient;
use proto::sentry::v1::{SignCertificateRequest, SignCertificateResponse};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use transport::{ChannelOptions, Connector};

/// A key, and the request to certify it.
pub(super) struct Applicant {
    key: KeyPair,
    request: SignCertificateRequest,
}

impl Applicant {
    /// An app of a namespace in the trust domain of every bench; `token` says who it is to those who ask.
    pub fn new(namespace: &str, app_id: &str, token: &str) -> Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let csr = params.serialize_request(&key)?.pem()?;
        let request = SignCertificateRequest {
            id: app_id.to_owned(),
            namespace: namespace.to_owned(),
            trust_domain: TRUST_DOMAIN.to_owned(),
            token: token.to_owned(),
            certificate_signing_request: csr.into_bytes().into(),
            ..SignCertificateRequest::default()
        };
        Ok(Self { key, request })
    }

    /// Lets a validator judge the request.
    pub fn judged_by(mut self, validator: i32) -> Self {
        self.request.token_validator = validator;
        self
    }

    pub fn request(&self) -> &SignCertificateRequest {
        &self.request
    }

    /// Asks the sentry on a port, and gives how the identity connects.
    pub async fn certified(&self, port: u16) -> Result<Arc<ClientConfig>> {
        let uri = format!("http://127.0.0.1:{port}").parse()?;
        let connector = Connector::tls(client(None, b"h2")?);
        let channel = transport::channel(uri, connector, ChannelOptions::default());
        let mut sentry = CaClient::new(channel);
        let answer = sentry.sign_certificate(self.request.clone());
        let SignCertificateResponse {
            workload_certificate,
            ..
        } = answer.await.context("sentry signs nothing")?.into_inner();
        let chain = CertificateDer::pem_slice_iter(&workload_certificate);
        let chain = chain.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::Pkcs8(self.key.serialize_der().into());
        client(Some((chain, key)), b"h2")
    }
}

/// The trust domain of every sentry of a bench.
pub(super) const TRUST_DOMAIN: &str = "localhost";

/// A certificate chain, leaf first, and its key.
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// How to connect, with an identity or without, and which protocol to ask for.
pub(super) fn client(identity: Option<Identity>, protocol: &[u8]) -> Result<Arc<ClientConfig>> {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Started));
    let mut config = match identity {
        Some((chain, key)) => config.with_client_auth_cert(chain, key)?,
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Arc::new(config))
}

/// Believes every server: they were started here.
#[derive(Debug)]
struct Started;

impl ServerCertVerifier for Started {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _staple: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
