//! Certificate requests: of one, only the public key counts, once its signature has shown that the sender holds it.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("invalid certificate signing request")]
    Pem,
    #[error("the certificate signing request is unreadable: {0}")]
    Unreadable(String),
    #[error("the certificate signing request is not signed by its own key")]
    Signature,
}

/// Largest request in bytes; one with a 4096-bit RSA key has about 1,600.
const MAX: usize = 64 << 10;

/// The public key of a PEM request, as DER `SubjectPublicKeyInfo`.
pub fn public_key(request: &[u8]) -> Result<Vec<u8>, Error> {
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
    request.verify_signature().map_err(|_| Error::Signature)?;
    Ok(request.certification_request_info.subject_pki.raw.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    #[test]
    fn requests_are_read_and_checked() {
        for algorithm in [
            &rcgen::PKCS_ED25519,
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_RSA_SHA256,
        ] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let request = CertificateParams::new(vec!["ignored".to_owned()]).unwrap();
            let request = request.serialize_request(&key).unwrap();
            let pem = request.pem().unwrap();
            let found = public_key(pem.as_bytes()).unwrap();
            assert!(found.ends_with(key.public_key_raw()));
            assert_eq!(
                public_key(pem.replace("CERTIFICATE REQUEST", "CERTIFICATE").as_bytes()).unwrap(),
                found
            );
            assert_eq!(
                public_key(pem.replace("CERTIFICATE REQUEST", "PUBLIC KEY").as_bytes()),
                Err(Error::Pem)
            );
            let mut broken = request.der().to_vec();
            *broken.last_mut().unwrap() ^= 1;
            let broken = security::pem_block("CERTIFICATE REQUEST", &broken);
            assert_eq!(public_key(broken.as_bytes()), Err(Error::Signature));
        }
        assert_eq!(public_key(b""), Err(Error::Pem));
        assert_eq!(public_key(&vec![b'x'; MAX + 1]), Err(Error::Pem));
        let nonsense = security::pem_block("CERTIFICATE REQUEST", b"nonsense");
        assert!(matches!(
            public_key(nonsense.as_bytes()),
            Err(Error::Unreadable(_))
        ));
    }
}
