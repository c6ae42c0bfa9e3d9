//! The types that this sidecar hosts: what the app says of them, and what placement and the schedulers hear.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use app_channel::ActorConfig;
use parking_lot::Mutex;
use tokio::sync::watch;
use values::GoDuration;

use crate::host::Host;

/// A type that is hosted, and how.
#[derive(Clone)]
pub struct Kind {
    pub host: Arc<dyn Host>,
    /// Actors that nobody called for so long are deactivated.
    pub idle: Duration,
    /// Calls at actors that move may go on for so long; `None` breaks them off.
    pub drain: Option<Duration>,
    /// The most calls of one chain, where chains may come back.
    pub depth: Option<usize>,
    /// Calls take no turns: the host keeps order among them itself.
    pub parallel: bool,
}

impl Kind {
    /// A type without settings of its own.
    pub fn new(host: Arc<dyn Host>) -> Self {
        Self {
            host,
            idle: IDLE,
            drain: Some(DRAIN),
            depth: None,
            parallel: false,
        }
    }
}

/// The types of an app, as its configuration describes them. What cannot be read is said and has its default.
pub fn kinds(
    config: &ActorConfig,
    host: &Arc<dyn Host>,
    round: Duration,
) -> BTreeMap<String, Kind> {
    let common = Kind {
        host: Arc::clone(host),
        idle: duration("actorIdleTimeout", &config.actor_idle_timeout).unwrap_or(IDLE),
        drain: drain(
            config.drain_rebalanced_actors,
            &config.drain_ongoing_call_timeout,
            round,
            "global config",
        ),
        depth: depth(&config.reentrancy),
        parallel: false,
    };
    let mut kinds: BTreeMap<String, Kind> = config
        .entities
        .iter()
        .filter(|name| !name.is_empty())
        .map(|name| (name.clone(), common.clone()))
        .collect();
    for own in &config.entities_config {
        for name in &own.entities {
            let Some(kind) = kinds.get_mut(name) else {
                tracing::warn!("Configuration specified for non-hosted actor type: {name}");
                continue;
            };
            kind.idle = duration("actorIdleTimeout", &own.actor_idle_timeout).unwrap_or(IDLE);
            kind.depth = depth(&own.reentrancy);
            if !own.drain_ongoing_call_timeout.is_empty() || own.drain_rebalanced_actors.is_some() {
                let source = format!("entities={}", own.entities.join(","));
                let rebalanced = own
                    .drain_rebalanced_actors
                    .or(config.drain_rebalanced_actors);
                let text = match own.drain_ongoing_call_timeout.as_str() {
                    "" => &config.drain_ongoing_call_timeout,
                    text => text,
                };
                kind.drain = drain(rebalanced, text, round, &source);
            }
        }
    }
    kinds
}

fn drain(rebalanced: Option<bool>, text: &str, round: Duration, source: &str) -> Option<Duration> {
    if rebalanced == Some(false) {
        return None;
    }
    let asked = duration("drainOngoingCallTimeout", text).unwrap_or(DRAIN);
    if round.is_zero() || asked < round {
        return Some(asked);
    }
    // The rest of the round needs time as well.
    let clamped = (round * 4 / 5).max(DRAIN);
    tracing::warn!(
        "drainOngoingCallTimeout ({}) for {source} meets or exceeds the dissemination timeout ({}); clamping to {} to avoid blocking placement dissemination",
        GoDuration::from(asked),
        GoDuration::from(round),
        GoDuration::from(clamped)
    );
    Some(clamped)
}

fn duration(what: &str, text: &str) -> Option<Duration> {
    if text.is_empty() {
        return None;
    }
    let parsed = text.parse::<GoDuration>().ok().and_then(GoDuration::to_std);
    if parsed.is_none() {
        tracing::warn!("Invalid {what} of the app's configuration {text:?}, using the default");
    }
    parsed
}

fn depth(reentrancy: &app_channel::Reentrancy) -> Option<usize> {
    let most = reentrancy.max_stack_depth.unwrap_or(MAX_STACK_DEPTH);
    reentrancy
        .enabled
        .then(|| usize::try_from(most).unwrap_or_default())
}

/// The types of a sidecar.
pub struct Hosting {
    state: Mutex<State>,
    advertised: watch::Sender<BTreeSet<String>>,
    registered: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    /// By whom each type is hosted; new actors are the last one's.
    kinds: HashMap<String, Vec<Arc<Kind>>>,
    /// There is no state store for actors.
    suspended: bool,
    /// The sidecar ends.
    leaving: bool,
}

impl Hosting {
    pub fn new() -> Self {
        Self {
            state: Mutex::new(State {
                suspended: true,
                ..State::default()
            }),
            advertised: watch::Sender::default(),
            registered: watch::Sender::default(),
        }
    }

    /// Hosts types; those that were hosted stay, and so do those who host them.
    pub fn add(&self, kinds: impl IntoIterator<Item = (String, Kind)>) {
        self.change(|state| {
            for (name, kind) in kinds {
                let hosted = state.kinds.entry(name).or_default();
                hosted.retain(|other| !Arc::ptr_eq(&other.host, &kind.host));
                hosted.push(Arc::new(kind));
            }
        });
    }

    /// The app has said what it hosts, if anything.
    pub fn registered(&self) {
        self.registered.send_replace(true);
    }

    /// Whether the app has said what it hosts.
    pub fn registration(&self) -> watch::Receiver<bool> {
        self.registered.subscribe()
    }

    /// Nothing is hosted by `host` any more.
    pub fn remove(&self, host: &Arc<dyn Host>) {
        self.change(|state| {
            state.kinds.retain(|_, hosted| {
                hosted.retain(|kind| !Arc::ptr_eq(&kind.host, host));
                !hosted.is_empty()
            });
        });
    }

    /// There is no state store for actors, or there is one again. True where that is news.
    pub fn suspend(&self, suspended: bool) -> bool {
        self.change(|state| std::mem::replace(&mut state.suspended, suspended) != suspended)
    }

    /// Placement is to hear of no type any more; what is called until it has let go is served.
    pub fn leave(&self) {
        self.change(|state| state.leaving = true);
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let answer = change(&mut state);
        let names = match state.suspended || state.leaving {
            true => BTreeSet::new(),
            false => state.kinds.keys().cloned().collect(),
        };
        self.advertised.send_if_modified(|now| {
            let changed = *now != names;
            *now = names;
            changed
        });
        answer
    }

    /// What placement and the schedulers are to hear.
    pub fn advertised(&self) -> watch::Receiver<BTreeSet<String>> {
        self.advertised.subscribe()
    }

    pub fn is_suspended(&self) -> bool {
        self.state.lock().suspended
    }

    /// Whether a type is hosted, and will be.
    pub fn is_kept(&self, name: &str) -> bool {
        let state = self.state.lock();
        !state.leaving && state.kinds.contains_key(name)
    }

    /// How a type is hosted.
    pub fn kind(&self, name: &str) -> Option<Arc<Kind>> {
        let state = self.state.lock();
        state.kinds.get(name)?.last().cloned()
    }

    /// Names of all types, advertised or not.
    pub fn names(&self) -> Vec<String> {
        self.state.lock().kinds.keys().cloned().collect()
    }
}

/// Defaults of contract 11.1.
const IDLE: Duration = Duration::from_secs(60 * 60);
const DRAIN: Duration = Duration::from_secs(2);
const MAX_STACK_DEPTH: i32 = 32;
