//! The tasks of an engine.

use std::{future::Future, sync::Arc};

use component::Spawn;
use tokio_util::task::TaskTracker;

/// Tasks that the program runs, and breaks off where they do not end in time; the engine that began them waits for them.
#[derive(Clone)]
pub struct Tasks {
    spawn: Arc<dyn Spawn>,
    tracker: TaskTracker,
}

impl Tasks {
    pub fn new(spawn: Arc<dyn Spawn>) -> Self {
        Self {
            spawn,
            tracker: TaskTracker::new(),
        }
    }

    /// Begins a task; `name` appears in logs.
    pub fn spawn(&self, name: &str, task: impl Future<Output = ()> + Send + 'static) {
        let tracked = self.tracker.track_future(task);
        self.spawn.spawn(name, Box::pin(tracked));
    }

    /// Waits until every task has ended or was broken off. None is begun any more by then.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}
