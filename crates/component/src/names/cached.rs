//! For resolvers that ask a registry: the addresses of an app are kept, and looked up again behind the calls, so that a call
//! waits for the registry only where nothing is known. Of an app there is one lookup at a time, whoever wants to know, and that
//! there is none is remembered as well.

#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Target;
use crate::{Error, ErrorKind, Result, Scope, error::chain};

/// Addresses are looked up again once they are as old as this, while calls go on with them.
const FRESH: Duration = Duration::from_secs(1);

/// For how long an app that the registry does not know is not asked for again.
const ABSENT: Duration = Duration::from_secs(1);

/// Addresses of this age are not used any more without being looked up.
const KEPT: Duration = Duration::from_secs(15);

/// An address where nobody could be reached comes last for this long.
const DOUBT: Duration = Duration::from_secs(10);

/// Most apps whose addresses are kept; one more takes the place of the one that was looked up longest ago.
const MAX_APPS: usize = 4096;

/// Most apps that are looked up at a time.
const MAX_LOOKUPS: usize = 1024;

/// Most addresses of one app that are kept.
const MAX_ADDRESSES: usize = 1024;

/// Asks a registry.
#[async_trait]
pub trait Lookup: Send + Sync + 'static {
    /// All addresses of an app, as `host:port`; none where the registry knows none.
    ///
    /// # Errors
    /// Where the registry cannot be asked.
    async fn lookup(&self, target: &Target) -> Result<Vec<String>>;
}

/// What is kept of a registry.
pub struct Cached<L> {
    registry: Arc<L>,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    apps: HashMap<Target, App>,
    /// Apps that the registry does not know, until when that counts, and what it says.
    absent: HashMap<Target, (Instant, String)>,
    /// Lookups under way, as long as somebody waits for them.
    lookups: HashMap<Target, WeakShared<Asking>>,
    /// Addresses in doubt, until then.
    doubted: HashMap<String, Instant>,
}

struct App {
    addresses: Vec<String>,
    /// Goes around the addresses.
    turn: usize,
    looked_up: Instant,
    /// They are to be looked up whatever their age is.
    stale: bool,
}

/// A lookup; what it finds is known once it has ended.
type Asking = BoxFuture<'static, Result<(), Failure>>;

/// An error that several hear.
#[derive(Clone)]
struct Failure {
    kind: ErrorKind,
    text: String,
}

/// What a resolution has to do.
enum Step {
    Use(String),
    /// Use it, and look up the addresses behind it.
    Renew(String),
    Ask,
    /// The registry has just said so.
    Absent(String),
}

impl<L: Lookup> Cached<L> {
    /// Nothing is known yet.
    pub fn new(registry: L) -> Self {
        Self {
            registry: Arc::new(registry),
            known: Arc::default(),
        }
    }

    /// The registry itself.
    pub fn registry(&self) -> &L {
        &self.registry
    }

    /// One of the app's addresses. Lookups behind the call run on `scope`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where the registry knows none, or knew none a second ago; what it says where it cannot be asked.
    pub async fn resolve(&self, target: &Target, scope: &Scope) -> Result<String> {
        let step = self.known.lock().step(target, Instant::now());
        match step {
            Step::Use(address) => return Ok(address),
            Step::Absent(text) => return Err(Error::new(ErrorKind::NotFound, text)),
            Step::Renew(address) => {
                // Where too many are looked up, it is renewed later.
                if let Ok(asking) = self.ask(target) {
                    let app_id = target.app_id.clone();
                    scope.spawn(async move {
                        if let Err(failure) = asking.await {
                            tracing::debug!("the addresses of {app_id} stay: {}", failure.text);
                        }
                    });
                }
                return Ok(address);
            }
            Step::Ask => {}
        }
        self.ask(target)?.await?;
        match self.known.lock().step(target, Instant::now()) {
            Step::Use(address) | Step::Renew(address) => Ok(address),
            Step::Absent(text) => Err(Error::new(ErrorKind::NotFound, text)),
            Step::Ask => Err(Error::new(ErrorKind::NotFound, unknown(target))),
        }
    }

    /// The lookup that is under way, or a new one.
    ///
    /// # Errors
    /// [`ErrorKind::RateLimited`] where too many are.
    fn ask(&self, target: &Target) -> Result<Shared<Asking>> {
        let mut known = self.known.lock();
        if let Some(asking) = known.lookups.get(target).and_then(WeakShared::upgrade) {
            return Ok(asking);
        }
        if known.lookups.len() >= MAX_LOOKUPS {
            // Those that nobody waits for any more are still listed.
            known.lookups.retain(|_, it| it.upgrade().is_some());
            if known.lookups.len() >= MAX_LOOKUPS {
                let text = format!("{MAX_LOOKUPS} apps are being looked up");
                return Err(Error::new(ErrorKind::RateLimited, text));
            }
        }
        let (registry, learning) = (Arc::clone(&self.registry), Arc::clone(&self.known));
        let asked = target.clone();
        let asking = async move {
            let found = registry.lookup(&asked).await;
            let mut known = learning.lock();
            known.lookups.remove(&asked);
            known.learn(&asked, found, Instant::now())
        };
        let asking = asking.boxed().shared();
        if let Some(weak) = asking.downgrade() {
            known.lookups.insert(target.clone(), weak);
        }
        Ok(asking)
    }

    /// Nobody could be reached at an address: others are preferred for a while, and looked up.
    pub fn doubt(&self, address: &str) {
        let mut known = self.known.lock();
        let now = Instant::now();
        known.doubted.retain(|_, until| *until > now);
        if known.doubted.len() < MAX_APPS {
            known.doubted.insert(address.to_owned(), now + DOUBT);
        }
        for app in known.apps.values_mut() {
            if app.addresses.iter().any(|it| it == address) {
                app.stale = true;
            }
        }
    }
}

impl Known {
    fn step(&mut self, target: &Target, now: Instant) -> Step {
        let doubted = &self.doubted;
        let absent = self.absent.get(target).filter(|(until, _)| *until > now);
        let unknown = || absent.map_or(Step::Ask, |(_, text)| Step::Absent(text.clone()));
        let Some(app) = self.apps.get_mut(target) else {
            return unknown();
        };
        let age = now.saturating_duration_since(app.looked_up);
        let Some(address) = app.next(doubted, now).filter(|_| age < KEPT) else {
            return unknown();
        };
        let renewing = || {
            let asking = self.lookups.get(target);
            asking.is_some_and(|asking| asking.upgrade().is_some())
        };
        // Where the registry knows it no more, what it said before goes on for as long as it is kept.
        if (age < FRESH && !app.stale) || absent.is_some() || renewing() {
            return Step::Use(address);
        }
        Step::Renew(address)
    }

    fn learn(
        &mut self,
        target: &Target,
        found: Result<Vec<String>>,
        now: Instant,
    ) -> Result<(), Failure> {
        let mut addresses = match found {
            Ok(addresses) => addresses,
            Err(error) => {
                let (kind, text) = (error.kind(), chain(&error));
                if kind == ErrorKind::NotFound {
                    self.is_absent(target, text.clone(), now);
                }
                return Err(Failure { kind, text });
            }
        };
        addresses.truncate(MAX_ADDRESSES);
        if addresses.is_empty() {
            self.apps.remove(target);
            self.is_absent(target, unknown(target), now);
            return Ok(());
        }
        self.absent.remove(target);
        if self.apps.len() >= MAX_APPS && !self.apps.contains_key(target) {
            let oldest = self.apps.iter().min_by_key(|(_, app)| app.looked_up);
            if let Some(oldest) = oldest.map(|(target, _)| target.clone()) {
                self.apps.remove(&oldest);
            }
        }
        let turn = self.apps.get(target).map_or(0, |app| app.turn);
        let app = App {
            addresses,
            turn,
            looked_up: now,
            stale: false,
        };
        self.apps.insert(target.clone(), app);
        Ok(())
    }

    fn is_absent(&mut self, target: &Target, text: String, now: Instant) {
        if self.absent.len() >= MAX_APPS {
            self.absent.retain(|_, (until, _)| *until > now);
        }
        if self.absent.len() < MAX_APPS {
            self.absent.insert(target.clone(), (now + ABSENT, text));
        }
    }
}

fn unknown(target: &Target) -> String {
    format!("couldn't find service: {}", target.app_id)
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::new(failure.kind, failure.text)
    }
}

impl App {
    /// The next address that is not in doubt, or the next where all are.
    fn next(&mut self, doubted: &HashMap<String, Instant>, now: Instant) -> Option<String> {
        let count = self.addresses.len();
        let first = self.turn.checked_rem(count)?;
        let good = |at: &usize| {
            let address = &self.addresses[*at];
            doubted.get(address).is_none_or(|until| *until <= now)
        };
        let around = (0..count).map(|step| (first + step) % count);
        let at = around.clone().find(good).unwrap_or(first);
        self.turn = at + 1;
        self.addresses.get(at).cloned()
    }
}
