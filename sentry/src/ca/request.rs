//! Certificate requests: of one, only the public key counts, once its signature has shown that the sender holds it. It is judged
//! before anybody is asked who the sender is.

use security::SpiffeId;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::der_parser::asn1_rs::Oid;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry as oids;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("invalid certificate signing request")]
    Pem,
    #[error("the certificate signing request is unreadable: {0}")]
    Unreadable(String),
    #[error("the key of the certificate signing request is refused: {0}")]
    Key(String),
    #[error("the signature of the certificate signing request is made with {0}, which is refused")]
    Algorithm(String),
    #[error("the certificate signing request is not signed by its own key")]
    Signature,
    #[error("the certificate signing request asks for the name {0}, which its sender cannot have")]
    Name(String),
}

/// Largest request in bytes; one with an RSA key of 4096 bits has about 1,600.
const MAX: usize = 64 << 10;
/// Sizes of RSA keys in bits. Beyond them a check of a signature costs more than a caller is worth who is not known yet.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// Most names that a request may ask for; it needs one at most.
const MAX_NAMES: usize = 8;
/// Characters of a refused name that are repeated.
const SHOWN: usize = 100;

/// The public key of a PEM request from the app `id` in `namespace`, as DER `SubjectPublicKeyInfo`.
///
/// The subject has no effect. Names have none either, but a request for those of somebody else is a mistake or worse, and is
/// refused. Q-sentry-csr-names
pub fn public_key(request: &[u8], id: &str, namespace: &str) -> Result<Vec<u8>, Error> {
    if request.len() > MAX {
        return Err(Error::Pem);
    }
    let (_, pem) = parse_x509_pem(request).map_err(|_| Error::Pem)?;
    // Before version 1.12 sidecars labelled their requests as certificates.
    if pem.label != "CERTIFICATE REQUEST" && pem.label != "CERTIFICATE" {
        return Err(Error::Pem);
    }
    let (rest, request) = X509CertificationRequest::from_der(&pem.contents)
        .map_err(|error| Error::Unreadable(error.to_string()))?;
    if !rest.is_empty() {
        return Err(Error::Unreadable("trailing data".into()));
    }
    let key = &request.certification_request_info.subject_pki;
    accept_key(key)?;
    accept_algorithm(&request.signature_algorithm.algorithm)?;
    accept_names(&request, id, namespace)?;
    request.verify_signature().map_err(|_| Error::Signature)?;
    Ok(key.raw.to_vec())
}

/// Kinds and sizes of keys that are signed. Q-sentry-csr-keys
fn accept_key(key: &SubjectPublicKeyInfo<'_>) -> Result<(), Error> {
    let refused = |what: String| Err(Error::Key(what));
    let kind = &key.algorithm.algorithm;
    if *kind == oids::OID_SIG_ED25519 {
        return Ok(());
    }
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) if *kind == oids::OID_PKCS1_RSAENCRYPTION => {
            // A modulus may begin with a zero, which is no part of its size.
            let modulus = rsa.modulus.strip_prefix(&[0]).unwrap_or(rsa.modulus);
            let bits = modulus.len() * 8;
            match rsa.try_exponent() {
                _ if !RSA_BITS.contains(&bits) => refused(format!("RSA of {bits} bits")),
                Ok(exponent) if exponent > 2 && exponent % 2 == 1 => Ok(()),
                _ => refused("RSA with an unusual exponent".to_owned()),
            }
        }
        Ok(PublicKey::EC(_)) if *kind == oids::OID_KEY_TYPE_EC_PUBLIC_KEY => {
            let curve = key
                .algorithm
                .parameters
                .as_ref()
                .and_then(|any| any.as_oid().ok());
            match curve {
                Some(curve) if curve == oids::OID_EC_P256 || curve == oids::OID_NIST_EC_P384 => {
                    Ok(())
                }
                Some(curve) => refused(format!("the curve {curve}")),
                None => refused("an elliptic curve without a name".to_owned()),
            }
        }
        _ => refused(format!("the kind {kind}")),
    }
}

/// Signatures with digests that are broken prove nothing.
fn accept_algorithm(algorithm: &Oid<'_>) -> Result<(), Error> {
    let known = [
        oids::OID_SIG_ED25519,
        oids::OID_SIG_ECDSA_WITH_SHA256,
        oids::OID_SIG_ECDSA_WITH_SHA384,
        oids::OID_PKCS1_SHA256WITHRSA,
        oids::OID_PKCS1_SHA384WITHRSA,
        oids::OID_PKCS1_SHA512WITHRSA,
        oids::OID_PKCS1_RSASSAPSS,
    ];
    if known.contains(algorithm) {
        return Ok(());
    }
    Err(Error::Algorithm(algorithm.to_string()))
}

fn accept_names(
    request: &X509CertificationRequest<'_>,
    id: &str,
    namespace: &str,
) -> Result<(), Error> {
    let extensions = request.requested_extensions().into_iter().flatten();
    let names = extensions.filter_map(|extension| match extension {
        ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
        _ => None,
    });
    for (place, name) in names.flatten().enumerate() {
        let own = match name {
            // Sidecars before version 1.12 asked for their id as a name in the DNS.
            GeneralName::DNSName(name) => *name == id,
            GeneralName::URI(uri) => uri
                .parse::<SpiffeId>()
                .is_ok_and(|uri| uri.app_id() == id && uri.namespace() == namespace),
            _ => false,
        };
        if !own || place >= MAX_NAMES {
            return Err(Error::Name(name.to_string().chars().take(SHOWN).collect()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    fn read(request: &[u8]) -> Result<Vec<u8>, Error> {
        public_key(request, "app", "default")
    }

    #[test]
    fn requests_are_read_and_checked() {
        for algorithm in [
            &rcgen::PKCS_ED25519,
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_RSA_SHA256,
        ] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let request = CertificateParams::new(vec!["app".to_owned()]).unwrap();
            let request = request.serialize_request(&key).unwrap();
            let pem = request.pem().unwrap();
            let found = read(pem.as_bytes()).unwrap();
            assert!(found.ends_with(key.public_key_raw()));
            assert_eq!(
                read(pem.replace("CERTIFICATE REQUEST", "CERTIFICATE").as_bytes()).unwrap(),
                found
            );
            assert_eq!(
                read(pem.replace("CERTIFICATE REQUEST", "PUBLIC KEY").as_bytes()),
                Err(Error::Pem)
            );
            let mut broken = request.der().to_vec();
            *broken.last_mut().unwrap() ^= 1;
            let broken = security::pem_block("CERTIFICATE REQUEST", &broken);
            assert_eq!(read(broken.as_bytes()), Err(Error::Signature));
        }
        assert_eq!(read(b""), Err(Error::Pem));
        assert_eq!(read(&vec![b'x'; MAX + 1]), Err(Error::Pem));
        let nonsense = security::pem_block("CERTIFICATE REQUEST", b"nonsense");
        assert!(matches!(
            read(nonsense.as_bytes()),
            Err(Error::Unreadable(_))
        ));
    }

    #[test]
    fn names_of_others_are_refused() {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let ask = |names: Vec<SanType>| {
            let mut params = CertificateParams::default();
            params.subject_alt_names = names;
            let request = params.serialize_request(&key).unwrap();
            read(request.pem().unwrap().as_bytes()).map(drop)
        };
        let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
        let uri = |name: &str| SanType::URI(name.try_into().unwrap());
        assert_eq!(ask(Vec::new()), Ok(()));
        assert_eq!(
            ask(vec![dns("app"), uri("spiffe://public/ns/default/app")]),
            Ok(())
        );
        for (refused, shown) in [
            (dns("dapr-webhook.dapr-system.svc"), "dapr-webhook"),
            (uri("spiffe://public/ns/default/other"), "default/other"),
            (uri("spiffe://public/ns/other/app"), "other/app"),
            (uri("https://app"), "https://app"),
            (SanType::IpAddress([10, 0, 0, 1].into()), "0a:00:00:01"),
            (SanType::Rfc822Name("a@b".try_into().unwrap()), "a@b"),
        ] {
            let error = ask(vec![dns("app"), refused]).unwrap_err();
            assert!(error.to_string().contains(shown), "{error}");
        }
        let many = ask(vec![dns("app"); MAX_NAMES + 1]);
        assert!(matches!(many, Err(Error::Name(_))));
    }

    #[test]
    fn weak_and_strange_keys_are_refused() {
        for (file, reason) in [
            (
                &include_bytes!("testdata/rsa1024.csr")[..],
                "RSA of 1024 bits",
            ),
            (
                &include_bytes!("testdata/rsa8192.csr")[..],
                "RSA of 8192 bits",
            ),
            (
                &include_bytes!("testdata/p521.csr")[..],
                "the curve 1.3.132.0.35",
            ),
            (
                &include_bytes!("testdata/secp256k1.csr")[..],
                "the curve 1.3.132.0.10",
            ),
            (
                &include_bytes!("testdata/sha1.csr")[..],
                "1.2.840.113549.1.1.5",
            ),
        ] {
            let error = read(file).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
    }
}
