//! Certificates for the suites: an Ed25519 root and issuer as sentry keeps them in a folder (contract 6.5),
//! and workload identities signed by that issuer without asking sentry.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;

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
        Self::with(trust_domain, |_| {})
    }

    /// As ten years old as one that sentry replaces: it ends in a year or two.
    pub fn near_its_end(trust_domain: &str) -> Self {
        let since_1970 = std::time::UNIX_EPOCH.elapsed().expect("a date after 1970");
        let years = since_1970.as_secs() / (365 * 24 * 60 * 60);
        let year = 1970 + i32::try_from(years).expect("a date in this age");
        Self::with(trust_domain, |params| {
            params.not_before = rcgen::date_time_ymd(year - 8, 1, 1);
            params.not_after = rcgen::date_time_ymd(year + 2, 1, 1);
        })
    }

    fn with(trust_domain: &str, change: impl Fn(&mut CertificateParams)) -> Self {
        crate::mesh::install_provider();
        let authority = |name: &str| {
            let mut params = authority(name);
            change(&mut params);
            params
        };
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
        write(folder, "ca.crt", &self.root.pem());
        write(folder, "issuer.crt", &self.issuer.pem());
        write(folder, "issuer.key", &self.issuer.key().serialize_pem());
    }

    /// The same, with the document by which sentry knows that it has made them.
    pub fn write_as_sentrys(&self, folder: &Path) {
        let record = json!({
            "stage": "idle",
            "longest": 60,
            "root": self.root.pem(),
            "chain": self.issuer.pem(),
            "key": self.issuer.key().serialize_pem(),
            "rootKey": self.root.key().serialize_pem(),
        });
        self.write(folder);
        write(folder, "rotation.json", &record.to_string());
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

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("the folder is writable");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .expect("the file is ours");
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
