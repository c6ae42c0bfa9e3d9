//! When an issuer from outside is asked for, and how it takes over: the first one at once, the next ones at half of a life. What
//! was asked for is written down with its key, as it may take days until somebody approves it. One
//! below another root waits until everybody who holds anchors fixed has heard of that root, as with sentry's own rotation.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use values::{Clock, Pauses};

use super::{Answer, Certified, Error, Upstream};
use crate::ca::{self, Authority, Material, Terms};
use crate::rotation::record::Record;
use crate::store::{Credentials, Store, Stored};

/// Keeps the issuer from outside.
pub struct Renewal {
    upstream: Box<dyn Upstream>,
    wanted: Wanted,
    clock: Arc<dyn Clock>,
}

/// What is written down beside the credentials: whose they are, and how far they have come.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mark {
    upstream: String,
    /// When everybody knows a root that was made known, in seconds since 1970; none unless a new issuer waits for that.
    #[serde(default, rename = "known_at", skip_serializing_if = "Option::is_none")]
    known_at: Option<u64>,
    /// What was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<Pending>,
    /// Whether the issuer in force is one that sentry has made, and is to give way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    gives_way: bool,
}

/// A request that is under way.
#[derive(Clone, Serialize, Deserialize)]
struct Pending {
    request: String,
    /// PEM: the key that is to be certified.
    key: String,
    /// When it was asked for, in seconds since 1970.
    since: u64,
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
/// Pause before it is looked what has become of a request, and that of one that is older than [`YOUNG`]: people decide.
const SOON: Duration = Duration::from_secs(2);
const LATER: Duration = Duration::from_secs(30);
/// See [`LATER`].
const YOUNG: Duration = Duration::from_secs(60);
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
            let pause = match self.look(store).await {
                Ok(pause) => {
                    pauses.reset();
                    pause
                }
                Err(error @ Error::Foreign { .. }) => return Err(error),
                Err(error) => {
                    self.complain(&error);
                    pauses.pause()
                }
            };
            if store.load().await?.credentials.key.is_some() {
                // With what is there sentry can work; it is renewed later.
                return Ok(());
            }
            sleep(pause).await;
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
        let mark = self.mark_of(there);
        let (Some(root), Some(chain), Some(_)) = (&there.root, &there.chain, &there.key) else {
            let mark = mark.unwrap_or_else(|| self.mark());
            let (issuer, request) = match self.issuer(store, &stored, mark).await? {
                Asked::Certified(issuer, request) => (issuer, request),
                Asked::UnderWay(pause) => return Ok(pause),
            };
            self.check(&issuer)?;
            store.save(&stored, &self.credentials(issuer), None).await?;
            self.upstream.withdraw(&request).await;
            tracing::info!("an issuer from {} is in force", self.upstream.name());
            return Ok(AGAIN);
        };
        // One that sentry has made gives way like an issuer that is due: its root stays known as long as it is good.
        let own = Record::of(there).is_some();
        let Some(mark) = mark.or_else(|| {
            let gives_way = own;
            own.then(|| Mark {
                gives_way,
                ..self.mark()
            })
        }) else {
            return Err(Error::Foreign {
                upstream: self.upstream.name(),
            });
        };
        let (begin, end) = self.dates(chain)?;
        let now = SystemTime::from(self.clock.now());
        let half = begin + end.duration_since(begin).unwrap_or_default() / 2;
        let known_at = mark
            .known_at
            .map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let at_once = mark.gives_way || mark.pending.is_some();
        let due = known_at.unwrap_or(if at_once { now } else { half });
        // Without time to tell everybody, it is better to fail those who hold anchors fixed than all.
        let ends = now + self.wanted.longest >= end;
        if let Ok(left) = due.duration_since(now)
            && !left.is_zero()
            && !ends
        {
            return Ok(left.min(LONG));
        }
        let (issuer, request) = match self.issuer(store, &stored, mark.clone()).await? {
            Asked::Certified(issuer, request) => (issuer, request),
            Asked::UnderWay(pause) => return Ok(pause),
        };
        match self.joined(root, &issuer.root)? {
            Some(anchors) if !ends => {
                // What was certified stays where it is until it is put into force.
                let known_at = Some(seconds(now + self.wanted.longest));
                let mut wanted = there.clone();
                wanted.root = Some(anchors);
                wanted.record = Some(written(&Mark { known_at, ..mark }));
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
                self.upstream.withdraw(&request).await;
                tracing::info!("a new issuer from {} is in force", self.upstream.name());
                Ok(AGAIN)
            }
        }
    }

    /// The issuer that was asked for, once it is certified. Asks for one with a new key, if that has not been done.
    async fn issuer(&self, store: &Store, stored: &Stored, mark: Mark) -> Result<Asked, Error> {
        let note = async |mark: &Mark| {
            let mut wanted = stored.credentials.clone();
            wanted.record = Some(written(mark));
            store.save(stored, &wanted, None).await
        };
        let now = seconds(SystemTime::from(self.clock.now()));
        let Some(pending) = mark.pending.clone() else {
            // The kind of key that every authority certifies.
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
            let key = key.map_err(|error| self.unmade(&error))?;
            let pending = Pending {
                request: format!("dapr-trust-bundle-{:016x}", fastrand::u64(..)),
                key: key.serialize_pem(),
                since: now,
            };
            // Written down first: whoever looks next, also after a restart, finds what was asked for.
            let pending = Some(pending);
            note(&Mark {
                pending: pending.clone(),
                ..mark
            })
            .await?;
            if let Some(pending) = &pending {
                self.submit(pending).await?;
            }
            return Ok(Asked::UnderWay(SOON));
        };
        let old = now.saturating_sub(pending.since) > YOUNG.as_secs();
        let under_way = Ok(Asked::UnderWay(if old { LATER } else { SOON }));
        match self.upstream.answer(&pending.request).await {
            Ok(Answer::Certified(Certified { chain, root })) => {
                let key = pending.key.into_bytes();
                let material = Material { root, chain, key };
                Ok(Asked::Certified(material, pending.request))
            }
            Ok(Answer::Undecided) => under_way,
            Ok(Answer::Unknown) => {
                // Another replica may have put it into force meanwhile.
                let latest = self.mark_of(&store.load().await?.credentials);
                let latest = latest.and_then(|mark| mark.pending);
                if latest.is_some_and(|latest| latest.request == pending.request) {
                    self.submit(&pending).await?;
                }
                under_way
            }
            Err(error @ Error::Refused { .. }) => {
                let pending_none = Mark {
                    pending: None,
                    ..mark
                };
                note(&pending_none).await?;
                self.upstream.withdraw(&pending.request).await;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    async fn submit(&self, pending: &Pending) -> Result<(), Error> {
        let csr = self.csr(&pending.key);
        let csr = csr.map_err(|error| self.unmade(&error))?;
        let life = self.wanted.life;
        self.upstream.submit(&pending.request, &csr, life).await
    }

    fn csr(&self, key: &str) -> Result<String, rcgen::Error> {
        let key = KeyPair::from_pem(key)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let name = &mut params.distinguished_name;
        name.push(DnType::OrganizationName, self.wanted.subject.clone());
        params.serialize_request(&key)?.pem()
    }

    fn unmade(&self, error: &rcgen::Error) -> Error {
        let reason = error.to_string();
        self.unusable(ca::Error::Make { reason })
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
            record: Some(written(&self.mark())),
            ..Credentials::default()
        }
    }

    fn mark(&self) -> Mark {
        Mark {
            upstream: self.upstream.name().to_owned(),
            ..Mark::default()
        }
    }

    fn mark_of(&self, there: &Credentials) -> Option<Mark> {
        let mark: Mark = serde_json::from_slice(there.record.as_deref()?).ok()?;
        (mark.upstream == self.upstream.name()).then_some(mark)
    }
}

/// What has come of asking.
enum Asked {
    /// An issuer, and the request for it, which is to be taken away.
    Certified(Material, String),
    /// Nothing yet; it is looked at again after this.
    UnderWay(Duration),
}

fn seconds(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

fn written(mark: &Mark) -> Vec<u8> {
    serde_json::to_vec(mark).expect("plain text fields")
}

#[cfg(test)]
mod tests;
