//! Actors that go: because they are idle, because they are others' by now, because nobody hosts them any more. Whoever has them go
//! may give up waiting; they go all the same, and what has begun at them has its time.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use crate::{
    Engine,
    active::{Cell, Leaving},
    host::Host,
};

impl Engine {
    /// Has actors go: no call begins at them any more from here on. The future that it answers waits until they are gone; calls
    /// at them have the time of their type to end, and at most so much.
    pub(crate) fn drain(
        &self,
        goes: impl Fn(&Cell) -> bool,
        most: Duration,
    ) -> impl Future<Output = ()> + Send + 'static {
        gone(self.leave(self.0.active.close(goes), most))
    }

    /// Has actors go that placement gives to others. The future that it answers waits until others may have them: no call is at
    /// them any more, and their farewells have had their time. An app that hangs there holds up no round of placement.
    pub(crate) fn give_away(
        &self,
        goes: impl Fn(&Cell) -> bool,
    ) -> impl Future<Output = ()> + Send + 'static {
        given_away(self.leave(self.0.active.close(goes), Duration::MAX))
    }

    /// The same of those that are on their way out already.
    pub(crate) fn left_behind(&self) -> impl Future<Output = ()> + Send + 'static {
        given_away(self.0.active.going())
    }

    /// Without placement nobody knows whose actors they are: they go, calls at them within this time, while it is looked for.
    /// They are gone before it is told that this sidecar follows.
    pub(crate) fn lose(&self, most: Duration) {
        self.0.directory.clear();
        self.leave(self.0.active.lose(most), most);
    }

    fn leave(&self, leaving: Leaving, most: Duration) -> Vec<Arc<Cell>> {
        let Leaving { closed, all } = leaving;
        for cell in &closed {
            self.0.metrics.rebalanced(&cell.actor().kind);
        }
        self.deactivate(closed, most);
        all
    }

    /// Deactivates actors that nobody calls, for ever.
    pub(crate) async fn idle_out(&self) {
        loop {
            let idle = self.0.active.idle().await;
            self.deactivate(idle, Duration::MAX);
        }
    }

    /// Timers go with their actor (contract 11.3): where it is active again, it makes them anew.
    fn deactivate(&self, closed: Vec<Arc<Cell>>, most: Duration) {
        if closed.is_empty() {
            return;
        }
        let engine = self.clone();
        self.0.tasks.spawn("actors that go", async move {
            let inner = &engine.0;
            for cell in &closed {
                let removed = inner.timers.lock().remove_all(cell.actor());
                for _ in 0..removed {
                    inner.metrics.timers(&cell.actor().kind, -1.0);
                }
            }
            let going = inner.active.deactivate_all(&closed, most);
            let _ = inner.closed.run_until_cancelled(going).await;
        });
    }

    /// Nothing is hosted by `host` any more; on return its actors are deactivated. A type that others host as well stays.
    pub async fn withdraw(&self, host: &Arc<dyn Host>) {
        self.0.hosting.remove(host);
        let host = Arc::clone(host);
        let of_host = move |cell: &Cell| Arc::ptr_eq(cell.host(), &host);
        self.drain(of_host, Duration::MAX).await;
    }
}

async fn gone(all: Vec<Arc<Cell>>) {
    for cell in all {
        cell.gone().await;
    }
}

async fn given_away(all: Vec<Arc<Cell>>) {
    for cell in &all {
        cell.free().await;
    }
    if timeout(FAREWELLS, gone(all)).await.is_err() {
        tracing::warn!(
            "the app has not deactivated all actors that are others' by now within {FAREWELLS:?}: placement goes on"
        );
    }
}

/// How long placement waits for farewells: with the calls before, less than it gives a host by default. Q-actor-gone-first
const FAREWELLS: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests;
