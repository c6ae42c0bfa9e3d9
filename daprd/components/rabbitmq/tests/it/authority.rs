//! Certificates: of the server, and of clients that log in with theirs.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};

/// Issues certificates.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// One whose certificate, and one for 127.0.0.1, are in the folder.
    pub fn new(folder: &Path) -> Self {
        // As programs do at their start.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut params = CertificateParams::new([]).expect("no names");
        params
            .distinguished_name
            .push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let authority = Self { issuer };
        let (certificate, key) = authority.issue("server");
        for (name, text) in [
            ("ca.pem", authority.pem()),
            ("server.pem", certificate),
            ("server.key", key),
        ] {
            std::fs::write(folder.join(name), text).expect("a file");
        }
        authority
    }

    /// Its own certificate.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate of that name for 127.0.0.1, and its key.
    pub fn issue(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new([]).expect("no names");
        let loopback = std::net::Ipv4Addr::LOCALHOST.into();
        params.subject_alt_names.push(SanType::IpAddress(loopback));
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }
}
