//! Calls that outlive the tasks they run in: the sidecar ends its tasks before it closes its components, and what a call has
//! to say at its end is said while the component is closed.

use std::{
    mem,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::future::{BoxFuture, join, join_all};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

/// Longest that calls are waited for.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// The calls of one component.
#[derive(Clone, Default)]
pub struct Held {
    calls: TaskTracker,
    /// Those whose tasks were ended.
    unfinished: Arc<Mutex<Vec<BoxFuture<'static, ()>>>>,
}

impl Held {
    /// What a task is to run.
    pub fn hold(&self, call: impl Future<Output = ()> + Send + 'static) -> Call {
        Call {
            held: self.clone(),
            rest: Some(Box::pin(self.calls.track_future(call))),
        }
    }

    /// Goes on with the calls until they are over, if they end in time.
    pub async fn finish(&self) {
        self.calls.close();
        let unfinished = join_all(self.take());
        let _ = timeout(CLOSE_LIMIT, join(unfinished, self.calls.wait())).await;
    }

    fn take(&self) -> Vec<BoxFuture<'static, ()>> {
        mem::take(
            &mut *self
                .unfinished
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

/// A call in its task.
pub struct Call {
    held: Held,
    rest: Option<BoxFuture<'static, ()>>,
}

impl Future for Call {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // One that panics is gone: it has nothing more to say.
        let Some(mut rest) = self.rest.take() else {
            return Poll::Ready(());
        };
        let polled = rest.as_mut().poll(context);
        if polled.is_pending() {
            self.rest = Some(rest);
        }
        polled
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // After the closing nobody would go on with it.
        if let Some(rest) = self.rest.take()
            && !self.held.calls.is_closed()
        {
            let mut unfinished = self
                .held
                .unfinished
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            unfinished.push(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures::FutureExt;
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn a_call_goes_on_after_its_task() {
        let (held, go, done) = (
            Held::default(),
            Arc::<Notify>::default(),
            Arc::<AtomicBool>::default(),
        );
        let (wait, set) = (Arc::clone(&go), Arc::clone(&done));
        let mut call = held.hold(async move {
            wait.notified().await;
            set.store(true, Ordering::Relaxed);
        });
        assert!((&mut call).now_or_never().is_none());
        drop(call);
        assert!(!done.load(Ordering::Relaxed));
        go.notify_one();
        held.finish().await;
        assert!(done.load(Ordering::Relaxed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_does_not_end_is_given_up() {
        let held = Held::default();
        drop(held.hold(std::future::pending()));
        held.finish().await;
        assert!(held.take().is_empty());
        drop(held.hold(std::future::pending()));
        assert!(held.take().is_empty(), "nobody would go on with it");
    }
}
