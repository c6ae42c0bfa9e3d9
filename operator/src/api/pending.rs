//! Changes of resources whose secrets cannot be read now. They wait for another try, while a sidecar is told of all others: one
//! Secret that is missing must not hold up a whole namespace.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use values::Pauses;

use crate::resources::queue::{Event, MOST_WAITING, Overflow};

/// The pause before the first new try, which doubles up to [`LONGEST_PAUSE`]. A Secret often comes right behind what needs it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// See [`FIRST_PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The changes of one sidecar that wait, by the name of their resource.
#[derive(Default)]
pub struct Pending(BTreeMap<String, Waiting>);

/// One that waits.
pub struct Waiting {
    pub event: Event,
    pauses: Pauses,
    due: Instant,
}

impl Pending {
    /// What is to be told when this has happened: also what has not been told of the resource before.
    pub fn with(&mut self, event: Event) -> Waiting {
        let Some(mut waiting) = self.0.remove(&event.entry.name) else {
            return Waiting {
                event,
                pauses: Pauses::doubling(FIRST_PAUSE, LONGEST_PAUSE),
                due: Instant::now(),
            };
        };
        waiting.pauses.reset();
        waiting.event.fold(event);
        waiting
    }

    /// Lets a change wait for its next try.
    pub fn put(&mut self, mut waiting: Waiting) -> Result<(), Overflow> {
        if self.0.len() >= MOST_WAITING {
            return Err(Overflow);
        }
        waiting.due = Instant::now() + waiting.pauses.pause();
        self.0.insert(waiting.event.entry.name.clone(), waiting);
        Ok(())
    }

    /// When the next one is to be tried; never, if none waits.
    pub async fn due(&self) {
        match self.0.values().map(|waiting| waiting.due).min() {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    /// Takes the one that has waited longest.
    pub fn take(&mut self) -> Option<Waiting> {
        let next = self.0.iter().min_by_key(|(_, waiting)| waiting.due);
        let name = next.map(|(name, _)| name.clone())?;
        self.0.remove(&name)
    }
}
