//! The handle that parts of a program get: registry, health, shutdown and the task tracker. Every task
//! has an owner here; the first one that fails stops the program, unless it is said to be contained.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures::FutureExt as _;
use parking_lot::{Mutex, RwLock};
use prometheus::{IntCounter, Registry, proto::MetricFamily};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::health::Health;
use crate::panics;
use crate::signals;

/// A running program, as its parts see it. Cheap to clone.
#[derive(Clone)]
pub struct Daemon {
    registries: Registries,
    registry: Registry,
    health: Health,
    shutdown: CancellationToken,
    /// Breaks off what does not end by itself.
    abort: CancellationToken,
    tasks: Arc<Tasks>,
    reload: Arc<watch::Sender<u64>>,
    grace: Duration,
}

struct Tasks {
    tracker: TaskTracker,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    next: u64,
    names: BTreeMap<u64, Cow<'static, str>>,
    failure: Option<anyhow::Error>,
}

impl Daemon {
    pub(crate) fn new(registries: Registries, grace: Duration) -> Self {
        Daemon {
            registry: registries.current(),
            registries,
            health: Health::default(),
            shutdown: CancellationToken::new(),
            abort: CancellationToken::new(),
            tasks: Tasks::new(),
            reload: Arc::new(watch::Sender::new(0)),
            grace,
        }
    }

    /// A daemon that no program runs, for tests of parts.
    ///
    /// # Errors
    /// When the metrics of the process cannot be registered.
    pub fn detached(grace: Duration) -> anyhow::Result<Daemon> {
        Ok(Daemon::new(Registries::new()?, grace))
    }

    /// Where metrics are registered; what is in it shows on the metrics port.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The readiness of the program.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Cancelled by a signal, and when a task fails.
    #[must_use]
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Runs a part until it ends. An error or a panic stops the program, which then exits with 1.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let (tasks, shutdown) = (self.tasks.clone(), self.shutdown.clone());
        self.track(Cow::Borrowed(name), task, move |result| {
            let error = match result {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.context(format!("{name} failed")),
                Err(panic) => anyhow!("{name} panicked: {}", panics::message(&*panic)),
            };
            tracing::debug!("task {name} ended: {error:#}");
            tasks.running.lock().failure.get_or_insert(error);
            shutdown.cancel();
        });
    }

    /// Runs something that must not take the program with it: a panic is logged, counted, and told by `panicked`.
    pub fn spawn_contained<F>(
        &self,
        name: String,
        task: F,
        panicked: impl FnOnce() + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        self.track(Cow::Owned(name.clone()), task, move |result| {
            if let Err(panic) = result {
                tracing::error!("{name} panicked: {}", panics::message(&*panic));
                panicked();
            }
        });
    }

    /// Runs a task under the tracker, unless it is broken off, and then what follows from its end.
    fn track<F>(
        &self,
        name: Cow<'static, str>,
        task: F,
        ended: impl FnOnce(std::thread::Result<F::Output>) + Send + 'static,
    ) where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        let id = self.tasks.running.lock().add(name);
        let (tasks, abort) = (self.tasks.clone(), self.abort.clone());
        self.tasks.tracker.spawn(async move {
            let task = AssertUnwindSafe(task).catch_unwind();
            let result = abort.run_until_cancelled(task).await;
            tasks.running.lock().names.remove(&id);
            if let Some(result) = result {
                ended(result);
            }
        });
    }

    /// Breaks off every task of this program or scope, wherever it is. For one that has not ended in time.
    pub fn abort(&self) {
        self.shutdown.cancel();
        self.abort.cancel();
    }

    /// Waits for shutdown, then for every task to end.
    ///
    /// # Errors
    /// The first error of a task, or the names of those that did not end within the grace period.
    pub async fn wait(&self) -> anyhow::Result<()> {
        self.shutdown.cancelled().await;
        self.drain().await
    }

    /// Cancels shutdown's token and waits as [`Daemon::wait`] does.
    ///
    /// # Errors
    /// As for [`Daemon::wait`].
    pub async fn stop(&self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        self.drain().await
    }

    /// Runs a step of the start, given up without harm when shutdown begins: `None` then.
    pub async fn unless_shutdown<F: Future>(&self, step: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => None,
            output = step => Some(output),
        }
    }

    /// A scope within the program for something that is restarted in the same process: own tasks, own
    /// shutdown, a fresh registry in place of the old one, and no health targets. Its failures stay with
    /// it and come out of its `wait`. The program's shutdown does not reach it: whoever has asked for the
    /// scope ends it, because what it serves may have to go on for a while.
    #[must_use]
    pub fn renewed(&self, grace: Duration) -> Daemon {
        self.health.clear();
        Daemon {
            registry: self.registries.renew(),
            registries: self.registries.clone(),
            health: self.health.clone(),
            shutdown: CancellationToken::new(),
            abort: CancellationToken::new(),
            tasks: Tasks::new(),
            reload: self.reload.clone(),
            grace,
        }
    }

    /// Changes with each SIGHUP. From the first call on, that signal no longer ends the process.
    ///
    /// # Errors
    /// When the signal cannot be watched.
    pub fn reload(&self) -> anyhow::Result<watch::Receiver<u64>> {
        let receiver = self.reload.subscribe();
        if self.reload.receiver_count() > 1 {
            return Ok(receiver);
        }
        let mut hangup = signals::hangup()?;
        let (reload, shutdown) = (self.reload.clone(), self.shutdown.clone());
        self.spawn("reload signal", async move {
            while let Some(Some(())) = shutdown.run_until_cancelled(hangup.recv()).await {
                tracing::info!("received signal hangup");
                reload.send_modify(|count| *count += 1);
            }
            Ok(())
        });
        Ok(receiver)
    }

    /// Runs a server of the chassis: its failure stops the program, but its end is not waited for.
    pub(crate) fn spawn_until<F>(&self, chassis: &TaskTracker, server: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let (tasks, shutdown) = (self.tasks.clone(), self.shutdown.clone());
        chassis.spawn(async move {
            if let Err(error) = server.await {
                tasks.running.lock().failure.get_or_insert(error);
                shutdown.cancel();
            }
        });
    }

    async fn drain(&self) -> anyhow::Result<()> {
        self.tasks.tracker.close();
        let ended = tokio::time::timeout(self.grace, self.tasks.tracker.wait()).await;
        let mut running = self.tasks.running.lock();
        if let Some(error) = running.failure.take() {
            return Err(error);
        }
        let names: Vec<_> = running.names.values().map(|name| &**name).collect();
        ended
            .map_err(|_| anyhow!("still running: {}", names.join(", ")))
            .with_context(|| format!("shutdown took longer than {:?}", self.grace))
    }
}

impl Tasks {
    fn new() -> Arc<Self> {
        Arc::new(Tasks {
            tracker: TaskTracker::new(),
            running: Mutex::default(),
        })
    }
}

impl Running {
    fn add(&mut self, name: Cow<'static, str>) -> u64 {
        self.next += 1;
        self.names.insert(self.next, name);
        self.next
    }
}

/// The registries behind the metrics page: one that lives as long as the process, and the program's.
#[derive(Clone)]
pub(crate) struct Registries {
    process: Registry,
    panics: IntCounter,
    current: Arc<RwLock<Registry>>,
}

impl Registries {
    pub fn new() -> anyhow::Result<Self> {
        let process = Registry::new();
        let collector = prometheus::process_collector::ProcessCollector::for_self();
        process
            .register(Box::new(collector))
            .context("process metrics")?;
        // Q-metric-panics: one metric more than upstream has.
        let panics = IntCounter::new(
            "dapr_runtime_panics_total",
            "The number of panics that were caught.",
        )
        .context("panic counter")?;
        process
            .register(Box::new(panics.clone()))
            .context("panic counter")?;
        Ok(Registries {
            process,
            panics,
            current: Arc::default(),
        })
    }

    pub fn panics(&self) -> IntCounter {
        self.panics.clone()
    }

    pub fn current(&self) -> Registry {
        self.current.read().clone()
    }

    pub fn renew(&self) -> Registry {
        let fresh = Registry::new();
        *self.current.write() = fresh.clone();
        fresh
    }

    pub fn gather(&self) -> Vec<MetricFamily> {
        let mut families = self.current().gather();
        families.extend(self.process.gather());
        families
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daemon() -> Daemon {
        Daemon::new(Registries::new().unwrap(), Duration::from_secs(5))
    }

    #[tokio::test]
    async fn first_failure_stops_and_wins() {
        let daemon = daemon();
        let token = daemon.shutdown();
        daemon.spawn("follower", async move {
            token.cancelled().await;
            Err(anyhow!("second"))
        });
        daemon.spawn("leader", async { Err(anyhow!("first")) });
        let error = daemon.wait().await.unwrap_err();
        assert_eq!(format!("{error:#}"), "leader failed: first");
    }

    #[tokio::test]
    async fn panics_are_failures() {
        let daemon = daemon();
        daemon.spawn("part", async { panic!("broken {}", 1) });
        let error = daemon.wait().await.unwrap_err();
        assert_eq!(error.to_string(), "part panicked: broken 1");
    }

    #[tokio::test]
    async fn a_contained_panic_is_told_and_ends_nothing_else() {
        let daemon = daemon();
        let (told, panicked) = tokio::sync::oneshot::channel();
        daemon.spawn_contained("a loop".to_owned(), async { panic!("broken") }, move || {
            told.send(()).unwrap()
        });
        panicked.await.unwrap();
        assert!(!daemon.shutdown().is_cancelled());
        daemon.spawn_contained("another".to_owned(), async {}, || panic!("not this one"));
        daemon.stop().await.unwrap();
    }

    #[tokio::test]
    async fn what_does_not_end_is_broken_off() {
        let daemon = daemon();
        daemon.spawn("stuck", std::future::pending());
        daemon.spawn_contained("stuck, too".to_owned(), std::future::pending(), || {});
        daemon.abort();
        daemon.wait().await.unwrap();
    }

    #[tokio::test]
    async fn a_task_that_does_not_end_is_named() {
        let daemon = daemon();
        let daemon = Daemon {
            grace: Duration::from_millis(20),
            ..daemon
        };
        daemon.spawn("sleeper", std::future::pending());
        daemon.spawn("quick", async { Ok(()) });
        let error = daemon.stop().await.unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "shutdown took longer than 20ms: still running: sleeper"
        );
    }

    #[tokio::test]
    async fn a_renewed_scope_fails_and_ends_alone() {
        let daemon = daemon();
        let scope = daemon.renewed(Duration::from_secs(1));
        scope.spawn("part", async { Err(anyhow!("no")) });
        assert!(scope.wait().await.is_err());
        assert!(!daemon.shutdown().is_cancelled());
        let scope = daemon.renewed(Duration::from_secs(1));
        assert!(daemon.unless_shutdown(async { 1 }).await.is_some());
        daemon.stop().await.unwrap();
        assert!(!scope.shutdown().is_cancelled());
        scope.stop().await.unwrap();
        assert!(
            daemon
                .unless_shutdown(std::future::pending::<()>())
                .await
                .is_none()
        );
    }
}
