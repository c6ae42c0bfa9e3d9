//! The life of a component: its background loops end with it, and it ends with the sidecar at the latest.

use std::{future::Future, sync::Arc};

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use crate::Spawn;

/// Owned by a component. Loops spawned on it end when it is ended or dropped, so they must not hold it themselves.
pub struct Scope {
    name: String,
    tasks: Arc<dyn Spawn>,
    end: CancellationToken,
}

impl Scope {
    /// A life for the component `name`.
    pub fn new(name: &str, tasks: Arc<dyn Spawn>) -> Self {
        Self {
            name: name.to_owned(),
            tasks,
            end: CancellationToken::new(),
        }
    }

    /// Runs a loop until it is done or the scope ends.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let end = self.end.clone();
        let task = async move {
            end.run_until_cancelled_owned(task).await;
        };
        self.tasks.spawn(&self.name, Box::pin(task));
    }

    /// Ends all loops, and those to come at once. What has ended stays so.
    pub fn end(&self) {
        self.end.cancel();
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.end.is_cancelled()
    }

    /// Until it has ended.
    pub fn ended(&self) -> WaitForCancellationFuture<'_> {
        self.end.cancelled()
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, pin::Pin};

    use tokio::sync::mpsc;

    use super::*;

    struct Tasks(mpsc::UnboundedSender<Pin<Box<dyn Future<Output = ()> + Send>>>);

    impl Spawn for Tasks {
        fn spawn(&self, name: &str, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
            assert_eq!(name, "store");
            self.0.send(task).unwrap();
        }
    }

    #[tokio::test]
    async fn loops_end_with_the_scope_by_either_way() {
        let (tasks, mut spawned) = mpsc::unbounded_channel();
        let tasks: Arc<dyn Spawn> = Arc::new(Tasks(tasks));
        let scope = Scope::new("store", Arc::clone(&tasks));
        scope.spawn(pending());
        assert!(!scope.has_ended());
        scope.end();
        scope.ended().await;
        spawned.recv().await.unwrap().await;

        let dropped = Scope::new("store", tasks);
        dropped.spawn(pending());
        drop(dropped);
        spawned.recv().await.unwrap().await;
    }
}
