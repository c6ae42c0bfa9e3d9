//! A new root and issuer (contract 6.5). The root's key is forgotten at once: it signs the issuer and nothing else.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use security::{SpiffeId, pem_block};

use super::{Error, Material, pem, serial};

/// Life of root and issuer.
pub const TTL: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Makes Ed25519 root and issuer for the control plane that `sentry` belongs to.
pub fn generate(sentry: &SpiffeId, skew: Duration) -> Result<Material, Error> {
    let make = |error: rcgen::Error| Error::Make {
        reason: error.to_string(),
    };
    let (root_key, _) = ed25519()?;
    let root_params = params(sentry.trust_domain(), skew, &[])?;
    let root = root_params.self_signed(&root_key).map_err(make)?;
    let root_issuer = Issuer::from_params(&root_params, &root_key);
    let (issuer_key, issuer_pem) = ed25519()?;
    let issuer = params(&sentry.to_string(), skew, &[KeyUsagePurpose::CrlSign])?;
    let issuer = issuer.signed_by(&issuer_key, &root_issuer).map_err(make)?;
    Ok(Material {
        root: pem(std::slice::from_ref(root.der())).into_bytes(),
        chain: pem(std::slice::from_ref(issuer.der())).into_bytes(),
        key: issuer_pem.into_bytes(),
    })
}

fn params(
    organization: &str,
    skew: Duration,
    usages: &[KeyUsagePurpose],
) -> Result<CertificateParams, Error> {
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, organization);
    params.not_before = (now - skew).into();
    params.not_after = (now + TTL).into();
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
    .map_err(|error| Error::Make {
        reason: error.to_string(),
    })?;
    Ok((key, pem_block("PRIVATE KEY", &der)))
}

/// What stands before the 32 secret bytes (RFC 8410, section 7).
const PKCS8_ED25519: &[u8] = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
