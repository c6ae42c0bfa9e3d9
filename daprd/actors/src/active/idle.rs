//! Actors that nobody has called for long.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Active, Cell};
use crate::ActorId;

impl Active {
    /// Has it looked then whether the actor is idle.
    pub(super) fn look_at(&self, when: Instant, actor: ActorId) {
        let mut idle = self.idle.lock();
        let earlier = idle.peek().is_none_or(|Reverse((first, _))| when < *first);
        idle.push(Reverse((when, actor)));
        if earlier {
            self.earlier.notify_one();
        }
    }

    /// Waits for actors that nobody calls, and closes them.
    pub async fn idle(&self) -> Vec<Arc<Cell>> {
        loop {
            let first = self.idle.lock().peek().map(|Reverse((when, _))| *when);
            let wait = async {
                match first {
                    Some(when) => tokio::time::sleep_until(when).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wait => {}
                () = self.earlier.notified() => continue,
            }
            let idle = self.take_idle(Instant::now());
            if !idle.is_empty() {
                return idle;
            }
        }
    }

    fn take_idle(&self, now: Instant) -> Vec<Arc<Cell>> {
        let mut due = Vec::new();
        {
            let mut idle = self.idle.lock();
            while idle.peek().is_some_and(|Reverse((when, _))| *when <= now) {
                due.extend(idle.pop().map(|Reverse((_, actor))| actor));
            }
        }
        let mut found = Vec::new();
        for actor in due {
            let Some(cell) = self.cells.get(&actor).map(|cell| Arc::clone(&cell)) else {
                continue;
            };
            let last = *cell.used.lock();
            let when = last + cell.kind.idle;
            let mut turns = cell.turns.lock();
            if !turns.is_idle() || when > now {
                drop(turns);
                self.look_at(when.max(now + SHORTEST_LOOK), actor);
            } else if turns.close() {
                drop(turns);
                found.push(cell);
            }
        }
        found
    }
}

/// Between two looks at an actor that is never idle for long.
const SHORTEST_LOOK: Duration = Duration::from_millis(10);
