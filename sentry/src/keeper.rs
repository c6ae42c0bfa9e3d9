//! Keeps the authority: loads or makes its credentials, takes over new ones while requests go on, and replaces its own ones
//! before they end.

mod expiry;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use values::Clock;

use crate::ca::{self, Authority, Terms, generate};
use crate::config::Policy;
use crate::jwt;
use crate::metrics::Metrics;
use crate::rotation::{self, Record, Stage, Step, View};
use crate::settings::Settings;
use crate::store::{self, Credentials, Store, Stored};

/// The authority in force, and where it comes from.
pub struct Keeper {
    options: Options,
    current: ArcSwap<Current>,
    told: Mutex<expiry::Told>,
    seen: Seen,
    pause: Mutex<Duration>,
}

/// What a [`Keeper`] works with.
pub struct Options {
    pub store: Store,
    pub settings: Settings,
    pub policy: Policy,
    pub metrics: Metrics,
    pub clock: Arc<dyn Clock>,
}

/// An authority, complete: whoever has begun with it finishes with it.
pub struct Current {
    /// Signs for workloads.
    pub authority: Authority,
    own: Option<Authority>,
    pub jwt: Option<jwt::Issuer>,
    credentials: Credentials,
}

impl Current {
    /// Signs sentry's own certificate.
    pub fn own(&self) -> &Authority {
        self.own.as_ref().unwrap_or(&self.authority)
    }
}

/// Since when this process has seen a stage as it stands.
#[derive(Default)]
struct Seen(Mutex<Option<(Mark, Instant)>>);

/// What makes a stage another one: its name, its anchors, and the time that is written down.
type Mark = (Stage, String, u64);

impl Seen {
    fn passed(&self, record: &Record, now: Instant) -> Duration {
        let mark = (record.stage, record.root.clone(), record.seconds);
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = match &*seen {
            Some((known, since)) if *known == mark => *since,
            _ => {
                *seen = Some((mark, now));
                now
            }
        };
        Duration::from_secs(record.seconds) + now.saturating_duration_since(since)
    }
}

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the credentials cannot be loaded or stored")]
    Store(#[from] store::Error),
    #[error("the issuer credentials cannot be used")]
    Authority(#[from] ca::Error),
    #[error("the jwt credentials cannot be used")]
    Jwt(#[from] jwt::Error),
    /// Q-sentry-key-kept
    #[error(
        "{missing} is missing while other parts of its set are there: sentry makes nothing new over what it did not make; \
         complete the set or remove all of it"
    )]
    Incomplete { missing: &'static str },
    #[error("the {missing} has gone; the authority in force stays")]
    Gone { missing: &'static str },
}

/// How often two replicas may get into each other's way before giving up.
const TRIES: u32 = 10;
/// Most steps of a rotation in one go; a whole one has five.
const STEPS: u32 = 8;
/// Pause after them, if there is more to do.
const AGAIN: Duration = Duration::from_secs(1);

impl Keeper {
    /// Loads the credentials; makes and stores what is missing. Replicas that start together end up with one set.
    pub async fn open(options: Options) -> Result<Self, Error> {
        let (mut tries, mut steps, seen) = (0, 0, Seen::default());
        let mut made = false;
        let credentials = loop {
            let stored = options.store.load().await?;
            let (credentials, generated) = complete(&stored, &options)?;
            let (step, wanted) = options.step(&credentials, &seen)?;
            // Checked before anything is written; what has expired is replaced, if it may be.
            let stepped = step.is_some() && steps < STEPS;
            if !stepped || options.authorities(&credentials).is_ok() {
                options.authorities(&wanted)?;
            }
            match options.save(&stored, &wanted).await {
                Ok(()) => made |= generated,
                // Somebody else has taken the step.
                Err(store::Error::Conflict) if tries < TRIES => {
                    tries += 1;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            if !stepped {
                break wanted;
            }
            steps += 1;
            if let Some(step) = step {
                options.tell(step, &wanted).await;
            }
        };
        if made {
            tracing::info!("new credentials have been stored");
            options.metrics.issuer_changed();
        } else {
            tracing::info!("using the stored credentials");
        }
        let current = options.authorities(&credentials)?;
        let keeper = Self {
            options,
            current: ArcSwap::from_pointee(current),
            told: Mutex::default(),
            seen,
            pause: Mutex::new(Duration::MAX),
        };
        keeper.report_expiry().await;
        Ok(keeper)
    }

    /// Where the credentials are.
    pub fn store(&self) -> &Store {
        &self.options.store
    }

    /// The authority in force.
    pub fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }

    /// The time of day.
    pub fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    /// When to look again, at the latest.
    pub fn pause(&self) -> Duration {
        *self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over changed credentials and replaces own ones that are due; says whether other ones are in force. On an error the
    /// old ones stay: upstream starts anew with what it finds, and ends if that is no good. Q-sentry-reload
    pub async fn reload(&self) -> Result<bool, Error> {
        let (mut tries, mut steps, mut changed) = (0, 0, false);
        loop {
            let stored = self.options.store.load().await?;
            let credentials = self.complete_from_force(&stored)?;
            let (step, wanted) = self.options.step(&credentials, &self.seen)?;
            let other = !same(&wanted, &self.current().credentials);
            // Checked before anything is written.
            let next = self.options.authorities(&wanted)?;
            // The ConfigMap has to follow the Secret, since pods mount only that; also one that somebody else has changed,
            // and one that another replica has written at the same time, with what it took for the truth.
            match self.options.save(&stored, &wanted).await {
                Ok(()) => {}
                Err(store::Error::Conflict) if tries < TRIES => {
                    tries += 1;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            self.current.store(Arc::new(next));
            changed |= other;
            let pause = match step {
                Some(step) if steps < STEPS => {
                    self.options.tell(step, &wanted).await;
                    steps += 1;
                    continue;
                }
                _ => self.options.look(&wanted, &self.seen)?,
            };
            *self.pause.lock().unwrap_or_else(PoisonError::into_inner) = pause;
            break;
        }
        if changed {
            self.options.metrics.issuer_changed();
        }
        self.report_expiry().await;
        Ok(changed)
    }

    /// What is stored, with the parts for tokens that may be missing taken from those in force.
    fn complete_from_force(&self, stored: &Stored) -> Result<Credentials, Error> {
        let now = self.current();
        let mut credentials = stored.credentials.clone();
        restore(&mut credentials);
        for (missing, part) in [
            ("root certificate", &credentials.root),
            ("issuer certificate", &credentials.chain),
            ("issuer key", &credentials.key),
        ] {
            if part.is_none() {
                return Err(Error::Gone { missing });
            }
        }
        credentials.jwt_key = credentials
            .jwt_key
            .or_else(|| now.credentials.jwt_key.clone());
        credentials.jwks = credentials.jwks.or_else(|| now.credentials.jwks.clone());
        Ok(credentials)
    }
}

impl Options {
    /// Everything that signs with these credentials.
    fn authorities(&self, credentials: &Credentials) -> Result<Current, Error> {
        let take = |part: &Option<Vec<u8>>| part.clone().unwrap_or_default();
        let material = ca::Material {
            root: take(&credentials.root),
            chain: take(&credentials.chain),
            key: take(&credentials.key),
        };
        let terms = Terms {
            ttl: self.policy.workload_ttl,
            skew: self.policy.clock_skew,
            clock: self.clock.clone(),
        };
        let stored = Authority::open(&material, &terms)?;
        let workloads = Record::of(credentials).and_then(|record| record.workloads());
        let (authority, own) = match workloads {
            Some(material) => (Authority::open(&material, &terms)?, Some(stored)),
            None => (stored, None),
        };
        let jwt = match &self.settings.jwt {
            None => None,
            Some(settings) => {
                let material = jwt::Material {
                    key: take(&credentials.jwt_key),
                    jwks: take(&credentials.jwks),
                };
                let skew = self.policy.clock_skew;
                Some(jwt::Issuer::open(&material, settings, skew)?)
            }
        };
        Ok(Current {
            authority,
            own,
            jwt,
            credentials: credentials.clone(),
        })
    }

    async fn save(&self, stored: &Stored, wanted: &Credentials) -> Result<(), store::Error> {
        let stage = Record::of(wanted).map(|record| record.stage);
        self.store
            .save(stored, wanted, stage.map(Stage::name))
            .await?;
        self.metrics.stage(stage.unwrap_or_default().number());
        Ok(())
    }

    /// Longest life of a certificate that is signed from now on, with the difference of clocks.
    fn longest(&self) -> Duration {
        self.policy.workload_ttl + self.policy.clock_skew
    }

    fn view(&self, record: &Record, seen: &Seen) -> Result<View, ca::Error> {
        let [issuer_begin, issuer_end, root_end] = record.dates()?;
        let time = |time| Timestamp::try_from(time).unwrap_or(Timestamp::MAX);
        Ok(View {
            stage: record.stage,
            passed: seen.passed(record, self.clock.instant()),
            written: Duration::from_secs(record.seconds),
            longest: Duration::from_secs(record.longest).max(self.longest()),
            issuer_begin: time(issuer_begin),
            issuer_end: time(issuer_end),
            root_end: time(root_end),
            root_key: record.root_key.is_some(),
        })
    }

    /// The next step of the rotation, if there is one, and the credentials after it. Those that somebody else has made are
    /// left alone.
    fn step(
        &self,
        credentials: &Credentials,
        seen: &Seen,
    ) -> Result<(Option<Step>, Credentials), Error> {
        let mut wanted = credentials.clone();
        let Some(record) = Record::of(credentials) else {
            return Ok((None, wanted));
        };
        let view = self.view(&record, seen)?;
        let (plan, now) = (&self.settings.rotation, self.clock.now());
        let mut step = rotation::next(&view, plan, now);
        // Lives that get longer are written down before any certificate has one.
        if matches!(step, Step::Wait(_)) && record.longest < self.longest().as_secs() {
            step = Step::Note;
        }
        if matches!(step, Step::Wait(_)) {
            return Ok((None, wanted));
        }
        let sentry = &self.settings.id;
        let times = (view.passed, self.longest());
        let after = rotation::apply(step, &record, (sentry, plan), times, now)?;
        after.put_into(&mut wanted);
        Ok((Some(step), wanted))
    }

    fn look(&self, credentials: &Credentials, seen: &Seen) -> Result<Duration, Error> {
        let Some(record) = Record::of(credentials) else {
            return Ok(Duration::MAX);
        };
        let view = self.view(&record, seen)?;
        let step = rotation::next(&view, &self.settings.rotation, self.clock.now());
        Ok(match step {
            Step::Wait(pause) => pause,
            _ => AGAIN,
        })
    }
}

/// Whether two sets sign alike; how far a stage has come makes no difference.
fn same(one: &Credentials, other: &Credentials) -> bool {
    let record = |credentials: &Credentials| {
        Record::of(credentials).map(|record| (record.stage, record.next))
    };
    let bare = |credentials: &Credentials| Credentials {
        record: None,
        ..credentials.clone()
    };
    bare(one) == bare(other) && record(one) == record(other)
}

/// Completes a set of sentry's own that was written in part. One that was taken away whole is not wanted any more: its key
/// may be known to others, so nothing of it comes back.
fn restore(credentials: &mut Credentials) {
    let Credentials {
        root, chain, key, ..
    } = &*credentials;
    if root.is_none() && chain.is_none() && key.is_none() {
        if credentials.record.take().is_some() {
            tracing::warn!("the credentials have been removed: a new authority is made");
        }
        return;
    }
    if let Some(record) = Record::of(credentials) {
        let written = credentials.record.clone();
        record.put_into(credentials);
        credentials.record = written;
    }
}

/// What the stored credentials need to be complete, and whether anything had to be made.
fn complete(stored: &Stored, options: &Options) -> Result<(Credentials, bool), Error> {
    let mut wanted = stored.credentials.clone();
    restore(&mut wanted);
    let mut generated = false;
    let parts = [
        (&wanted.root, "the root certificate"),
        (&wanted.chain, "the issuer certificate"),
        (&wanted.key, "the issuer key"),
    ];
    let is_there = parts.iter().any(|(part, _)| part.is_some());
    match parts.iter().find(|(part, _)| part.is_none()) {
        None => {}
        Some((_, missing)) if is_there => return Err(Error::Incomplete { missing }),
        Some(_) => {
            tracing::info!("no issuer credentials yet, making a root and an issuer");
            let plan = &options.settings.rotation;
            let now = std::time::SystemTime::from(options.clock.now());
            let dates = generate::Dates {
                begin: now - options.policy.clock_skew,
                root_end: now + plan.root_life,
                issuer_end: now + plan.issuer_life,
            };
            let made = generate::generate(&options.settings.id, dates)?;
            // A root that signs nothing any more has no key.
            let root_key = plan.issuer.then_some(made.root_key.as_slice());
            let longest = options.longest().as_secs();
            Record::new(&made.material, root_key, longest).put_into(&mut wanted);
            generated = true;
        }
    }
    if let Some(jwt) = &options.settings.jwt {
        match (&wanted.jwt_key, &wanted.jwks) {
            (Some(_), Some(_)) => {}
            // The key is somebody's, and its public half is all that lacks. Q-sentry-jwks-derived
            (Some(key), None) => wanted.jwks = Some(jwt::publish(key)?),
            (None, Some(_)) => {
                let missing = "the jwt signing key";
                return Err(Error::Incomplete { missing });
            }
            (None, None) => {
                tracing::info!("no jwt signing key yet, making one");
                let made = jwt::generate(jwt)?;
                (wanted.jwt_key, wanted.jwks) = (Some(made.key), Some(made.jwks));
                generated = true;
            }
        }
    }
    Ok((wanted, generated))
}

#[cfg(test)]
mod tests;
