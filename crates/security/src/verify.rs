//! Checking a peer's certificate: chain to the current anchors, exactly one URI name, and the expected identity.
//! DNS names play no part, as in the Go reference's peers.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
};
use webpki::KeyUsage;

use crate::tls::Shared;
use crate::{SpiffeId, TrustBundle};

/// Whom a client wants to talk to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expect {
    /// Exactly this workload: the control plane.
    Id(SpiffeId),
    /// This app in this namespace, in any trust domain: other sidecars.
    AppInNamespace {
        /// App id.
        app_id: String,
        /// Namespace.
        namespace: String,
    },
    /// Anyone with a certificate of this installation.
    Any,
}

/// Which end the certificate belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Usage {
    Client,
    Server,
}

/// The peer is someone else than expected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the certificate must carry exactly one uri name, found {0}")]
    Names(usize),
    #[error("the identity {0} is no spiffe id")]
    NoSpiffeId(String),
    #[error("unexpected identity {found}, expected {expected}")]
    Other { found: String, expected: String },
    #[error("no trust anchor is valid now")]
    NoAnchors,
}

impl From<Refused> for rustls::Error {
    fn from(refused: Refused) -> Self {
        CertificateError::Other(OtherError(Arc::new(refused))).into()
    }
}

/// Verifies a chain and returns its URI name.
pub(crate) fn verify(
    bundle: &TrustBundle,
    leaf: &CertificateDer<'_>,
    issuers: &[CertificateDer<'_>],
    now: UnixTime,
    usage: Usage,
    expect: &Expect,
) -> Result<String, rustls::Error> {
    let parsed = webpki::EndEntityCert::try_from(leaf).map_err(certificate_error)?;
    let anchors = bundle.anchors(now);
    if anchors.is_empty() {
        return Err(Refused::NoAnchors.into());
    }
    let usage = match usage {
        Usage::Client => KeyUsage::client_auth(),
        Usage::Server => KeyUsage::server_auth(),
    };
    parsed
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            issuers,
            now,
            usage,
            None,
            None,
        )
        .map_err(certificate_error)?;
    let mut names = parsed.valid_uri_names();
    let name = match (names.next(), names.count()) {
        (Some(name), 0) => name.to_owned(),
        (first, rest) => return Err(Refused::Names(usize::from(first.is_some()) + rest).into()),
    };
    expected(&name, expect)?;
    Ok(name)
}

fn expected(name: &str, expect: &Expect) -> Result<(), Refused> {
    let other = |expected: String| Refused::Other {
        found: name.to_owned(),
        expected,
    };
    match expect {
        Expect::Any if name.starts_with("spiffe://") => Ok(()),
        Expect::Any => Err(Refused::NoSpiffeId(name.to_owned())),
        Expect::Id(id) if name == id.to_string() => Ok(()),
        Expect::Id(id) => Err(other(id.to_string())),
        Expect::AppInNamespace { app_id, namespace } => match name.parse::<SpiffeId>() {
            Ok(id) if id.app_id() == app_id && id.namespace() == namespace => Ok(()),
            Ok(_) => Err(other(format!("app {app_id} in namespace {namespace}"))),
            Err(_) => Err(Refused::NoSpiffeId(name.to_owned())),
        },
    }
}

fn certificate_error(error: webpki::Error) -> rustls::Error {
    use webpki::Error as E;
    let kind = match error {
        E::BadDer | E::BadDerTime => CertificateError::BadEncoding,
        E::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        E::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        E::UnknownIssuer => CertificateError::UnknownIssuer,
        E::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    };
    kind.into()
}

/// The verifier of both ends; it reads the current anchors at every handshake.
pub(crate) struct Verifier {
    pub(crate) shared: Arc<Shared>,
    pub(crate) expect: Expect,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({:?})", self.expect)
    }
}

impl Verifier {
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        now: UnixTime,
        usage: Usage,
    ) -> Result<(), rustls::Error> {
        let bundle = self.shared.bundle.borrow().clone();
        verify(&bundle, leaf, issuers, now, usage, &self.expect).map(drop)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(leaf, issuers, now, Usage::Server)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, leaf, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // No hints: they could not follow the anchors, and every workload has just one certificate.
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(leaf, issuers, now, Usage::Client)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, leaf, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
