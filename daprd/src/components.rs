//! Brings Component resources to the parts that own them, at the start and whenever they change. What is to be done and when
//! says the [`plan`]; here it is done.

mod declare;
mod failures;
pub mod plan;
mod redaction;
mod types;

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use blocks::{Listed, Owner};
use component::{Catalog, catalog::FIRST_VERSION};
use crds::{Component, Configuration, HttpEndpoint, Kind};
use daemon::Daemon;
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use telemetry::{Counter, Meter};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use values::GoDuration;

use crate::tasks::{Ended, Tasks};
pub use declare::{KUBERNETES_STORE, Resolver};
use failures::Failures;
use plan::{Generation, Plan, Step};
use redaction::Redaction;

/// How long a component may take to open, unless it says otherwise (contract 3.3).
const INIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Components that are opened and closed at a time while the sidecar runs, so that a dead one does not hold up the others.
const MOST_STEPS: usize = 8;

/// What the loader is made of.
pub struct Options {
    pub owners: Vec<Arc<dyn Owner>>,
    pub resolver: Resolver,
    pub catalog: Arc<Catalog>,
    pub configuration: Configuration,
    pub daemon: Daemon,
    pub meter: Meter,
}

/// Loads components and knows which ones are to run.
pub struct Loader {
    options: Options,
    book: Arc<Book>,
    loaded_count: Counter,
    init_count: Counter,
    init_fail_count: Counter,
    failures: Failures,
}

/// The plan, and a sign that it has changed.
#[derive(Default)]
struct Book {
    plan: Mutex<Plan>,
    changed: Notify,
}

/// A component that could not be opened.
struct Failure {
    error: anyhow::Error,
    /// Whether it is worth another attempt while its resource stays as it is.
    again: bool,
    /// Nobody can ignore it away: not a component has failed, but there is none of that kind.
    unknown_kind: bool,
}

impl Failure {
    fn lasting(error: anyhow::Error) -> Self {
        Self {
            error,
            again: false,
            unknown_kind: false,
        }
    }

    fn passing(error: impl Into<anyhow::Error>) -> Self {
        Self {
            error: error.into(),
            again: true,
            unknown_kind: false,
        }
    }
}

impl Loader {
    pub fn new(options: Options) -> Self {
        let meter = &options.meter;
        Self {
            book: Arc::default(),
            loaded_count: meter.counter(
                "runtime/component/loaded",
                "The number of successfully loaded components.",
                &[],
            ),
            init_count: meter.counter(
                "runtime/component/init_total",
                "The number of initialized components.",
                &["component"],
            ),
            init_fail_count: meter.counter(
                "runtime/component/init_fail_total",
                "The number of component initialization failures.",
                &["component", "reason", "componentName"],
            ),
            failures: Failures::new(meter),
            options,
        }
    }

    /// Loads everything at start: secret stores first, because others refer to them.
    ///
    /// # Errors
    /// The first component that fails and is not to be ignored.
    pub async fn load(&self, components: impl IntoIterator<Item = Component>) -> Result<()> {
        let begin = Instant::now();
        for component in components {
            self.book.plan.lock().want(component, begin);
        }
        // By the time of the beginning none is due that has failed since.
        loop {
            let Some(step) = self.book.plan.lock().next(begin) else {
                return Ok(());
            };
            self.carry_out(step, true).await?;
        }
    }

    /// A component is wanted, new or changed.
    pub fn want(&self, component: Component) {
        self.book.plan.lock().want(component, Instant::now());
        self.failures.show(&self.book.plan);
        self.book.changed.notify_one();
    }

    /// A component is not wanted any more.
    pub fn unwant(&self, name: &str) {
        self.book.plan.lock().unwant(name, Instant::now());
        self.failures.show(&self.book.plan);
        self.book.changed.notify_one();
    }

    /// Opens, replaces and closes components as they are wanted, until shutdown. What is being opened then is given up, since
    /// nobody is left to call it, and what is being closed is closed.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut steps = FuturesUnordered::new();
        loop {
            let now = Instant::now();
            while steps.len() < MOST_STEPS {
                let Some(step) = self.book.plan.lock().next(now) else {
                    break;
                };
                let given_up = match &step {
                    Step::Open { .. } => shutdown.clone(),
                    Step::Close(_) => CancellationToken::new(),
                };
                let step = self.carry_out(step, false);
                steps.push(async move { given_up.run_until_cancelled(step).await });
            }
            let due = self.book.plan.lock().due(now);
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = steps.next() => {}
                () = self.book.changed.notified() => {}
                () = sleep_until(due) => {}
            }
        }
        while steps.next().await.is_some() {}
    }

    /// What is loaded, in order of names.
    pub fn components(&self) -> Vec<Listed> {
        let owners = self.options.owners.iter();
        let mut all: Vec<Listed> = owners.flat_map(|owner| owner.components()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// What is wanted and could not be opened, as `name (type/version)`.
    pub fn failed(&self) -> Vec<String> {
        let plan = self.book.plan.lock();
        plan.failures().map(|it| describe(&it.component)).collect()
    }

    /// Everything that is open, and what is wanted and could not be opened, with the reason.
    pub fn states(&self) -> BTreeMap<String, Option<String>> {
        let open = self.components().into_iter().map(|it| (it.name, None));
        let mut states: BTreeMap<_, _> = open.collect();
        states.extend(self.failures.states(&self.book.plan));
        states
    }

    /// Tells that [`Loader::states`] may have changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.failures.changes()
    }

    /// Closes all, in the reverse order of their owners.
    pub async fn close(&self) {
        for owner in self.options.owners.iter().rev() {
            contained("components", owner.close()).await;
        }
    }

    /// # Errors
    /// At the start only: what ends the sidecar.
    async fn carry_out(&self, step: Step, start: bool) -> Result<()> {
        match step {
            Step::Open {
                component,
                generation,
                replaces,
            } => match self.open(&component, generation, replaces.as_deref()).await {
                Ok(()) => {
                    self.note_opened(component, generation);
                    Ok(())
                }
                Err(failure) if start => self.failed_at_start(&component, failure),
                Err(failure) => {
                    self.note_failed(&component, &failure, true);
                    Ok(())
                }
            },
            Step::Close(component) => {
                if let Ok(owner) = self.owner(&component) {
                    contained(component.name(), owner.remove(component.name())).await;
                    tracing::info!("Component closed: {}", describe(&component));
                }
                let now = Instant::now();
                self.book.plan.lock().closed(component.name(), now);
                self.failures.show(&self.book.plan);
                Ok(())
            }
        }
    }

    fn note_opened(&self, component: Component, generation: Generation) {
        tracing::info!("Component loaded: {}", describe(&component));
        self.loaded_count.add(&[], 1);
        self.init_count.add(&[&component.spec.component_type], 1);
        let now = Instant::now();
        self.book.plan.lock().opened(component, generation, now);
        self.failures.show(&self.book.plan);
    }

    /// Counts and logs a failure, and plans the next attempt, of which is told where the sidecar `goes_on`.
    fn note_failed(&self, component: &Component, failure: &Failure, goes_on: bool) {
        let text = describe(component);
        let Failure { error, again, .. } = failure;
        let name = component.name();
        let labels = [&component.spec.component_type, "init", name];
        self.init_fail_count.add(&labels, 1);
        tracing::error!("Failed to init component {text}: {error:#}");
        let mut plan = self.book.plan.lock();
        let pause = plan.failed(component, *again, Instant::now(), fastrand::f64());
        let failed = plan.failures().find(|it| it.component.name() == name);
        drop(plan);
        self.failures.note(name, error);
        self.failures.show(&self.book.plan);
        let Some(failed) = failed else {
            // Something else is wanted under that name by now.
            return;
        };
        if !goes_on {
            return;
        }
        let meanwhile = if failed.previous_runs {
            "the one before it stays in use"
        } else {
            "there is none of that name meanwhile"
        };
        match pause {
            Some(pause) => tracing::warn!(
                "component {text} is not loaded, {meanwhile}; the next attempt is in {:.1}s",
                pause.as_secs_f64()
            ),
            None => tracing::warn!(
                "component {text} is not loaded, {meanwhile}; its resource has to be changed first"
            ),
        }
    }

    /// The contract's rule for the start: it ends the sidecar, unless the component says that its errors are to be ignored.
    fn failed_at_start(&self, component: &Component, failure: Failure) -> Result<()> {
        let ignored = component.spec.ignore_errors && !failure.unknown_kind;
        self.note_failed(component, &failure, ignored);
        let Failure {
            error,
            unknown_kind,
            ..
        } = failure;
        let name = component.name();
        if ignored {
            tracing::error!("Ignoring error processing component: {error:#}");
            return Ok(());
        }
        tracing::warn!(
            "Error processing component, daprd will exit gracefully: process component {name} error: {error:#}"
        );
        if unknown_kind {
            return Err(error.context(format!("process component {name} error")));
        }
        Err(error)
    }

    /// Opens a component. What it replaces goes on until then, and for good where that fails (Q-component-retry).
    async fn open(
        &self,
        component: &Component,
        generation: Generation,
        replaces: Option<&Component>,
    ) -> Result<(), Failure> {
        let owner = self.owner(component).map_err(|error| Failure {
            unknown_kind: true,
            ..Failure::lasting(error)
        })?;
        let opening = self.open_at(owner, component, generation);
        opening.await.map_err(|failure| Failure {
            error: failure.error.context(format!(
                "[INIT_COMPONENT_FAILURE]: initialization error occurred for {}",
                describe(component)
            )),
            ..failure
        })?;
        if let Some(old) = replaces
            && let Ok(before) = self.owner(old)
            && before.prefix() != owner.prefix()
        {
            contained(old.name(), before.remove(old.name())).await;
        }
        Ok(())
    }

    /// HTTPEndpoints with their secrets in place. One whose secrets cannot be read is left out, and the log says why.
    pub async fn http_endpoints(
        &self,
        resources: impl Iterator<Item = &HttpEndpoint>,
    ) -> Vec<HttpEndpoint> {
        let mut resolved = Vec::new();
        for resource in resources {
            match self.options.resolver.endpoint(resource).await {
                Ok(endpoint) => resolved.push(endpoint),
                Err(error) => {
                    tracing::error!("HTTPEndpoint {} is not loaded: {error:#}", resource.name());
                }
            }
        }
        resolved
    }

    async fn open_at(
        &self,
        owner: &Arc<dyn Owner>,
        component: &Component,
        generation: Generation,
    ) -> Result<(), Failure> {
        let init_timeout = self.check(component).map_err(Failure::lasting)?;
        let resolver = &self.options.resolver;
        let tasks = Arc::new(self.tasks(component.name(), generation));
        let declared = resolver.declare(component, init_timeout, tasks).await;
        let declared = declared.map_err(Failure::passing)?;
        let redaction = Redaction::new(component, &declared.metadata, &self.options.catalog);
        let opened = AssertUnwindSafe(owner.apply(declared)).catch_unwind();
        let error = match opened.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.into(),
            Err(panic) => anyhow!("it panicked: {}", daemon::panic_message(&*panic)),
        };
        Err(Failure::passing(redaction.apply(error)))
    }

    /// What no attempt would change. Answers how long opening may take.
    fn check(&self, component: &Component) -> Result<Duration> {
        let spec = &component.spec;
        let configuration = &self.options.configuration.spec;
        if configuration.denies_component(&spec.component_type, version(component)) {
            bail!("component type {} is on the deny list", spec.component_type);
        }
        match &spec.init_timeout {
            None => Ok(INIT_TIMEOUT),
            Some(text) => text
                .parse::<GoDuration>()
                .with_context(|| format!("spec.initTimeout {text:?}"))?
                .to_std()
                .with_context(|| format!("spec.initTimeout {text:?} is negative")),
        }
    }

    /// Where the loops of one opening of a component run. A panic in one has the component opened anew, an early end is
    /// logged.
    fn tasks(&self, name: &str, generation: Generation) -> Tasks {
        let (book, name) = (Arc::downgrade(&self.book), name.to_owned());
        Tasks::new(self.options.daemon.clone(), move |ended| {
            let Some(book) = book.upgrade() else {
                return;
            };
            let now = Instant::now();
            let mut plan = book.plan.lock();
            match ended {
                Ended::Panicked if plan.broke(&name, generation, now, fastrand::f64()) => {
                    drop(plan);
                    tracing::error!(
                        "component {name} is opened anew, since one of its loops panicked"
                    );
                    book.changed.notify_one();
                }
                Ended::Returned if plan.is_at_rest(&name, generation) => tracing::warn!(
                    "a loop of component {name} has ended, and nobody has closed the component"
                ),
                _ => {}
            }
        })
    }

    fn owner(&self, component: &Component) -> Result<&Arc<dyn Owner>> {
        let component_type = component.spec.component_type.to_ascii_lowercase();
        self.options
            .owners
            .iter()
            .find(|owner| component_type.starts_with(owner.prefix()))
            .ok_or_else(|| match types::is_known(&component_type) {
                true => anyhow!("component type {component_type} is not in this build"),
                false => anyhow!("incorrect type {}", component.spec.component_type),
            })
    }
}

/// Runs what a component does when it is closed; a panic in it is logged and ends nothing else.
async fn contained(name: &str, closing: impl Future<Output = ()>) {
    if let Err(panic) = AssertUnwindSafe(closing).catch_unwind().await {
        let text = daemon::panic_message(&*panic);
        tracing::error!("{name} panicked when it was closed: {text}");
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn version(component: &Component) -> &str {
    match component.spec.version.as_str() {
        "" => FIRST_VERSION,
        given => given,
    }
}

/// `name (type/version)`
fn describe(component: &Component) -> String {
    format!(
        "{} ({}/{})",
        component.name(),
        component.spec.component_type,
        version(component)
    )
}
