//! When an issuer from outside is asked for, and how it takes over: the first one at once, the next ones at half of a life. One
//! below another root waits until everybody who holds anchors fixed has heard of that root, as with sentry's own rotation.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use values::{Clock, Pauses};

use super::{Certified, Error, Upstream};
use crate::ca::{self, Authority, Material, Terms};
use crate::rotation::record::Record;
use crate::store::{Credentials, Store};

/// Keeps the issuer from outside.
pub struct Renewal {
    upstream: Box<dyn Upstream>,
    wanted: Wanted,
    clock: Arc<dyn Clock>,
}

/// What is written down beside the credentials: whose they are, and how far they have come.
#[derive(Serialize, Deserialize)]
struct Mark {
    upstream: String,
    /// When everybody knows a root that was made known, in seconds since 1970; none unless a new issuer waits for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    known_at: Option<u64>,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Whom the issuer's certificate names.
    pub subject: String,
    /// Life of an issuer.
    pub life: Duration,
    /// Longest life of what it signs, with the difference of clocks.
    pub longest: Duration,
}

/// Pause after the first thing that went wrong at the start; it doubles up to [`AGAIN`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Pause after what went wrong, and at the end of a step.
const AGAIN: Duration = Duration::from_secs(60);
/// An issuer that is not due is looked at again no later than this.
const LONG: Duration = Duration::from_secs(60 * 60);

impl Renewal {
    /// Nothing is asked for yet.
    pub fn new(upstream: Box<dyn Upstream>, wanted: Wanted, clock: Arc<dyn Clock>) -> Self {
        Self {
            upstream,
            wanted,
            clock,
        }
    }

    /// Sees to it that there is an issuer, for as long as it takes: without one sentry would make a root of its own.
    ///
    /// # Errors
    /// When the credentials there are somebody else's, or cannot be read.
    pub async fn begin(&self, store: &Store) -> Result<(), Error> {
        let mut pauses = Pauses::doubling(FIRST_PAUSE, AGAIN);
        loop {
            match self.look(store).await {
                Ok(_) => return Ok(()),
                Err(error @ Error::Foreign { .. }) => return Err(error),
                Err(error) => self.complain(&error),
            }
            if store.load().await?.credentials.key.is_some() {
                // With what is there sentry can work; it is renewed later.
                return Ok(());
            }
            sleep(pauses.pause()).await;
        }
    }

    /// Does what is due, and says when to look again, also after a failure.
    pub async fn due(&self, store: &Store) -> Duration {
        match self.look(store).await {
            Ok(pause) => pause,
            Err(error) => {
                self.complain(&error);
                AGAIN
            }
        }
    }

    fn complain(&self, error: &Error) {
        let error: &dyn std::error::Error = error;
        tracing::error!(error, "no new issuer from {}", self.upstream.name());
    }

    /// Does what is due, and says when to look again.
    ///
    /// # Errors
    /// When the authority outside, or the store, fails; what is in force stays.
    pub async fn look(&self, store: &Store) -> Result<Duration, Error> {
        let stored = store.load().await?;
        let there = &stored.credentials;
        let (Some(root), Some(chain), Some(_)) = (&there.root, &there.chain, &there.key) else {
            let issuer = self.ask().await?;
            self.check(&issuer)?;
            store.save(&stored, &self.credentials(issuer), None).await?;
            tracing::info!("an issuer from {} is in force", self.upstream.name());
            return Ok(AGAIN);
        };
        // One that sentry has made gives way like an issuer that is due: its root stays known as long as it is good.
        let own = Record::of(there).is_some();
        let mark = self.mark_of(there);
        if !own && mark.is_none() {
            return Err(Error::Foreign {
                upstream: self.upstream.name(),
            });
        }
        let (begin, end) = self.dates(chain)?;
        let now = SystemTime::from(self.clock.now());
        let half = begin + end.duration_since(begin).unwrap_or_default() / 2;
        let known_at = mark.and_then(|mark| mark.known_at);
        let known_at =
            known_at.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let due = known_at.unwrap_or(if own { now } else { half });
        // Without time to tell everybody, it is better to fail those who hold anchors fixed than all.
        let ends = now + self.wanted.longest >= end;
        if let Ok(left) = due.duration_since(now)
            && !left.is_zero()
            && !ends
        {
            return Ok(left.min(LONG));
        }
        let issuer = self.ask().await?;
        match self.joined(root, &issuer.root)? {
            Some(anchors) if !ends => {
                let known_at = now + self.wanted.longest;
                let mut wanted = there.clone();
                (wanted.root, wanted.record) = (Some(anchors), Some(self.mark(Some(known_at))));
                store.save(&stored, &wanted, None).await?;
                tracing::info!(
                    "a new root of {} is made known for {:?} before anything is signed below it",
                    self.upstream.name(),
                    self.wanted.longest
                );
                Ok(self.wanted.longest.min(LONG))
            }
            joined => {
                let material = Material {
                    root: joined.unwrap_or_else(|| root.clone()),
                    ..issuer
                };
                self.check(&material)?;
                let wanted = self.credentials(material);
                store.save(&stored, &wanted, None).await?;
                tracing::info!("a new issuer from {} is in force", self.upstream.name());
                Ok(AGAIN)
            }
        }
    }

    /// Asks for a new issuer with a new key.
    async fn ask(&self) -> Result<Material, Error> {
        let unusable = |reason: String| Error::Unusable {
            upstream: self.upstream.name(),
            source: ca::Error::Make { reason },
        };
        let make = |error: rcgen::Error| unusable(error.to_string());
        // The kind of key that every authority certifies.
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(make)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let name = &mut params.distinguished_name;
        name.push(DnType::OrganizationName, self.wanted.subject.clone());
        let csr = params.serialize_request(&key).map_err(make)?;
        let csr = csr.pem().map_err(make)?;
        let Certified { chain, root } = self.upstream.certify(&csr, self.wanted.life).await?;
        Ok(Material {
            root,
            chain,
            key: key.serialize_pem().into_bytes(),
        })
    }

    /// What is written must work: it is tried before.
    fn check(&self, material: &Material) -> Result<(), Error> {
        let terms = Terms {
            ttl: self.wanted.longest,
            skew: Duration::ZERO,
            clock: self.clock.clone(),
        };
        let opened = Authority::open(material, &terms);
        opened.map(drop).map_err(|source| self.unusable(source))
    }

    fn unusable(&self, source: ca::Error) -> Error {
        Error::Unusable {
            upstream: self.upstream.name(),
            source,
        }
    }

    fn dates(&self, chain: &[u8]) -> Result<(SystemTime, SystemTime), Error> {
        let chain = ca::certificates(chain, "the issuer chain");
        let dates = chain.and_then(|chain| ca::validity(&chain[0]));
        dates.map_err(|source| self.unusable(source))
    }

    /// The anchors with a new root; none if it is among them. Those that have ended go.
    fn joined(&self, anchors: &[u8], root: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let read = |pem| ca::certificates(pem, "the trust anchors");
        let joined = || {
            let (mut anchors, new) = (read(anchors)?, read(root)?);
            if new.iter().all(|new| anchors.contains(new)) {
                return Ok(None);
            }
            let now = SystemTime::from(self.clock.now());
            anchors.retain(|it| ca::validity(it).is_ok_and(|(_, end)| end > now));
            let new = new.into_iter().filter(|new| !anchors.contains(new));
            let new: Vec<_> = new.collect();
            anchors.extend(new);
            Ok(Some(ca::pem(&anchors).into_bytes()))
        };
        joined().map_err(|source| self.unusable(source))
    }

    fn credentials(&self, material: Material) -> Credentials {
        Credentials {
            root: Some(material.root),
            chain: Some(material.chain),
            key: Some(material.key),
            record: Some(self.mark(None)),
            ..Credentials::default()
        }
    }

    fn mark(&self, known_at: Option<SystemTime>) -> Vec<u8> {
        let seconds = |at: SystemTime| {
            at.duration_since(SystemTime::UNIX_EPOCH)
                .map(|it| it.as_secs())
        };
        let mark = Mark {
            upstream: self.upstream.name().to_owned(),
            known_at: known_at.and_then(|at| seconds(at).ok()),
        };
        serde_json::to_vec(&mark).expect("plain text fields")
    }

    fn mark_of(&self, there: &Credentials) -> Option<Mark> {
        let mark: Mark = serde_json::from_slice(there.record.as_deref()?).ok()?;
        (mark.upstream == self.upstream.name()).then_some(mark)
    }
}

#[cfg(test)]
mod tests;
