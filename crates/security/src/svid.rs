//! A workload certificate with its key: making the request, checking and holding the answer.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, RsaKeySize};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::verify::{Expect, Usage, verify};
use crate::{Error, KeyKind, Signed, SpiffeId, TrustBundle};

/// The certificate, key and tokens of this workload.
pub struct Svid {
    id: SpiffeId,
    certified: Arc<CertifiedKey>,
    chain: Vec<u8>,
    key: PrivateKeyDer<'static>,
    not_before: Timestamp,
    not_after: Timestamp,
    jwt: Option<String>,
    audience_jwts: BTreeMap<String, String>,
}

/// A fresh key and the request for its certificate. Names in the request would be ignored, so it has none.
pub(crate) struct Request {
    key: KeyPair,
    pub(crate) pem: String,
}

impl Request {
    /// Makes a key; RSA takes tens of milliseconds of CPU, so this belongs on a blocking thread.
    pub(crate) fn new(kind: KeyKind) -> Result<Self, Error> {
        let failed = |error: rcgen::Error| Error::Svid {
            reason: format!("cannot make a request: {error}"),
        };
        let key = match kind {
            KeyKind::Ed25519 => KeyPair::generate_for(&rcgen::PKCS_ED25519),
            KeyKind::Rsa2048 => {
                KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048)
            }
        };
        let key = key.map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key).map_err(failed)?;
        let pem = request.pem().map_err(failed)?;
        Ok(Self { key, pem })
    }

    /// Checks the answer against the request and the anchors at `now`.
    pub(crate) fn finish(
        self,
        signed: &Signed,
        bundle: &TrustBundle,
        now: Timestamp,
    ) -> Result<Svid, Error> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&signed.chain)
            .collect::<Result<_, _>>()
            .map_err(|error| invalid(format!("the chain is no valid pem: {error}")))?;
        let (leaf, issuers) = chain
            .split_first()
            .ok_or_else(|| invalid("the chain is empty".into()))?;
        let now = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0));
        let id = verify(
            bundle,
            leaf,
            issuers,
            UnixTime::since_unix_epoch(now),
            Usage::Client,
            &Expect::Any,
        )
        .map_err(|error| invalid(format!("the chain does not verify: {error}")))?;
        let id: SpiffeId = id.parse()?;
        let (not_before, not_after) = validity(leaf)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let certified = CertifiedKey::from_der(chain, key.clone_key(), &provider)
            .map_err(|error| invalid(format!("key and certificate do not match: {error}")))?;
        let not_after = match signed.jwt.as_deref().map(expiry).transpose()?.flatten() {
            Some(jwt) => not_after.min(jwt),
            None => not_after,
        };
        Ok(Svid {
            id,
            certified: Arc::new(certified),
            chain: signed.chain.clone(),
            key,
            not_before,
            not_after,
            jwt: signed.jwt.clone(),
            audience_jwts: signed.audience_jwts.clone(),
        })
    }
}

impl Svid {
    /// The identity in the certificate.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// PEM, the workload's certificate first.
    #[must_use]
    pub fn chain_pem(&self) -> &[u8] {
        &self.chain
    }

    /// PKCS#8 PEM of the private key, for programs that hand their identity to a child process.
    #[must_use]
    pub fn key_pem(&self) -> String {
        crate::pem_block("PRIVATE KEY", self.key.secret_der())
    }

    /// The certificates, DER, the workload's first.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// Begin of validity.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// End of validity, the earlier of certificate and JWT.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The JWT of one audience, or the one for the trust domain.
    #[must_use]
    pub fn jwt(&self, audience: Option<&str>) -> Option<&str> {
        match audience {
            Some(audience) => self.audience_jwts.get(audience).map(String::as_str),
            None => self.jwt.as_deref(),
        }
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Svid({}, until {})", self.id, self.not_after)
    }
}

fn invalid(reason: String) -> Error {
    Error::Svid { reason }
}

fn validity(certificate: &CertificateDer<'_>) -> Result<(Timestamp, Timestamp), Error> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|_| invalid("the certificate is unreadable".into()))?;
    let time = |time: i64| {
        Timestamp::from_second(time).map_err(|_| invalid("the validity is out of range".into()))
    };
    let validity = parsed.validity();
    Ok((
        time(validity.not_before.timestamp())?,
        time(validity.not_after.timestamp())?,
    ))
}

/// `exp` of a JWT. The signature is not checked: the token came over the connection to Sentry.
fn expiry(jwt: &str) -> Result<Option<Timestamp>, Error> {
    let unreadable = || invalid("the jwt is unreadable".into());
    let claims = jwt.split('.').nth(1).ok_or_else(unreadable)?;
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(claims)
        .map_err(|_| unreadable())?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).map_err(|_| unreadable())?;
    Ok(claims["exp"]
        .as_i64()
        .and_then(|seconds| Timestamp::from_second(seconds).ok()))
}
