//! Background loops of components and engines, on the program's tracker.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use component::Spawn;
use daemon::Daemon;

/// How a loop ended that should not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, although it is one of those that a component starts when it opens: they last until it is closed.
    Returned,
    Panicked,
}

/// Runs the loops of one component until they end or the sidecar stops. A panic ends its loop and nothing else; whoever has
/// made this is told. Q-component-panic
pub struct Tasks {
    daemon: Daemon,
    told: Arc<dyn Fn(Ended) + Send + Sync>,
    /// The component is still being opened.
    opening: AtomicBool,
}

impl Tasks {
    /// For a component that is about to be opened.
    pub fn new(daemon: Daemon, told: impl Fn(Ended) + Send + Sync + 'static) -> Self {
        Self {
            daemon,
            told: Arc::new(told),
            opening: AtomicBool::new(true),
        }
    }
}

impl Spawn for Tasks {
    fn spawn(&self, name: &str, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let shutdown = self.daemon.shutdown();
        let lasting = self.opening.load(Ordering::Relaxed);
        let (told, panicked) = (Arc::clone(&self.told), Arc::clone(&self.told));
        let task = async move {
            if shutdown.run_until_cancelled(task).await.is_some() && lasting {
                told(Ended::Returned);
            }
        };
        let name = format!("a loop of component {name}");
        self.daemon
            .spawn_contained(name, task, move || panicked(Ended::Panicked));
    }

    fn opened(&self) {
        self.opening.store(false, Ordering::Relaxed);
    }
}

/// Runs the tasks of an engine, which says itself when they end; a panic ends no more than its task.
pub struct Contained(pub Daemon);

impl Spawn for Contained {
    fn spawn(&self, name: &str, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.0.spawn_contained(name.to_owned(), task, || {});
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn the_ends_of_loops_are_told_and_end_nothing_else() {
        let daemon = Daemon::detached(Duration::from_secs(5)).unwrap();
        let (sender, mut ends) = mpsc::unbounded_channel();
        let tasks = Tasks::new(daemon.clone(), move |ended| sender.send(ended).unwrap());
        tasks.spawn("a", Box::pin(async {}));
        assert_eq!(ends.recv().await, Some(Ended::Returned));
        tasks.spawn("a", Box::pin(std::future::pending()));
        tasks.opened();
        tasks.spawn("a", Box::pin(async {}));
        tasks.spawn("a", Box::pin(async { panic!("broken") }));
        assert_eq!(ends.recv().await, Some(Ended::Panicked));
        assert!(!daemon.shutdown().is_cancelled());
        daemon.stop().await.unwrap();
        drop(tasks);
        assert_eq!(ends.recv().await, None);
    }
}
