//! One input that is read: the app is asked whether it takes the events, and is then called with each, a limited number at a
//! time.

use std::{sync::Arc, time::Duration};

use blocks::Loaded;
use component::{
    InputBinding,
    bindings::{Event, Events},
};
use futures::{FutureExt, StreamExt, future::join_all, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use values::Pauses;

use crate::engine::{Inner, Input, LOG};

/// Most events of a binding that the app works on at a time.
const MOST_UNDER_WAY: usize = 100;

/// Pauses after failures, doubled each time. Q-binding-retry
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long a source may take to begin.
const OPEN_LIMIT: Duration = Duration::from_secs(30);

/// How long a reader waits for the deliveries of the one before it, and a component is kept open for them. It bounds what a
/// call of the app that never ends holds up.
pub const HANDOVER: Duration = Duration::from_secs(30);

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The first attempt is under way.
    Opening,
    /// It is read, or is tried again, or the app does not want it.
    Settled,
}

pub struct Reader {
    inner: Arc<Inner>,
    loaded: Arc<Loaded<dyn InputBinding, Input>>,
    stop: CancellationToken,
    phase: watch::Sender<Phase>,
}

impl Reader {
    pub fn new(
        inner: Arc<Inner>,
        loaded: Arc<Loaded<dyn InputBinding, Input>>,
        stop: CancellationToken,
        phase: watch::Sender<Phase>,
    ) -> Self {
        Self {
            inner,
            loaded,
            stop,
            phase,
        }
    }

    fn name(&self) -> &str {
        &self.loaded.listed.name
    }

    /// Reads until it is stopped, once those `before` it have ended; events under way are delivered then.
    pub async fn run(self, before: Vec<CancellationToken>) {
        let stop = self.stop.clone();
        let ended = join_all(before.iter().map(CancellationToken::cancelled));
        let _ = stop.run_until_cancelled(timeout(HANDOVER, ended)).await;
        let mut pauses = Pauses::doubling(FIRST_PAUSE, LONGEST_PAUSE);
        while !stop.is_cancelled() {
            let opening = stop.run_until_cancelled(self.open()).await;
            match opening {
                None => return,
                Some(Ok(None)) => {
                    tracing::info!(target: LOG, "app has not subscribed to binding {}.", self.name());
                    return;
                }
                Some(Ok(Some(events))) => {
                    self.phase.send_replace(Phase::Settled);
                    pauses.reset();
                    self.take(events).await;
                    if stop.is_cancelled() {
                        return;
                    }
                    tracing::warn!(target: LOG, "input binding {} has ended by itself: it is read anew", self.name());
                }
                Some(Err(problem)) => {
                    tracing::error!(target: LOG, "error reading from input binding {}: {problem}", self.name());
                }
            }
            self.phase.send_replace(Phase::Settled);
            let _ = stop.run_until_cancelled(sleep(pauses.pause())).await;
        }
    }

    /// Nothing where the app does not want the events.
    async fn open(&self) -> Result<Option<Events>, String> {
        let wanted = self.loaded.beside.explicit || self.ask().await?;
        if !wanted {
            return Ok(None);
        }
        let late = |_| format!("it has not begun within {OPEN_LIMIT:?}");
        let read = timeout(OPEN_LIMIT, self.loaded.read());
        read.await
            .map_err(late)?
            .map(Some)
            .map_err(|error| component::error::chain(&error))
    }

    async fn ask(&self) -> Result<bool, String> {
        let (app, limit) = (&self.inner.app, self.inner.options_timeout);
        let late = |_| format!("the app has not said within {limit:?} whether it takes its events");
        let failed = |error: app_channel::Error| component::error::chain(&error);
        if app.protocol().is_grpc() {
            let ask = self.inner.taken.get_or_try_init(|| app.input_bindings());
            let taken = timeout(limit, ask).await.map_err(late)?;
            return taken
                .map(|names| names.iter().any(|name| name == self.name()))
                .map_err(failed);
        }
        let ask = app.takes_binding(&self.loaded.beside.route);
        timeout(limit, ask).await.map_err(late)?.map_err(failed)
    }

    /// Takes events until it is stopped or the source ends; on return those that were taken have been delivered.
    async fn take(&self, mut events: Events) {
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                Some(()) = under_way.next() => {}
                event = events.next(), if under_way.len() < MOST_UNDER_WAY => match event {
                    Some(event) => under_way.push(self.deliver(event).boxed()),
                    None => break,
                },
            }
        }
        // The source stops, while the app goes on with what it has.
        drop(events);
        while under_way.next().await.is_some() {}
    }

    async fn deliver(&self, event: Event) {
        let answer = self.inner.deliver(&self.loaded, &event, &self.stop).await;
        if let Err(error) = event.settle(answer).await {
            let problem = component::error::chain(&error);
            tracing::warn!(target: LOG, "an event of binding {} is not settled: {problem}", self.name());
        }
    }
}
