//! How the component speaks TLS: which servers it takes, and its own certificate. All of it is checked before anything is
//! dialled: a server would only say that the handshake failed.

use std::sync::Arc;

use component::{Error, Result};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

const AUTHORITIES: &str = "caCert";
const CERTIFICATE: &str = "clientCert";
const KEY: &str = "clientKey";

/// The PEM texts of the metadata.
pub struct Files<'a> {
    pub authorities: Option<&'a str>,
    pub certificate: Option<&'a str>,
    pub key: Option<&'a str>,
}

/// The configuration for these.
///
/// # Errors
/// Names the field.
pub fn config(files: &Files<'_>) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal("TLS cannot be set up", error))?
        .with_root_certificates(roots(files.authorities)?);
    let config = match (files.certificate, files.key) {
        (None, None) => config.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let chain = certificates(CERTIFICATE, certificate)?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                .map_err(|error| Error::invalid_metadata(KEY, error))?;
            config.with_client_auth_cert(chain, key).map_err(|error| {
                Error::invalid_metadata(KEY, format!("does not fit clientCert: {error}"))
            })?
        }
        (Some(_), None) => return Err(Error::invalid_metadata(KEY, "is required with clientCert")),
        (None, Some(_)) => {
            return Err(Error::invalid_metadata(
                CERTIFICATE,
                "is required with clientKey",
            ));
        }
    };
    Ok(Arc::new(config))
}

fn roots(authorities: Option<&str>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(authorities) = authorities else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    for certificate in certificates(AUTHORITIES, authorities)? {
        roots
            .add(certificate)
            .map_err(|error| Error::invalid_metadata(AUTHORITIES, error))?;
    }
    Ok(roots)
}

fn certificates(field: &str, text: &str) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    let certificates = read.map_err(|error| Error::invalid_metadata(field, error))?;
    match certificates.is_empty() {
        true => Err(Error::invalid_metadata(
            field,
            "holds no certificate in PEM",
        )),
        false => Ok(certificates),
    }
}
