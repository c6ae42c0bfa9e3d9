//! The client's own certificate and key, checked before anything is dialled: a server would only say that it got none.

use component::{Error, Result};
use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

const CERTIFICATE: &str = "clientCert";
const KEY: &str = "clientKey";

/// Whether a certificate and a key can be read, and belong together.
///
/// # Errors
/// Names the field.
pub fn check(certificate: &str, key: &str) -> Result<()> {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::invalid_metadata(CERTIFICATE, error))?;
    if chain.is_empty() {
        return Err(Error::invalid_metadata(
            CERTIFICATE,
            "holds no certificate in PEM",
        ));
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|error| Error::invalid_metadata(KEY, error))?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
        .map(drop)
        .map_err(|error| Error::invalid_metadata(KEY, format!("does not fit clientCert: {error}")))
}
