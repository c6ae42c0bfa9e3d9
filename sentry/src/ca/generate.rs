//! New roots, issuers, and certificates that let an old root vouch for a new one (contract 6.5).

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SubjectPublicKeyInfo,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use security::{SpiffeId, pem_block};

use super::{Error, Material, certificates, parse, pem, serial};

/// Life of an issuer, and of a root whose key is forgotten.
pub const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A root, its key, and an issuer under it.
pub struct Made {
    pub material: Material,
    pub root_key: Vec<u8>,
}

/// When certificates begin and end.
#[derive(Clone, Copy, Debug)]
pub struct Dates {
    pub begin: SystemTime,
    pub root_end: SystemTime,
    pub issuer_end: SystemTime,
}

/// Makes Ed25519 root and issuer for the control plane that `sentry` belongs to.
pub fn generate(sentry: &SpiffeId, dates: Dates) -> Result<Made, Error> {
    let (key, root_key) = ed25519()?;
    let params = params(sentry.trust_domain(), dates.begin, dates.root_end, &[])?;
    let root = params.self_signed(&key).map_err(make)?;
    let root = pem(std::slice::from_ref(root.der())).into_bytes();
    let (chain, key) = issuer(sentry, &root, root_key.as_bytes(), dates)?;
    Ok(Made {
        material: Material { root, chain, key },
        root_key: root_key.into_bytes(),
    })
}

/// A new issuer under a root: its certificate and its key.
pub fn issuer(
    sentry: &SpiffeId,
    root: &[u8],
    root_key: &[u8],
    dates: Dates,
) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let (key, text) = ed25519()?;
    let usages = [KeyUsagePurpose::CrlSign];
    let params = params(&sentry.to_string(), dates.begin, dates.issuer_end, &usages)?;
    let certificate = params
        .signed_by(&key, &signer(root, root_key)?)
        .map_err(make)?;
    let certificate = pem(std::slice::from_ref(certificate.der()));
    Ok((certificate.into_bytes(), text.into_bytes()))
}

/// A certificate for the key of `root`, signed by another authority: those who know only that one can follow it to `root`.
pub fn cross(
    sentry: &SpiffeId,
    root: &[u8],
    signer_certificate: &[u8],
    signer_key: &[u8],
    (begin, end): (SystemTime, SystemTime),
) -> Result<Vec<u8>, Error> {
    let root = certificates(root, "a new root")?.swap_remove(0);
    let params = params(sentry.trust_domain(), begin, end, &[])?;
    let key = parse(&root, "a new root")?.public_key().raw.to_vec();
    let key = SubjectPublicKeyInfo::from_der(&key).map_err(make)?;
    let certificate = params
        .signed_by(&key, &signer(signer_certificate, signer_key)?)
        .map_err(make)?;
    Ok(pem(std::slice::from_ref(certificate.der())).into_bytes())
}

fn signer(certificate: &[u8], key: &[u8]) -> Result<Issuer<'static, KeyPair>, Error> {
    let certificate = certificates(certificate, "an issuer")?.swap_remove(0);
    let key = std::str::from_utf8(key).map_err(|_| Error::Pem { what: "a key" })?;
    let key = KeyPair::from_pem(key).map_err(make)?;
    Issuer::from_ca_cert_der(&certificate, key).map_err(make)
}

fn make(error: rcgen::Error) -> Error {
    Error::Make {
        reason: error.to_string(),
    }
}

fn params(
    organization: &str,
    begin: SystemTime,
    end: SystemTime,
    usages: &[KeyUsagePurpose],
) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, organization);
    params.not_before = begin.into();
    params.not_after = end.into();
    params.serial_number = Some(serial()?);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
    ];
    params.key_usages.extend_from_slice(usages);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// An Ed25519 key and its PKCS#8 text in version 1, which every reader knows; the library writes version 2.
fn ed25519() -> Result<(KeyPair, String), Error> {
    let mut der = PKCS8_ED25519.to_vec();
    let mut seed = [0; 32];
    aws_lc_rs::rand::fill(&mut seed).map_err(|_| Error::Make {
        reason: "no randomness".into(),
    })?;
    der.extend_from_slice(&seed);
    let key = KeyPair::from_pkcs8_der_and_sign_algo(
        &PrivatePkcs8KeyDer::from(der.as_slice()),
        &rcgen::PKCS_ED25519,
    )
    .map_err(make)?;
    Ok((key, pem_block("PRIVATE KEY", &der)))
}

/// What stands before the 32 secret bytes (RFC 8410, section 7).
const PKCS8_ED25519: &[u8] = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
