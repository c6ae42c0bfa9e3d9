//! Who may ask the webhook at all. An API server that is configured for it shows a client certificate; without one nobody
//! can tell its reviews from forged ones, and what a review says about its requester is only as good as its sender.
//! Q-injector-caller.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore,
    ServerConfig, SignatureScheme,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Why a caller is refused, or none can be let in.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the client ca file {path}")]
    Read {
        path: PathBuf,
        source: rustls::pki_types::pem::Error,
    },
    #[error("no certificate of the client ca file {0} can be used")]
    Empty(PathBuf),
    #[error("cannot verify client certificates")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    #[error("cannot serve tls")]
    Tls(#[from] rustls::Error),
    #[error("the client certificate is for {found:?}, and not for one of the names that may call")]
    Name { found: Vec<String> },
}

/// Makes a TLS configuration demand client certificates that chain to the file and, if there are `names`, are for one of
/// them.
///
/// # Errors
/// For a file that cannot be used now. One that turns bad later lets nobody in until it is good again.
pub fn require(base: &ServerConfig, file: &Path, names: &[String]) -> Result<ServerConfig, Error> {
    let provider = Arc::clone(base.crypto_provider());
    let verifier = Arc::new(Verifier::new(file, names, &provider)?);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::clone(&base.cert_resolver));
    config.alpn_protocols.clone_from(&base.alpn_protocols);
    // A session that is resumed skips the check, and the file may have changed.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

#[derive(Debug)]
struct Callers {
    file: PathBuf,
    names: Vec<String>,
}

impl Callers {
    /// The file is read anew for each handshake, of which an API server makes few, so that a new authority counts at once.
    fn verifier(
        &self,
        provider: &Arc<rustls::crypto::CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let failed = |source| Error::Read {
            path: self.file.clone(),
            source,
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(&self.file).map_err(failed)? {
            // One that is of no use leaves the others.
            let _ = roots.add(certificate.map_err(failed)?);
        }
        if roots.is_empty() {
            return Err(Error::Empty(self.file.clone()));
        }
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        Ok(builder.build()?)
    }

    fn check_name(&self, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        if self.names.is_empty() {
            return Ok(());
        }
        let found = common_names(leaf);
        if found.iter().any(|name| self.names.contains(name)) {
            return Ok(());
        }
        Err(Error::Name { found })
    }
}

fn common_names(leaf: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(leaf) else {
        return Vec::new();
    };
    let names = certificate.subject().iter_common_name();
    let texts = names.filter_map(|name| name.as_str().ok());
    texts.map(str::to_owned).collect()
}

#[derive(Debug)]
struct Verifier {
    callers: Callers,
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl Verifier {
    fn new(
        file: &Path,
        names: &[String],
        provider: &Arc<rustls::crypto::CryptoProvider>,
    ) -> Result<Self, Error> {
        let callers = Callers {
            file: file.to_owned(),
            names: names.to_vec(),
        };
        callers.verifier(provider)?;
        Ok(Self {
            callers,
            provider: Arc::clone(provider),
        })
    }

    fn now(&self) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
        self.callers.verifier(&self.provider).map_err(refused)
    }
}

fn refused(error: Error) -> rustls::Error {
    tracing::warn!(
        error = &error as &dyn std::error::Error,
        "no caller is let in"
    );
    CertificateError::Other(OtherError(Arc::new(error))).into()
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.now()?.verify_client_cert(leaf, issuers, now)?;
        self.callers.check_name(leaf).map_err(refused)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose,
        IsCa, KeyPair,
    };

    fn key() -> KeyPair {
        KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap()
    }

    fn authority() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, key()).unwrap()
    }

    fn client(
        authority: &CertifiedIssuer<'static, KeyPair>,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
    ) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        params.signed_by(&key(), authority).unwrap().der().clone()
    }

    #[test]
    fn only_named_clients_of_the_authority_are_let_in_and_a_new_authority_counts_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.crt");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let names = ["front-proxy-client".to_owned()];
        let missing = Verifier::new(&file, &names, &provider).map(drop);
        assert!(missing.unwrap_err().to_string().contains("ca.crt"));
        std::fs::write(&file, "nothing").unwrap();
        let empty = Verifier::new(&file, &names, &provider).map(drop);
        assert!(matches!(empty, Err(Error::Empty(_))));

        let (old, new) = (authority(), authority());
        std::fs::write(&file, old.pem()).unwrap();
        let named = Verifier::new(&file, &names, &provider).unwrap();
        let any = Verifier::new(&file, &[], &provider).unwrap();
        assert!(any.client_auth_mandatory());
        let check = |verifier: &Verifier, leaf: &CertificateDer<'_>| {
            let verified = verifier.verify_client_cert(leaf, &[], UnixTime::now());
            verified.map(drop).map_err(|error| error.to_string())
        };
        let proxy = client(&old, &names[0], ExtendedKeyUsagePurpose::ClientAuth);
        let kubelet = client(&old, "system:node:a", ExtendedKeyUsagePurpose::ClientAuth);
        let server = client(&old, &names[0], ExtendedKeyUsagePurpose::ServerAuth);
        let foreign = client(&new, &names[0], ExtendedKeyUsagePurpose::ClientAuth);
        check(&named, &proxy).unwrap();
        check(&any, &kubelet).unwrap();
        let refusal = check(&named, &kubelet).unwrap_err();
        assert!(refusal.contains("system:node:a"), "{refusal}");
        check(&any, &server).unwrap_err();
        check(&any, &foreign).unwrap_err();
        std::fs::write(&file, new.pem()).unwrap();
        check(&named, &foreign).unwrap();
        check(&named, &proxy).unwrap_err();
    }
}
