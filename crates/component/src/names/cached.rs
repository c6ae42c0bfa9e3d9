//! For resolvers that ask a registry: the addresses of an app are kept, and looked up again behind the calls, so that a call
//! waits for the registry only where nothing is known.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Target;
use crate::{Error, ErrorKind, Result, Scope};

/// Addresses are looked up again once they are as old as this, while calls go on with them.
const FRESH: Duration = Duration::from_secs(1);

/// Addresses of this age are not used any more without being looked up.
const KEPT: Duration = Duration::from_secs(15);

/// An address where nobody could be reached comes last for this long.
const DOUBT: Duration = Duration::from_secs(10);

/// Most apps whose addresses are kept; one more takes the place of the one that was looked up longest ago.
const MAX_APPS: usize = 4096;

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
    /// Somebody is looking them up.
    renewing: bool,
}

/// What a resolution has to do.
enum Step {
    Use(String),
    /// Use it, and look up the addresses behind it.
    Renew(String),
    Ask,
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
    /// [`ErrorKind::NotFound`] where the registry knows none; what it says where it cannot be asked.
    pub async fn resolve(&self, target: &Target, scope: &Scope) -> Result<String> {
        let step = self.known.lock().step(target, Instant::now());
        match step {
            Step::Use(address) => Ok(address),
            Step::Renew(address) => {
                let (registry, known) = (Arc::clone(&self.registry), Arc::clone(&self.known));
                let target = target.clone();
                scope.spawn(async move {
                    let found = registry.lookup(&target).await;
                    if let Err(error) = known.lock().learn(&target, found, Instant::now()) {
                        tracing::debug!("the addresses of {} stay: {error}", target.app_id);
                    }
                });
                Ok(address)
            }
            Step::Ask => {
                let found = self.registry.lookup(target).await;
                let mut known = self.known.lock();
                known.learn(target, found, Instant::now())?;
                match known.step(target, Instant::now()) {
                    Step::Use(address) | Step::Renew(address) => Ok(address),
                    Step::Ask => Err(Error::new(
                        ErrorKind::NotFound,
                        format!("couldn't find service: {}", target.app_id),
                    )),
                }
            }
        }
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
        let Some(app) = self.apps.get_mut(target) else {
            return Step::Ask;
        };
        let age = now.saturating_duration_since(app.looked_up);
        let Some(address) = app.next(doubted, now).filter(|_| age < KEPT) else {
            return Step::Ask;
        };
        if (age < FRESH && !app.stale) || app.renewing {
            return Step::Use(address);
        }
        app.renewing = true;
        Step::Renew(address)
    }

    fn learn(&mut self, target: &Target, found: Result<Vec<String>>, now: Instant) -> Result<()> {
        let mut addresses = match found {
            Ok(addresses) => addresses,
            Err(error) => {
                if let Some(app) = self.apps.get_mut(target) {
                    app.renewing = false;
                }
                return Err(error);
            }
        };
        addresses.truncate(MAX_ADDRESSES);
        if addresses.is_empty() {
            self.apps.remove(target);
            return Ok(());
        }
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
            renewing: false,
        };
        self.apps.insert(target.clone(), app);
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::Pin};

    use tokio::sync::mpsc;

    use super::*;
    use crate::Spawn;

    /// What the registry says next, and how often it was asked.
    #[derive(Default)]
    struct Registry(Mutex<(Vec<String>, bool, usize)>);

    #[async_trait]
    impl Lookup for Registry {
        async fn lookup(&self, _: &Target) -> Result<Vec<String>> {
            let mut said = self.0.lock();
            said.2 += 1;
            match said.1 {
                true => Err(Error::new(ErrorKind::Unavailable, "away")),
                false => Ok(said.0.clone()),
            }
        }
    }

    impl Registry {
        fn says(&self, addresses: &[&str]) {
            self.0.lock().0 = addresses.iter().map(|it| (*it).to_owned()).collect();
        }
    }

    type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

    struct Tasks(mpsc::UnboundedSender<Task>);

    impl Spawn for Tasks {
        fn spawn(&self, _: &str, task: Task) {
            self.0.send(task).expect("the test listens");
        }
    }

    fn made() -> (
        Cached<Registry>,
        Scope,
        mpsc::UnboundedReceiver<Task>,
        Target,
    ) {
        let (sender, tasks) = mpsc::unbounded_channel();
        let target = Target {
            app_id: "app".into(),
            namespace: "ns".into(),
            port: 1,
        };
        let cached = Cached::new(Registry::default());
        (
            cached,
            Scope::new("names", Arc::new(Tasks(sender))),
            tasks,
            target,
        )
    }

    #[tokio::test(start_paused = true)]
    async fn calls_take_turns_and_the_registry_is_asked_behind_them() {
        let (cached, scope, mut tasks, target) = made();
        let error = cached.resolve(&target, &scope).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        cached.registry().says(&["a", "b"]);
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(cached.resolve(&target, &scope).await.unwrap());
        }
        assert_eq!(seen, ["a", "b", "a", "b"]);
        assert_eq!(cached.registry().0.lock().2, 2, "asked once since");
        cached.registry().says(&["c"]);
        tokio::time::advance(FRESH).await;
        assert_eq!(cached.resolve(&target, &scope).await.unwrap(), "a");
        assert_eq!(cached.resolve(&target, &scope).await.unwrap(), "b");
        tasks.try_recv().expect("one lookup").await;
        assert!(tasks.try_recv().is_err(), "and no second");
        assert_eq!(cached.resolve(&target, &scope).await.unwrap(), "c");
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_is_away_is_missed_only_after_a_while() {
        let (cached, scope, mut tasks, target) = made();
        cached.registry().says(&["a"]);
        cached.resolve(&target, &scope).await.unwrap();
        cached.registry().0.lock().1 = true;
        tokio::time::advance(FRESH).await;
        cached.resolve(&target, &scope).await.unwrap();
        tasks.try_recv().expect("a lookup").await;
        assert_eq!(cached.resolve(&target, &scope).await.unwrap(), "a");
        tokio::time::advance(KEPT).await;
        let error = cached.resolve(&target, &scope).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_in_doubt_comes_last_and_has_the_registry_asked() {
        let (cached, scope, mut tasks, target) = made();
        cached.registry().says(&["a", "b"]);
        cached.resolve(&target, &scope).await.unwrap();
        cached.doubt("a");
        assert_eq!(cached.resolve(&target, &scope).await.unwrap(), "b");
        tasks.try_recv().expect("a lookup").await;
        assert_eq!(cached.resolve(&target, &scope).await.unwrap(), "b");
        cached.doubt("b");
        assert!(
            cached.resolve(&target, &scope).await.is_ok(),
            "the last resort"
        );
        tokio::time::advance(DOUBT).await;
        tasks.recv().await.expect("a lookup").await;
        let both = [
            cached.resolve(&target, &scope).await.unwrap(),
            cached.resolve(&target, &scope).await.unwrap(),
        ];
        assert_ne!(both[0], both[1]);
    }
}
