//! Follows a kind of object: a list, then a watch, both again when they fail, with pauses that grow. It says what happens
//! in [`Signal`]s, out of which a [`crate::Store`] knows what there is.

use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use kube::client::Body;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::status;
use crate::cluster::Cluster;
use crate::deadline::{is_watch, parameter};

/// What a reflector says.
#[derive(Clone, Debug)]
pub enum Signal<K> {
    /// A step of a list, or a change.
    Event(Event<K>),
    /// The list or the watch is broken.
    Lost,
    /// A watch begins, behind a list or where the last one ended: what happened up to this version has been said.
    Watching(Option<u64>),
    /// The cluster does not know the kind.
    Gone,
    /// The program may not read the kind.
    Refused,
}

impl<K> From<Event<K>> for Signal<K> {
    fn from(event: Event<K>) -> Self {
        Self::Event(event)
    }
}

/// The pause after the first failure; it doubles up to the longest one. Both are stretched by chance, so that the
/// replicas of a program do not come back all at once.
pub const FIRST_PAUSE: Duration = Duration::from_millis(800);
/// See [`FIRST_PAUSE`].
pub const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Refusals in a row that make a kind unknown: an API server that starts may not know its definitions for a moment.
const UNKNOWN_AFTER: u32 = 3;

/// Watches in a row that do not begin, after which a list is read anew: the version may be one that the server has not
/// reached yet, and never will if it was restored from a backup.
const ANEW_AFTER: u32 = 5;

/// Objects in one page of a list; pages keep the peak of memory low when a watch begins anew.
const PAGE: u32 = 250;

/// How long one watch lasts in seconds. A connection that died without a word is noticed only behind it.
const WATCH: u32 = 120;

/// Watches begin at least this long after one another, also where a server ends each at once.
const PACE: Duration = Duration::from_millis(500);

/// Follows one kind.
pub struct Reflector<K> {
    what: String,
    api: Api<K>,
    config: watcher::Config,
    line: Arc<Line>,
}

impl<K> Reflector<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    /// Follows what `api` makes of a cluster; `what` is its name in the log.
    pub fn new(what: &str, cluster: &Cluster, api: impl FnOnce(&Cluster) -> Api<K>) -> Self {
        let line = Arc::new(Line::default());
        let observed = Line::observe(&line, cluster.client());
        Self {
            what: what.to_owned(),
            api: api(&cluster.through(observed)),
            config: watcher::Config::default().page_size(PAGE).timeout(WATCH),
            line,
        }
    }

    /// Only objects with these labels.
    #[must_use]
    pub fn labels(mut self, selector: &str) -> Self {
        self.config = self.config.labels(selector);
        self
    }

    /// Only objects with these fields.
    #[must_use]
    pub fn fields(mut self, selector: &str) -> Self {
        self.config = self.config.fields(selector);
        self
    }

    /// Follows the kind until shutdown and hands everything to `tell`.
    pub async fn run(&self, shutdown: &CancellationToken, mut tell: impl FnMut(Signal<K>)) {
        let follow = async {
            let mut health = Health::default();
            loop {
                self.follow(&mut health, &mut tell).await;
            }
        };
        shutdown.run_until_cancelled(follow).await;
    }

    /// Follows the kind until a list has to be read anew that the watcher would not.
    async fn follow(&self, health: &mut Health, tell: &mut impl FnMut(Signal<K>)) {
        let mut events = pin!(watcher::watcher(self.api.clone(), self.config.clone()));
        loop {
            let event = tokio::select! {
                event = events.next() => Some(event),
                from = self.line.begun() => {
                    self.watching(from, health, tell);
                    None
                }
            };
            let Some(event) = event else {
                continue;
            };
            // The beginning of a watch comes before what it says.
            if let Some(from) = self.line.begun().now_or_never() {
                self.watching(from, health, tell);
            }
            let error = match event {
                Some(Ok(event)) => {
                    // A list that only begins does not say that the server is well.
                    if !matches!(event, Event::Init) {
                        health.recovered();
                    }
                    tell(Signal::Event(event));
                    continue;
                }
                Some(Err(error)) => error,
                None => return,
            };
            let verdict = health.failed(&error);
            match verdict.signal {
                Some(Failure::Gone) => {
                    tracing::warn!(
                        "the cluster does not know {}, which are left out until it does",
                        self.what
                    );
                    tell(Signal::Gone);
                }
                Some(Failure::Refused) => {
                    tracing::error!(%error, "not allowed to watch {}", self.what);
                    tell(Signal::Refused);
                }
                Some(Failure::Lost) => tell(Signal::Lost),
                None => {}
            }
            if !health.is_unknown() {
                tracing::warn!(%error, pause = ?verdict.pause, "cannot watch {}, trying again", self.what);
            }
            tokio::time::sleep(verdict.pause).await;
            if verdict.anew {
                return;
            }
        }
    }
}

impl<K> Reflector<K> {
    fn watching(&self, from: Option<u64>, health: &mut Health, tell: &mut impl FnMut(Signal<K>)) {
        if health.recovered() {
            tracing::info!("watching {} again", self.what);
        }
        tell(Signal::Watching(from));
    }
}

/// What a failure means for the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Lost,
    Gone,
    Refused,
}

#[derive(Debug)]
struct Verdict {
    /// What to say, if it has not been said.
    signal: Option<Failure>,
    pause: Duration,
    /// Whether the watcher would ask in vain for ever.
    anew: bool,
}

/// How it has gone lately, without I/O.
#[derive(Debug, Default)]
struct Health {
    failures: u32,
    unknown: u32,
    watches: u32,
    said: Option<Failure>,
}

impl Health {
    /// Something went well; says whether it did not before.
    fn recovered(&mut self) -> bool {
        std::mem::take(self).failures > 0
    }

    fn is_unknown(&self) -> bool {
        self.said == Some(Failure::Gone)
    }

    fn failed(&mut self, error: &watcher::Error) -> Verdict {
        let code = code(error);
        self.unknown = if code == Some(404) {
            self.unknown.saturating_add(1)
        } else {
            0
        };
        let starts = matches!(error, watcher::Error::WatchStartFailed(_));
        self.watches = if starts {
            self.watches.saturating_add(1)
        } else {
            0
        };
        let failure = match code {
            Some(401 | 403) => Failure::Refused,
            Some(404) if self.unknown >= UNKNOWN_AFTER => Failure::Gone,
            _ => Failure::Lost,
        };
        let pause = FIRST_PAUSE * 2_u32.saturating_pow(self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let said = self.said.replace(failure);
        let anew = starts && (matches!(code, Some(404 | 410)) || self.watches >= ANEW_AFTER);
        if anew {
            self.watches = 0;
        }
        Verdict {
            signal: (said != Some(failure)).then_some(failure),
            pause: pause
                .min(LONGEST_PAUSE)
                .mul_f64(1.0 + fastrand::f64() / 4.0),
            anew,
        }
    }
}

fn code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => status(error),
        watcher::Error::WatchError(status) => Some(status.code),
        watcher::Error::NoResourceVersion => None,
    }
}

/// The way of a watcher's requests, seen from outside: the watcher itself does not say that a watch begins.
#[derive(Default)]
struct Line {
    established: Notify,
    /// The version that the last watch began at.
    from: Mutex<Option<u64>>,
    last: Mutex<Option<Instant>>,
}

impl Line {
    /// A client like another one, whose watches are noticed and paced.
    fn observe(line: &Arc<Self>, client: Client) -> Client {
        let (line, namespace) = (Arc::clone(line), client.default_namespace().to_owned());
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let (line, client) = (Arc::clone(&line), client.clone());
            async move {
                let query = request.uri().query().unwrap_or_default();
                let (watches, from) = (is_watch(query), version(query));
                if watches {
                    line.pace().await;
                }
                let response = client.send(request).await?;
                if watches && response.status().is_success() {
                    *line.from.lock() = from;
                    line.established.notify_one();
                }
                Ok::<_, kube::Error>(response)
            }
        });
        Client::new(service, namespace)
    }

    /// Waits for a watch to begin; says at which version.
    async fn begun(&self) -> Option<u64> {
        self.established.notified().await;
        *self.from.lock()
    }

    async fn pace(&self) {
        let last = *self.last.lock();
        if let Some(last) = last {
            tokio::time::sleep_until(last + PACE).await;
        }
        *self.last.lock() = Some(Instant::now());
    }
}

fn version(query: &str) -> Option<u64> {
    parameter(query, "resourceVersion")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn refused(code: u16) -> kube::Error {
        kube::Error::Api(Box::new(Status::failure("no", "Test").with_code(code)))
    }

    #[test]
    fn pauses_grow_and_start_anew() {
        let mut health = Health::default();
        let error = watcher::Error::InitialListFailed(refused(500));
        let mut last = Duration::ZERO;
        for round in 0..20_u32 {
            let pause = health.failed(&error).pause;
            let least = (FIRST_PAUSE * 2_u32.pow(round.min(16))).min(LONGEST_PAUSE);
            assert!(pause >= least && pause <= least.mul_f64(1.25), "{pause:?}");
            last = pause;
        }
        assert!(last >= LONGEST_PAUSE);
        assert!(health.recovered() && !health.recovered());
        assert!(health.failed(&error).pause < FIRST_PAUSE * 2);
    }

    #[test]
    fn a_kind_is_unknown_after_some_refusals_and_that_is_said_once() {
        let mut health = Health::default();
        let error = watcher::Error::InitialListFailed(refused(404));
        let said: Vec<_> = (0..5).map(|_| health.failed(&error).signal).collect();
        assert_eq!(
            said,
            [Some(Failure::Lost), None, Some(Failure::Gone), None, None]
        );
        let refusal = watcher::Error::InitialListFailed(refused(403));
        assert_eq!(health.failed(&refusal).signal, Some(Failure::Refused));
    }

    #[test]
    fn watches_that_cannot_begin_make_a_new_list() {
        let mut health = Health::default();
        assert!(
            health
                .failed(&watcher::Error::WatchStartFailed(refused(410)))
                .anew
        );
        let error = watcher::Error::WatchStartFailed(refused(504));
        let anew: Vec<_> = (0..6).map(|_| health.failed(&error).anew).collect();
        assert_eq!(anew.iter().filter(|anew| **anew).count(), 1);
        assert!(
            !health
                .failed(&watcher::Error::InitialListFailed(refused(410)))
                .anew
        );
    }
}
