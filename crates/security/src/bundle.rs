//! Trust anchors: PEM in, and the parsed form that certificate chains are checked against.

use std::fmt;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::Error;

/// Largest trust bundle in bytes.
const MAX_PEM: usize = 1 << 20;
/// Most trust anchors in one bundle.
const MAX_ANCHORS: usize = 64;

/// A set of root certificates. During a root rotation it holds the old and the new ones.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TrustBundle {
    pem: Vec<u8>,
    roots: Vec<Root>,
}

#[derive(Clone, PartialEq, Eq)]
struct Root {
    certificate: CertificateDer<'static>,
    anchor: TrustAnchor<'static>,
    not_after: Duration,
}

impl TrustBundle {
    /// Reads one or more PEM certificates.
    ///
    /// # Errors
    /// [`Error::Anchors`] without a certificate, with an unreadable one, or above 64 of them.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        if pem.len() > MAX_PEM {
            return Err(invalid("larger than 1 MiB"));
        }
        let mut roots = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate =
                certificate.map_err(|error| invalid(&format!("no valid pem: {error}")))?;
            roots.push(Root::new(certificate)?);
        }
        if roots.is_empty() {
            return Err(invalid("no certificate in it"));
        }
        if roots.len() > MAX_ANCHORS {
            return Err(invalid("more than 64 certificates"));
        }
        Ok(Self {
            pem: pem.to_vec(),
            roots,
        })
    }

    /// The certificates as PEM, as they were configured.
    #[must_use]
    pub fn pem(&self) -> &[u8] {
        &self.pem
    }

    /// The certificates, DER.
    pub fn certificates(&self) -> impl ExactSizeIterator<Item = &CertificateDer<'static>> {
        self.roots.iter().map(|root| &root.certificate)
    }

    /// Whether there is no anchor, and so nothing can be verified.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// This bundle and the certificates of `other` that it lacks.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        for root in &other.roots {
            if !self.roots.contains(root) && all.roots.len() < MAX_ANCHORS {
                if all.pem.last().is_some_and(|last| *last != b'\n') {
                    all.pem.push(b'\n');
                }
                all.pem
                    .extend_from_slice(pem_block("CERTIFICATE", &root.certificate).as_bytes());
                all.roots.push(root.clone());
            }
        }
        all
    }

    /// What to say where `there` is said so far, such as the `caBundle` of a webhook; `None` if that will do. Unless this is
    /// the only one that has a say, what others have put there stays: replicas whose anchors differ while an authority is
    /// replaced are trusted all.
    #[must_use]
    pub fn to_register(&self, there: &[u8], alone: bool) -> Option<Self> {
        if there == self.pem {
            return None;
        }
        match Self::from_pem(there) {
            Ok(found) if !alone => {
                let complete = self.roots.iter().all(|root| found.roots.contains(root));
                (!complete).then(|| self.union(&found))
            }
            _ => Some(self.clone()),
        }
    }

    /// The anchors that have not expired at `now`.
    pub(crate) fn anchors(&self, now: UnixTime) -> Vec<TrustAnchor<'_>> {
        let now = Duration::from_secs(now.as_secs());
        let valid = self.roots.iter().filter(|root| root.not_after >= now);
        valid
            .map(|root| TrustAnchor {
                subject: root.anchor.subject.as_ref().into(),
                subject_public_key_info: root.anchor.subject_public_key_info.as_ref().into(),
                name_constraints: root
                    .anchor
                    .name_constraints
                    .as_ref()
                    .map(|names| names.as_ref().into()),
            })
            .collect()
    }
}

impl fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustBundle({} certificates)", self.roots.len())
    }
}

impl Root {
    fn new(certificate: CertificateDer<'static>) -> Result<Self, Error> {
        let anchor = webpki::anchor_from_trusted_cert(&certificate)
            .map_err(|error| invalid(&format!("unusable certificate: {error}")))?
            .to_owned();
        let (_, parsed) = X509Certificate::from_der(&certificate)
            .map_err(|_| invalid("unreadable certificate"))?;
        let not_after = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        Ok(Self {
            anchor,
            not_after: Duration::from_secs(not_after),
            certificate,
        })
    }
}

fn invalid(reason: &str) -> Error {
    Error::Anchors {
        reason: reason.to_owned(),
    }
}

/// One PEM block with Unix line ends.
#[must_use]
pub fn pem_block(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> String {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        params
            .self_signed(&key)
            .unwrap()
            .pem()
            .replace("\r\n", "\n")
    }

    #[test]
    fn unions_keep_the_configured_text_and_add_what_is_new() {
        let (one, two) = (root(), root());
        let first = TrustBundle::from_pem(one.as_bytes()).unwrap();
        let both = TrustBundle::from_pem(format!("{one}{two}").as_bytes()).unwrap();
        assert_eq!(first.union(&first), first);
        assert_eq!(first.union(&both).pem(), both.pem());
        assert_eq!(both.union(&first), both);
        assert_eq!(both.certificates().len(), 2);
    }

    #[test]
    fn what_others_have_registered_stays_until_they_are_silent() {
        let (one, two) = (root(), root());
        let [first, second] =
            [&one, &two].map(|pem| TrustBundle::from_pem(pem.as_bytes()).unwrap());
        let both = first.union(&second);
        assert_eq!(first.to_register(two.as_bytes(), false), Some(both.clone()));
        assert_eq!(first.to_register(two.as_bytes(), true), Some(first.clone()));
        for (alone, wanted) in [(false, None), (true, Some(first.clone()))] {
            assert_eq!(first.to_register(both.pem(), alone), wanted);
            assert_eq!(first.to_register(first.pem(), alone), None);
            for nothing in ["", "other"] {
                let wanted = first.to_register(nothing.as_bytes(), alone);
                assert_eq!(wanted, Some(first.clone()), "{nothing}");
            }
        }
    }

    #[test]
    fn nonsense_is_refused_and_expired_roots_do_not_count() {
        assert!(TrustBundle::from_pem(b"").is_err());
        assert!(
            TrustBundle::from_pem(
                b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
            )
            .is_err()
        );
        assert!(TrustBundle::from_pem(root().repeat(65).as_bytes()).is_err());
        let bundle = TrustBundle::from_pem(root().as_bytes()).unwrap();
        assert_eq!(bundle.anchors(UnixTime::now()).len(), 1);
        assert_eq!(
            bundle
                .anchors(UnixTime::since_unix_epoch(Duration::from_secs(
                    u64::MAX / 2
                )))
                .len(),
            0
        );
    }
}
