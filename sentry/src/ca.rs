//! The certificate authority: an issuer under a root, signing workload certificates (contract 6.2, 6.5).

pub mod generate;
pub mod images;
pub mod request;

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use security::{SpiffeId, pem_block};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Root, issuer chain and issuer key as PEM, as they are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Material {
    pub root: Vec<u8>,
    pub chain: Vec<u8>,
    pub key: Vec<u8>,
}

/// What can be wrong with credentials, and with a request to sign.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what} is no valid pem")]
    Pem { what: &'static str },
    #[error("{what} is not a readable certificate")]
    Certificate { what: &'static str },
    #[error("a trust anchor is not signed by itself")]
    NotSelfSigned,
    #[error("the issuer certificate is not a certificate authority")]
    NotAnAuthority,
    #[error("the issuer key cannot be used: {reason}")]
    Key { reason: String },
    #[error("the issuer key belongs to another certificate")]
    KeyMismatch,
    #[error("no trust anchor vouches for the issuer: {reason}")]
    Chain { reason: String },
    #[error("the issuer certificate has expired at {at}")]
    Expired { at: Timestamp },
    #[error("a certificate cannot be made: {reason}")]
    Make { reason: String },
}

/// What a workload certificate says.
#[derive(Clone, Debug)]
pub struct Subject {
    pub id: SpiffeId,
    pub dns: Vec<String>,
    pub images: Vec<images::Image>,
}

/// A signed certificate with its issuers.
#[derive(Clone, Debug)]
pub struct Issued {
    /// PEM, the workload's certificate first.
    pub chain: Vec<u8>,
    pub not_after: Timestamp,
}

/// A checked issuer, ready to sign.
pub struct Authority {
    anchors: String,
    chain: String,
    issuer: Issuer<'static, KeyPair>,
    issuer_has_key_id: bool,
    not_after: SystemTime,
    ttl: Duration,
    skew: Duration,
}

impl Authority {
    /// Checks credentials: user-provided ones may be RSA, ECDSA or Ed25519.
    pub fn open(material: &Material, ttl: Duration, skew: Duration) -> Result<Self, Error> {
        let roots = certificates(&material.root, "the trust anchors")?;
        for root in &roots {
            if !self_signed(root, "a trust anchor")? {
                return Err(Error::NotSelfSigned);
            }
        }
        let mut chain = certificates(&material.chain, "the issuer chain")?;
        // A root in the chain is of no use to anyone and would be sent with every certificate.
        if chain.len() > 1 && self_signed(&chain[chain.len() - 1], "the issuer chain")? {
            chain.pop();
        }
        let text = std::str::from_utf8(&material.key).map_err(|_| Error::Pem {
            what: "the issuer key",
        })?;
        let key = KeyPair::from_pem(text).map_err(|error| Error::Key {
            reason: error.to_string(),
        })?;
        let (issuer_has_key_id, not_after) = check_issuer(&chain, &key)?;
        let issuer = Issuer::from_ca_cert_der(&chain[0], key).map_err(|error| Error::Key {
            reason: error.to_string(),
        })?;
        let authority = Self {
            anchors: pem(&roots),
            chain: pem(&chain),
            issuer,
            issuer_has_key_id,
            not_after,
            ttl,
            skew,
        };
        authority.try_out(&roots, &chain)?;
        Ok(authority)
    }

    /// PEM of all trust anchors, without comments.
    pub fn anchors(&self) -> &str {
        &self.anchors
    }

    /// When the first certificate of the issuer chain expires; nothing is valid for longer.
    pub fn not_after(&self) -> Timestamp {
        timestamp(self.not_after)
    }

    /// Signs a certificate for a public key (DER `SubjectPublicKeyInfo`). Whether the caller may have it has been
    /// decided before.
    pub fn issue(&self, public_key: &[u8], subject: &Subject) -> Result<Issued, Error> {
        let key =
            rcgen::SubjectPublicKeyInfo::from_der(public_key).map_err(|error| Error::Make {
                reason: format!("the public key is not supported: {error}"),
            })?;
        self.issue_for(&key, subject)
    }

    fn issue_for(&self, key: &impl PublicKeyData, subject: &Subject) -> Result<Issued, Error> {
        let make = |error: rcgen::Error| Error::Make {
            reason: error.to_string(),
        };
        let now = SystemTime::now();
        if self.not_after <= now {
            return Err(Error::Expired {
                at: self.not_after(),
            });
        }
        // A certificate that outlives its issuer would fail late and far away. Q-sentry-issuer-end
        let not_after = (now + self.ttl).min(self.not_after);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.not_before = (now - self.skew).into();
        params.not_after = not_after.into();
        params.serial_number = Some(serial()?);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = self.issuer_has_key_id;
        for name in &subject.dns {
            params
                .subject_alt_names
                .push(SanType::DnsName(name.as_str().try_into().map_err(make)?));
        }
        params.subject_alt_names.push(SanType::URI(
            subject.id.to_string().try_into().map_err(make)?,
        ));
        if let Some(content) = images::encode(&subject.images) {
            params
                .custom_extensions
                .push(CustomExtension::from_oid_content(images::OID, content));
        }
        let leaf = params.signed_by(key, &self.issuer).map_err(make)?;
        let chain = format!("{}{}", pem(std::slice::from_ref(leaf.der())), self.chain);
        // Certificates count in whole seconds.
        Ok(Issued {
            chain: chain.into_bytes(),
            not_after: seconds(not_after),
        })
    }

    /// Signs a throw-away certificate and verifies it as a peer would: better to fail here than in every sidecar.
    fn try_out(
        &self,
        roots: &[CertificateDer<'_>],
        chain: &[CertificateDer<'_>],
    ) -> Result<(), Error> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(|error| Error::Make {
            reason: error.to_string(),
        })?;
        let id = SpiffeId::new("trial", "trial", "trial").expect("a valid id");
        let trial = self.issue_for(
            &key,
            &Subject {
                id,
                dns: Vec::new(),
                images: Vec::new(),
            },
        )?;
        let leaf = certificates(&trial.chain, "a signed certificate")?.swap_remove(0);
        let wrong = |error: webpki::Error| Error::Chain {
            reason: error.to_string(),
        };
        let anchors: Result<Vec<_>, _> =
            roots.iter().map(webpki::anchor_from_trusted_cert).collect();
        let usage = webpki::KeyUsage::server_auth();
        webpki::EndEntityCert::try_from(&leaf)
            .and_then(|leaf| {
                leaf.verify_for_usage(
                    webpki::ALL_VERIFICATION_ALGS,
                    &anchors?,
                    chain,
                    UnixTime::now(),
                    usage,
                    None,
                    None,
                )
                .map(drop)
            })
            .map_err(wrong)
    }
}

fn check_issuer(chain: &[CertificateDer<'_>], key: &KeyPair) -> Result<(bool, SystemTime), Error> {
    let mut not_after = None;
    let mut has_key_id = false;
    for (place, certificate) in chain.iter().enumerate() {
        let parsed = parse(certificate, "the issuer chain")?;
        if place == 0 {
            if !parsed.is_ca() {
                return Err(Error::NotAnAuthority);
            }
            if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
                return Err(Error::KeyMismatch);
            }
            let key_id = x509_parser::oid_registry::OID_X509_EXT_SUBJECT_KEY_IDENTIFIER;
            has_key_id = matches!(parsed.get_extension_unique(&key_id), Ok(Some(_)));
        }
        let expiry = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        let expiry = SystemTime::UNIX_EPOCH + Duration::from_secs(expiry);
        not_after = Some(not_after.map_or(expiry, |first: SystemTime| first.min(expiry)));
    }
    Ok((has_key_id, not_after.unwrap_or(SystemTime::UNIX_EPOCH)))
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() && found.len() <= MAX_CERTIFICATES => Ok(found),
        _ => Err(Error::Pem { what }),
    }
}

/// Most certificates in a chain or among the anchors.
const MAX_CERTIFICATES: usize = 64;

fn parse<'a>(
    certificate: &'a CertificateDer<'_>,
    what: &'static str,
) -> Result<X509Certificate<'a>, Error> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| Error::Certificate { what })?;
    Ok(parsed)
}

fn self_signed(certificate: &CertificateDer<'_>, what: &'static str) -> Result<bool, Error> {
    Ok(parse(certificate, what)?.verify_signature(None).is_ok())
}

/// 128 random bits, as a positive number.
fn serial() -> Result<SerialNumber, Error> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::Make {
        reason: "no randomness".into(),
    })?;
    Ok(SerialNumber::from_slice(&bytes))
}

pub(crate) fn pem(certificates: &[CertificateDer<'_>]) -> String {
    certificates
        .iter()
        .map(|certificate| pem_block("CERTIFICATE", certificate))
        .collect()
}

fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::MAX)
}

fn seconds(time: SystemTime) -> Timestamp {
    Timestamp::from_second(timestamp(time).as_second()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
