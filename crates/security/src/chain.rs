//! Signatures that are kept: made with a workload's key, stored with its chain of certificates, and checked long after the
//! certificate has expired. The chain is DER, one certificate after another, the signer's first.
//!
//! What is signed is the SHA-256 of the message: with Ed25519 those 32 bytes are the message, other kinds of keys sign it as
//! their digest.

use std::time::Duration;

use jiff::Timestamp;
use rustls::SignatureScheme;
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use sha2::{Digest, Sha256};
use webpki::aws_lc_rs as algorithms;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::verify::{Expect, Usage, verify};
use crate::{SpiffeId, Svid, TrustBundle};

/// Why a signature, or the chain behind it, is not believed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ChainError {
    /// The bytes are no certificates, or none of a workload. The text says what is wrong.
    #[error("{0}")]
    Unreadable(String),
    /// The signature is not that of the chain's first certificate over the message.
    #[error("the signature does not match the certificate")]
    Signature,
    /// The chain leads to no trust anchor at the time that is asked about.
    #[error("the certificate is not trusted: {0}")]
    Untrusted(String),
    /// The key cannot be used to sign.
    #[error("the key of the workload does not sign: {0}")]
    Key(String),
}

/// A chain of certificates, as it stands beside a signature.
#[derive(Debug)]
pub struct CertificateChain<'c> {
    certificates: Vec<CertificateDer<'c>>,
    id: SpiffeId,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl<'c> CertificateChain<'c> {
    /// Reads a chain of at most eight certificates, of which the first names a workload.
    ///
    /// # Errors
    /// [`ChainError::Unreadable`].
    pub fn parse(der: &'c [u8]) -> Result<Self, ChainError> {
        let mut certificates = Vec::new();
        let mut rest = der;
        let mut validity = None;
        while !rest.is_empty() {
            if certificates.len() == MAX_CERTIFICATES {
                return Err(unreadable("more than 8 certificates in a chain"));
            }
            let (behind, parsed) = X509Certificate::from_der(rest)
                .map_err(|_| unreadable("bytes that are no certificate"))?;
            if validity.is_none() {
                let of = parsed.validity();
                validity = Some((
                    time(of.not_before.timestamp())?,
                    time(of.not_after.timestamp())?,
                ));
            }
            let (this, _) = rest.split_at(rest.len() - behind.len());
            certificates.push(CertificateDer::from(this));
            rest = behind;
        }
        let (not_before, not_after) =
            validity.ok_or_else(|| unreadable("no certificate in a chain"))?;
        let id = identity(&certificates[0])?;
        Ok(Self {
            certificates,
            id,
            not_before,
            not_after,
        })
    }

    /// Whom the first certificate names.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Begin of the first certificate's validity.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// End of the first certificate's validity.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Checks a signature over a message.
    ///
    /// # Errors
    /// [`ChainError::Signature`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), ChainError> {
        let leaf = webpki::EndEntityCert::try_from(&self.certificates[0])
            .map_err(|error| unreadable(&error.to_string()))?;
        let digest = digest(message);
        let fits = |algorithm: &dyn SignatureVerificationAlgorithm, signed: &[u8]| {
            leaf.verify_signature(algorithm, signed, signature).is_ok()
        };
        let ok = fits(algorithms::ED25519, &digest)
            || OTHERS.iter().any(|algorithm| fits(*algorithm, message));
        ok.then_some(()).ok_or(ChainError::Signature)
    }

    /// Checks that the chain led to one of the anchors at `at`, which may be long ago.
    ///
    /// # Errors
    /// [`ChainError::Untrusted`].
    pub fn trusted(&self, anchors: &TrustBundle, at: Timestamp) -> Result<(), ChainError> {
        let (leaf, issuers) = self
            .certificates
            .split_first()
            .ok_or_else(|| unreadable("no certificate in a chain"))?;
        let at = Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0));
        let at = UnixTime::since_unix_epoch(at);
        verify(anchors, leaf, issuers, at, Usage::Client, &Expect::Any)
            .map(drop)
            .map_err(|error| ChainError::Untrusted(error.to_string()))
    }
}

impl Svid {
    /// The certificates as they are kept beside signatures: see [`CertificateChain`].
    #[must_use]
    pub fn chain_der(&self) -> Vec<u8> {
        let certificates = self.certificates().iter();
        certificates.flat_map(|der| der.as_ref().to_vec()).collect()
    }

    /// Signs a message, so that [`CertificateChain::verify`] takes it.
    ///
    /// # Errors
    /// [`ChainError::Key`] for a kind of key that does not sign.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, ChainError> {
        let certified = self.certified();
        let failed = |error: rustls::Error| ChainError::Key(error.to_string());
        if let Some(signer) = certified.key.choose_scheme(&[SignatureScheme::ED25519]) {
            return signer.sign(&digest(message)).map_err(failed);
        }
        let signer = certified.key.choose_scheme(&[
            SignatureScheme::RSA_PKCS1_SHA256,
            SignatureScheme::ECDSA_NISTP256_SHA256,
        ]);
        let signer = signer.ok_or_else(|| ChainError::Key("no scheme fits it".to_owned()))?;
        signer.sign(message).map_err(failed)
    }
}

fn digest(message: &[u8]) -> [u8; 32] {
    Sha256::digest(message).into()
}

/// The one URI name of a certificate.
fn identity(certificate: &CertificateDer<'_>) -> Result<SpiffeId, ChainError> {
    let parsed = webpki::EndEntityCert::try_from(certificate)
        .map_err(|error| unreadable(&error.to_string()))?;
    let mut names = parsed.valid_uri_names();
    let (Some(name), None) = (names.next(), names.next()) else {
        return Err(unreadable("a certificate with no or several uri names"));
    };
    name.parse()
        .map_err(|error: crate::Error| unreadable(&error.to_string()))
}

fn time(seconds: i64) -> Result<Timestamp, ChainError> {
    Timestamp::from_second(seconds).map_err(|_| unreadable("a validity out of all range"))
}

fn unreadable(what: &str) -> ChainError {
    ChainError::Unreadable(what.to_owned())
}

/// Most certificates of a chain.
const MAX_CERTIFICATES: usize = 8;

/// All but Ed25519 hash the message themselves.
const OTHERS: [&dyn SignatureVerificationAlgorithm; 3] = [
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P384_SHA256,
];
