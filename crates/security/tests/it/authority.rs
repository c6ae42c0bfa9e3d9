//! A small certificate authority: root, issuer, and any SPIFFE id.

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PublicKeyData as _, SanType, SubjectPublicKeyInfo,
};
use security::{CertificateSource, Signed, SourceError};

pub struct Authority {
    root: CertifiedIssuer<'static, KeyPair>,
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// What an older root says for this one, and the anchors that are handed out.
    cross: String,
    anchors: String,
}

impl Authority {
    pub fn new() -> Self {
        Self::make(None)
    }

    /// A new root that the old one vouches for; both are handed out.
    pub fn after(old: &Self) -> Self {
        Self::make(Some(old))
    }

    fn make(old: Option<&Self>) -> Self {
        let key = || KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let root_key = key();
        let public = SubjectPublicKeyInfo::from_der(&root_key.subject_public_key_info()).unwrap();
        let cross = old.map(|old| ca("root").signed_by(&public, &old.root).unwrap().pem());
        let root = CertifiedIssuer::self_signed(ca("root"), root_key).unwrap();
        let issuer = CertifiedIssuer::signed_by(ca("issuer"), key(), &root).unwrap();
        Self {
            anchors: old.map(Self::root_pem).unwrap_or_default() + &root.pem(),
            root,
            issuer,
            cross: cross.unwrap_or_default(),
        }
    }

    /// Hands out the new root alone.
    pub fn retire(self) -> Self {
        Self {
            anchors: self.root.pem(),
            ..self
        }
    }

    pub fn root_pem(&self) -> String {
        self.root.pem()
    }

    pub fn sign(&self, request: &str, uris: &[&str]) -> Signed {
        let now = std::time::SystemTime::now();
        let (before, after) = (Duration::from_secs(900), Duration::from_secs(86_400));
        self.sign_for(request, uris, now - before, now + after)
    }

    pub fn sign_for(
        &self,
        request: &str,
        uris: &[&str],
        not_before: SystemTime,
        not_after: SystemTime,
    ) -> Signed {
        let request = CertificateSigningRequestParams::from_pem(request).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.not_before = not_before.into();
        params.not_after = not_after.into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.subject_alt_names = uris
            .iter()
            .map(|uri| SanType::URI((*uri).try_into().unwrap()))
            .collect();
        let leaf = params.signed_by(&request.public_key, &self.issuer).unwrap();
        Signed {
            chain: format!("{}{}{}", leaf.pem(), self.issuer.pem(), self.cross).into_bytes(),
            anchors: self.anchors.clone().into_bytes(),
            ..Signed::default()
        }
    }
}

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
    ];
    params
}

/// Signs whatever it is asked for with the authority it holds at the moment.
pub struct Source {
    pub authority: std::sync::Arc<Mutex<std::sync::Arc<Authority>>>,
    pub uri: String,
}

#[async_trait::async_trait]
impl CertificateSource for Source {
    async fn sign(&self, request: &str) -> Result<Signed, SourceError> {
        Ok(self.authority.lock().unwrap().sign(request, &[&self.uri]))
    }
}
