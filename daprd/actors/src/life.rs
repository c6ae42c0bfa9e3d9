//! What the engine does by itself: it follows placement, the state store and the clock, takes reminders, and ends in order.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use app_channel::ActorConfig;
use async_trait::async_trait;
use blocks::Intake;
use jobs::{Outcome, Trigger};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use values::Pauses;

use crate::{
    ActorId, Engine, Error,
    app_host::AppHost,
    host::{Firing, Host},
    hosting,
    timers::Due,
};

impl Engine {
    /// Follows placement, the clock, and the state store, until shutdown. What the app hosts is followed by its health, see
    /// [`Intake`].
    pub async fn run(self, shutdown: CancellationToken) {
        let inner = &self.0;
        if !inner.is_enabled() {
            return;
        }
        if !inner.options.app.is_configured() {
            inner.hosting.registered();
        }
        let rest = async {
            tokio::join!(
                self.idle_out(),
                self.fire_timers(),
                self.follow_store(),
                self.follow_types(),
            );
        };
        let placement = async {
            // Placement hears of all types at once.
            if inner.actor_store().is_some() {
                let mut registered = inner.hosting.registration();
                let _ = shutdown
                    .run_until_cancelled(registered.wait_for(|is| *is))
                    .await;
            }
            self.follow_placement(shutdown.clone()).await;
        };
        tokio::select! {
            _ = async { tokio::join!(placement, rest) } => {}
            () = shutdown.cancelled() => {}
        }
        inner.closed.cancel();
    }

    /// Placement has handed out a table that everybody has.
    pub(crate) fn connected(&self) {
        let inner = &self.0;
        (inner.options.connected)();
        let hosted = inner.hosting.advertised().borrow().clone();
        inner.set_types(hosted);
    }

    /// Types that are withdrawn get no reminders from then on, before placement has let them go.
    async fn follow_types(&self) {
        let inner = &self.0;
        let mut advertised = inner.hosting.advertised();
        while advertised.changed().await.is_ok() {
            let now = advertised.borrow_and_update().clone();
            let kept = inner.types.borrow().intersection(&now).cloned().collect();
            inner.set_types(kept);
        }
    }

    /// Hosts only while there is a state store for actors; where one of another name comes in its place, actors begin anew. One that is
    /// changed under its name is taken to hold what it held. Contract 9.2
    async fn follow_store(&self) {
        let inner = &self.0;
        let mut changes = inner.options.state.changes();
        let mut known = inner.actor_store();
        inner.hosting.suspend(known.is_none());
        if known.is_none() {
            tracing::info!(
                "Actor state store not configured - actor hosting disabled until one is configured, but invocation enabled"
            );
        }
        while changes.changed().await.is_ok() {
            let now = inner.actor_store();
            let same = match (&now, &known) {
                (Some(now), Some(known)) => now.is_same(known),
                (None, None) => true,
                _ => false,
            };
            if same {
                continue;
            }
            if let (Some(after), Some(before)) = (&now, &known)
                && after.name() == before.name()
            {
                let store = after.name();
                tracing::info!("Actor state store {store} updated - actor hosting continues");
                known = now;
                continue;
            }
            if known.is_some() {
                tracing::info!("Actor state store removed or replaced - draining hosted actors");
                inner.hosting.suspend(true);
                self.drain(|_| true, Duration::MAX).await;
            }
            if let Some(store) = &now {
                let store = store.name();
                tracing::info!("Actor state store {store} configured - enabling actor hosting");
                inner.hosting.suspend(false);
            }
            known = now;
        }
    }

    async fn fire_timers(&self) {
        let inner = &self.0;
        loop {
            let next = inner.timers.lock().next();
            let now = inner.options.clock.now();
            let wait =
                next.map(|next| Duration::try_from(next.duration_since(now)).unwrap_or_default());
            let due = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = inner.earlier.notified() => continue,
            }
            let due = inner.timers.lock().due(inner.options.clock.now());
            for due in due {
                let engine = self.clone();
                inner
                    .tasks
                    .spawn("actor timer", async move { engine.fire_timer(due).await });
            }
        }
    }

    async fn fire_timer(&self, due: Due) {
        let inner = &self.0;
        if !inner.timers.lock().is_wanted(&due) {
            return;
        }
        let fired = inner
            .closed
            .run_until_cancelled(self.fire(due.firing.clone()));
        let Some(fired) = fired.await else {
            return;
        };
        let kind = &due.firing.actor.kind;
        inner.metrics.timer_fired(kind, fired.is_ok());
        let canceled = matches!(fired, Err(Error::Canceled));
        if let Err(error) = fired
            && !canceled
        {
            let (actor, name) = (&due.firing.actor, &due.firing.name);
            tracing::error!("Error executing timer {actor}||{name}: {error}");
        }
        if inner.timers.lock().fired(&due, canceled) {
            inner.metrics.timers(kind, -1.0);
        }
        inner.earlier.notify_one();
    }

    /// Asks the app what it hosts, in the background again and again if it does not say.
    async fn ask_app(&self) {
        let asking = CancellationToken::new();
        // Who asked before does so no more.
        std::mem::replace(&mut *self.0.asking.lock(), asking.clone()).cancel();
        let problem = match self.0.options.app.actor_config().await {
            Ok(config) => return self.adopt(&config, &asking),
            Err(error) => component::error::chain(&error),
        };
        tracing::error!("the app's configuration cannot be read: {problem}; it is asked again");
        let engine = self.clone();
        self.0
            .tasks
            .spawn("asking the app for its actors", async move {
                let closed = engine.0.closed.clone();
                let again = asking.run_until_cancelled(engine.ask_again(&asking));
                closed.run_until_cancelled(again).await;
            });
    }

    async fn ask_again(&self, asking: &CancellationToken) {
        let mut pauses = Pauses::doubling(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            sleep(values::around(pauses.pause(), fastrand::f64())).await;
            match self.0.options.app.actor_config().await {
                Ok(config) => return self.adopt(&config, asking),
                Err(error) => {
                    let problem = component::error::chain(&error);
                    tracing::debug!("the app's configuration still cannot be read: {problem}");
                }
            }
        }
    }

    /// Takes over what the app says, unless nobody asks any more.
    fn adopt(&self, config: &ActorConfig, asking: &CancellationToken) {
        let inner = &self.0;
        let options = &inner.options;
        let app = AppHost::new(options.app.clone(), Arc::clone(&options.policies));
        let host: Arc<dyn Host> = Arc::new(app);
        let kinds = hosting::kinds(config, &host, options.disseminate_timeout);
        if kinds.is_empty() || !inner.is_enabled() {
            return;
        }
        let names: BTreeSet<String> = kinds.keys().cloned().collect();
        // Not beside a stop, which has the lock while it takes the app.
        let _current = inner.asking.lock();
        if asking.is_cancelled() {
            return;
        }
        tracing::info!("Registering hosted actors: {names:?}");
        *inner.of_app.lock() = Some(host);
        inner.hosting.add(kinds);
    }
}

/// The app's actors are hosted while it is healthy.
#[async_trait]
impl Intake for Engine {
    async fn start(&self) {
        let options = &self.0.options;
        // Apps are used to being asked, also where nobody is there to host actors for.
        if options.ask_config && options.app.is_configured() {
            self.ask_app().await;
        }
        self.0.hosting.registered();
    }

    async fn stop(&self) {
        let app = {
            let asking = self.0.asking.lock();
            asking.cancel();
            self.0.of_app.lock().take()
        };
        if let Some(app) = app {
            self.withdraw(&app).await;
        }
    }

    /// Placement is told first, and gives the actors to others: who calls them waits no longer than that takes. What is left
    /// is deactivated. Q-actor-leave
    async fn drain(&self) {
        let inner = &self.0;
        inner.asking.lock().cancel();
        if !inner.is_enabled() {
            return;
        }
        inner.hosting.leave();
        let left = async {
            let mut changes = inner.directory.changes();
            while inner.line.is_ready() && !inner.directory.is_left() {
                if changes.changed().await.is_err() {
                    break;
                }
            }
            self.drain(|_| true, Duration::MAX).await;
        };
        if timeout(LEAVING, left).await.is_err() {
            tracing::warn!("placement or the app has not let this host go within {LEAVING:?}");
        }
        inner.closed.cancel();
        inner.tasks.ended().await;
    }
}

/// Reminders run on the actor's owner, wherever it is.
#[async_trait]
impl jobs::Reminders for Engine {
    async fn remind(&self, trigger: Trigger) -> Outcome {
        let kind = trigger.actor_type.clone();
        let firing = Firing {
            actor: ActorId {
                kind: trigger.actor_type,
                id: trigger.actor_id,
            },
            name: trigger.name,
            due_time: String::new(),
            period: String::new(),
            callback: String::new(),
            data: trigger.data,
            is_timer: false,
        };
        let name = format!("{}||{}", firing.actor, firing.name);
        let fired = self.fire(firing).await;
        self.0.metrics.reminder_fired(&kind, fired.is_ok());
        match fired {
            Ok(()) | Err(Error::Canceled) => Outcome::Done,
            Err(error) => {
                tracing::error!("failed to invoke scheduled actor reminder {name}: {error}");
                Outcome::Failed
            }
        }
    }
}

/// How long placement, and the app with its actors, may take to let a sidecar go that ends.
const LEAVING: Duration = Duration::from_secs(4);

/// Pauses before an app that did not say what it hosts is asked again, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
