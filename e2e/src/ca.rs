//! Certificates for the suites: an Ed25519 root and issuer as sentry keeps them in a folder (contract 6.5),
//! and workload identities signed by that issuer without asking sentry.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::mesh::Identity;

/// A root, and the issuer under it.
pub struct Ca {
    trust_domain: String,
    root: CertifiedIssuer<'static, KeyPair>,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Ca {
    /// A new root and issuer for a trust domain.
    pub fn new(trust_domain: &str) -> Self {
        crate::mesh::install_provider();
        let root =
            CertifiedIssuer::self_signed(authority(trust_domain), key()).expect("a valid root");
        let sentry = format!("spiffe://{trust_domain}/ns/default/dapr-sentry");
        let issuer =
            CertifiedIssuer::signed_by(authority(&sentry), key(), &root).expect("a valid issuer");
        Self {
            trust_domain: trust_domain.to_owned(),
            root,
            issuer,
        }
    }

    /// The trust domain of every identity of this authority.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The root as PEM: the trust anchors of every program.
    pub fn anchors_pem(&self) -> String {
        self.root.pem()
    }

    /// The root.
    pub fn anchor(&self) -> CertificateDer<'static> {
        self.root.der().clone()
    }

    /// Writes `ca.crt`, `issuer.crt` and `issuer.key` as sentry reads them.
    pub fn write(&self, folder: &Path) {
        for (name, text) in [
            ("ca.crt", self.root.pem()),
            ("issuer.crt", self.issuer.pem()),
            ("issuer.key", self.issuer.key().serialize_pem()),
        ] {
            let path = folder.join(name);
            std::fs::write(&path, text).expect("the folder is writable");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
                .expect("the file is ours");
        }
    }

    /// Writes `server.crt` and `server.key` of a server on the loopback that is none of Dapr's.
    pub fn write_server(&self, folder: &Path) {
        let key = key();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&key, &self.issuer).expect("a valid leaf");
        for (name, text) in [
            ("server.crt", leaf.pem() + &self.issuer.pem()),
            ("server.key", key.serialize_pem()),
        ] {
            std::fs::write(folder.join(name), text).expect("the folder is writable");
        }
    }

    /// An identity of an app (or of a program) in a namespace.
    pub fn identity(&self, namespace: &str, app_id: &str) -> Identity {
        let key = key();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let uri = format!("spiffe://{}/ns/{namespace}/{app_id}", self.trust_domain);
        params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("ASCII"))];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&key, &self.issuer).expect("a valid leaf");
        Identity {
            chain: vec![leaf.der().clone(), self.issuer.der().clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        }
    }
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ED25519).expect("the provider knows Ed25519")
}

fn authority(organization: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, organization);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
    ];
    params
}
