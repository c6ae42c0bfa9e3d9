//! Actors that go: because they are idle, because they are others' by now, because nobody hosts them any more. Whoever has them go
//! may give up waiting; they go all the same, and what has begun at them has its time.

use std::{sync::Arc, time::Duration};

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
        self.leave(self.0.active.close(goes), most)
    }

    /// Without placement nobody knows whose actors they are: they go, calls at them within this time, while it is looked for.
    /// They are gone before it is told that this sidecar follows.
    pub(crate) fn lose(&self, most: Duration) {
        self.0.directory.clear();
        drop(self.leave(self.0.active.lose(most), most));
    }

    fn leave(&self, leaving: Leaving, most: Duration) -> impl Future<Output = ()> + Send + 'static {
        let Leaving { closed, gone } = leaving;
        for cell in &closed {
            self.0.metrics.rebalanced(&cell.actor().kind);
        }
        self.deactivate(closed, most);
        async move {
            for gone in gone {
                gone.cancelled().await;
            }
        }
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

#[cfg(test)]
mod tests;
