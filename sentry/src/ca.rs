//! The certificate authority: an issuer under a root, signing workload certificates (contract 6.2, 6.5).

pub mod generate;
pub mod images;
pub mod request;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use security::{SpiffeId, pem_block};
use values::Clock;
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

/// How long certificates live, by which clock.
#[derive(Clone)]
pub struct Terms {
    pub ttl: Duration,
    pub skew: Duration,
    pub clock: Arc<dyn Clock>,
}

/// A checked issuer, ready to sign.
pub struct Authority {
    anchors: String,
    chain: Vec<Link>,
    issuer: Issuer<'static, KeyPair>,
    issuer_has_key_id: bool,
    not_after: SystemTime,
    terms: Terms,
}

/// A certificate of the chain, as PEM.
struct Link {
    pem: String,
    not_after: SystemTime,
}

impl Authority {
    /// Checks credentials: user-provided ones may be RSA, ECDSA or Ed25519.
    pub fn open(material: &Material, terms: &Terms) -> Result<Self, Error> {
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
        let issuer_has_key_id = check_issuer(&chain, &key)?;
        let issuer = Issuer::from_ca_cert_der(&chain[0], key).map_err(|error| Error::Key {
            reason: error.to_string(),
        })?;
        let link = |certificate| {
            Ok(Link {
                pem: pem(std::slice::from_ref(certificate)),
                not_after: end(certificate)?,
            })
        };
        let mut authority = Self {
            anchors: pem(&roots),
            not_after: end(&chain[0])?,
            chain: chain.iter().map(link).collect::<Result<_, Error>>()?,
            issuer,
            issuer_has_key_id,
            terms: terms.clone(),
        };
        authority.not_after = authority.try_out(&roots, &chain)?;
        Ok(authority)
    }

    /// PEM of all trust anchors, without comments.
    pub fn anchors(&self) -> &str {
        &self.anchors
    }

    /// When the first certificate between the issuer and its trust anchor expires; nothing is valid for longer.
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
        let now = SystemTime::from(self.terms.clock.now());
        if self.not_after <= now {
            return Err(Error::Expired {
                at: self.not_after(),
            });
        }
        // A certificate that outlives its issuer would fail late and far away. Q-sentry-issuer-end
        let not_after = (now + self.terms.ttl).min(self.not_after);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.not_before = (now - self.terms.skew).into();
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
        let mut chain = pem(std::slice::from_ref(leaf.der()));
        // What vouches for this issuer to those who know an older root only is of no use to them once it has expired.
        for link in self.chain.iter().filter(|link| link.not_after > now) {
            chain.push_str(&link.pem);
        }
        // Certificates count in whole seconds.
        Ok(Issued {
            chain: chain.into_bytes(),
            not_after: seconds(not_after),
        })
    }

    /// Signs a throw-away certificate and verifies it as a peer would: better to fail here than in every sidecar. Answers the
    /// end of the shortest way to a trust anchor; what follows it in the chain is for peers who know older anchors.
    fn try_out(
        &self,
        roots: &[CertificateDer<'_>],
        chain: &[CertificateDer<'_>],
    ) -> Result<SystemTime, Error> {
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
        let now = SystemTime::from(self.terms.clock.now());
        let mut wrong = String::new();
        for length in 1..=chain.len() {
            let mut first = end(&chain[0])?;
            for link in &chain[1..length] {
                first = first.min(end(link)?);
            }
            // Root by root: peers do not trust one that has expired.
            for root in roots {
                let last = end(root)?;
                if last <= now {
                    wrong = format!("a trust anchor has expired at {}", timestamp(last));
                    continue;
                }
                match verifies(&leaf, &chain[..length], root, now) {
                    Ok(()) => return Ok(first.min(last)),
                    Err(error) => wrong = error.to_string(),
                }
            }
        }
        Err(Error::Chain { reason: wrong })
    }
}

/// Whether a peer that trusts `root` follows a chain to it.
pub(crate) fn verifies(
    leaf: &CertificateDer<'_>,
    chain: &[CertificateDer<'_>],
    root: &CertificateDer<'_>,
    now: SystemTime,
) -> Result<(), webpki::Error> {
    let anchor = webpki::anchor_from_trusted_cert(root)?;
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let leaf = webpki::EndEntityCert::try_from(leaf)?;
    leaf.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &[anchor],
        chain,
        UnixTime::since_unix_epoch(now),
        webpki::KeyUsage::server_auth(),
        None,
        None,
    )
    .map(drop)
}

/// Whether the issuer's certificate and key belong together, and whether it names its key.
fn check_issuer(chain: &[CertificateDer<'_>], key: &KeyPair) -> Result<bool, Error> {
    let parsed = parse(&chain[0], "the issuer chain")?;
    if !parsed.is_ca() {
        return Err(Error::NotAnAuthority);
    }
    if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Err(Error::KeyMismatch);
    }
    let key_id = x509_parser::oid_registry::OID_X509_EXT_SUBJECT_KEY_IDENTIFIER;
    Ok(matches!(parsed.get_extension_unique(&key_id), Ok(Some(_))))
}

fn end(certificate: &CertificateDer<'_>) -> Result<SystemTime, Error> {
    Ok(validity(certificate)?.1)
}

/// Begin and end of a certificate.
pub(crate) fn validity(
    certificate: &CertificateDer<'_>,
) -> Result<(SystemTime, SystemTime), Error> {
    let parsed = parse(certificate, "a certificate of the credentials")?;
    let time = |time: x509_parser::time::ASN1Time| {
        let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    };
    let validity = parsed.validity();
    Ok((time(validity.not_before), time(validity.not_after)))
}

pub(crate) fn certificates(
    pem: &[u8],
    what: &'static str,
) -> Result<Vec<CertificateDer<'static>>, Error> {
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
