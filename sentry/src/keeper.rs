//! Keeps the authority: loads or makes its credentials, and takes over new ones while requests go on.

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;

use crate::ca::generate::generate;
use crate::ca::{self, Authority};
use crate::config::Policy;
use crate::jwt;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::store::{self, Credentials, Store, Stored};

/// The authority in force, and where it comes from.
pub struct Keeper {
    store: Store,
    settings: Settings,
    policy: Policy,
    metrics: Metrics,
    current: ArcSwap<Current>,
}

/// An authority, complete: whoever has begun with it finishes with it.
pub struct Current {
    pub authority: Authority,
    pub jwt: Option<jwt::Issuer>,
    credentials: Credentials,
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
        "the issuer key is there but {missing} is not: sentry makes no new authority over a key it did not make; \
         complete the set or remove the key"
    )]
    Incomplete { missing: &'static str },
    #[error("the {missing} has gone; the authority in force stays")]
    Gone { missing: &'static str },
}

/// How often two replicas may get into each other's way before giving up.
const TRIES: u32 = 10;

impl Keeper {
    /// Loads the credentials; makes and stores what is missing. Replicas that start together end up with one set.
    pub async fn open(
        store: Store,
        settings: Settings,
        policy: Policy,
        metrics: Metrics,
    ) -> Result<Self, Error> {
        let mut tries = 0;
        let (credentials, generated) = loop {
            let stored = store.load().await?;
            let (wanted, generated) = complete(&stored, &settings, &policy)?;
            // Checked before anything is written.
            open(&wanted, &settings, &policy)?;
            match store.save(&stored, &wanted).await {
                Ok(()) => break (wanted, generated),
                Err(store::Error::Conflict) if tries < TRIES => tries += 1,
                Err(error) => return Err(error.into()),
            }
        };
        if generated {
            tracing::info!("new credentials have been stored");
            metrics.issuer_changed();
        } else {
            tracing::info!("using the stored credentials");
        }
        let (authority, jwt) = open(&credentials, &settings, &policy)?;
        let keeper = Self {
            store,
            settings,
            policy,
            metrics,
            current: ArcSwap::from_pointee(Current {
                authority,
                jwt,
                credentials,
            }),
        };
        keeper.report_expiry();
        Ok(keeper)
    }

    /// The authority in force.
    pub fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }

    /// Takes over changed credentials; says whether there were any. On an error the old ones stay in force: upstream
    /// starts anew with what it finds, and ends if that is no good. Q-sentry-reload
    pub async fn reload(&self) -> Result<bool, Error> {
        let mut tries = 0;
        let (credentials, changed) = loop {
            let stored = self.store.load().await?;
            let credentials = self.complete_from_force(&stored)?;
            let changed = credentials != self.current().credentials;
            if changed {
                // Checked before anything is written.
                open(&credentials, &self.settings, &self.policy)?;
            }
            // The ConfigMap has to follow the Secret, since pods mount only that; also one that somebody else has changed,
            // and one that another replica has written at the same time, with what it took for the truth.
            match self.store.save(&stored, &credentials).await {
                Ok(()) => break (credentials, changed),
                Err(store::Error::Conflict) if tries < TRIES => tries += 1,
                Err(error) => return Err(error.into()),
            }
        };
        if !changed {
            return Ok(false);
        }
        let (authority, jwt) = open(&credentials, &self.settings, &self.policy)?;
        self.current.store(Arc::new(Current {
            authority,
            jwt,
            credentials,
        }));
        self.metrics.issuer_changed();
        self.report_expiry();
        Ok(true)
    }

    /// What is stored, with the parts for tokens that may be missing taken from those in force.
    fn complete_from_force(&self, stored: &Stored) -> Result<Credentials, Error> {
        let now = self.current();
        let mut credentials = stored.credentials.clone();
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

    /// Tells metric and log when the issuer ends; called at least with each renewal of sentry's own certificate.
    pub fn report_expiry(&self) {
        let at = self.current().authority.not_after();
        self.metrics.issuer_expires(at);
        match days_left(Timestamp::now(), at) {
            days @ ..=7 => tracing::error!(
                "the issuer certificate expires in {days} days, at {at}: renew it now"
            ),
            days @ ..=60 => {
                tracing::warn!("the issuer certificate expires in {days} days, at {at}")
            }
            days => tracing::info!("the issuer certificate is valid for {days} days, until {at}"),
        }
    }
}

fn days_left(now: Timestamp, at: Timestamp) -> i64 {
    at.duration_since(now).as_hours().div_euclid(24)
}

fn open(
    credentials: &Credentials,
    settings: &Settings,
    policy: &Policy,
) -> Result<(Authority, Option<jwt::Issuer>), Error> {
    let take = |part: &Option<Vec<u8>>| part.clone().unwrap_or_default();
    let material = ca::Material {
        root: take(&credentials.root),
        chain: take(&credentials.chain),
        key: take(&credentials.key),
    };
    let authority = Authority::open(&material, policy.workload_ttl, policy.clock_skew)?;
    let jwt = match &settings.jwt {
        None => None,
        Some(settings) => {
            let material = jwt::Material {
                key: take(&credentials.jwt_key),
                jwks: take(&credentials.jwks),
            };
            Some(jwt::Issuer::open(&material, settings, policy.clock_skew)?)
        }
    };
    Ok((authority, jwt))
}

/// What the stored credentials need to be complete, and whether anything had to be made.
fn complete(
    stored: &Stored,
    settings: &Settings,
    policy: &Policy,
) -> Result<(Credentials, bool), Error> {
    let mut wanted = stored.credentials.clone();
    let mut generated = false;
    let missing = match (&wanted.root, &wanted.chain) {
        (None, _) => Some("the root certificate"),
        (_, None) => Some("the issuer certificate"),
        _ => None,
    };
    match (&wanted.key, missing) {
        (Some(_), Some(missing)) => return Err(Error::Incomplete { missing }),
        (Some(_), None) => {}
        (None, _) => {
            tracing::info!("no issuer credentials yet, making a root and an issuer");
            let made = generate(&settings.id, policy.clock_skew)?;
            (wanted.root, wanted.chain, wanted.key) =
                (Some(made.root), Some(made.chain), Some(made.key));
            generated = true;
        }
    }
    if let Some(jwt) = &settings.jwt {
        match (&wanted.jwt_key, &wanted.jwks) {
            (Some(_), Some(_)) => {}
            // The key is somebody's, and its public half is all that lacks. Q-sentry-jwks-derived
            (Some(key), None) => wanted.jwks = Some(jwt::publish(key)?),
            (None, _) => {
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
