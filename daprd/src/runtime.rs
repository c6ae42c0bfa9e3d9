//! One life of the sidecar, from its settings to its end: the parts in the order in which they need each other, then the
//! servers, then the app; and all of it in reverse.

mod actors;
mod app;
mod blocks;
mod ground;
mod load;
mod mcp;
mod parts;
mod serve;
mod signing;
mod stop;
mod workflow;

use std::{convert::Infallible, sync::Arc};

use ::blocks::{Intake, Owner};
use ::workflow::Workers;
use anyhow::Result;
use api::Api;
use app_channel::AppChannel;
use arc_swap::ArcSwapOption;
use component::NameResolver;
use daemon::Daemon;
use settings::Resolved;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    components::Loader,
    identity,
    inventory::{self, Inventory},
    middleware::Middleware,
    readiness::Readiness,
    reload::Restart,
    servers::Servers,
};
use blocks::Blocks;
use stop::Ending;

/// How a life of the sidecar ended.
pub enum End {
    Stopped,
    Restart,
}

/// The settings and the scope that one life has.
pub struct Runtime<'s> {
    settings: &'s Resolved,
    daemon: &'s Daemon,
    readiness: Readiness,
    servers: Servers,
    ending: Ending,
}

/// Everything that must be stopped in order.
struct Running {
    loader: Arc<Loader>,
    intakes: Vec<Arc<dyn Intake>>,
    resolver: Arc<ArcSwapOption<Arc<dyn NameResolver>>>,
    restart: Option<Restart>,
    app: AppChannel,
    workers: Workers,
    /// Cancelled once the sidecar may be called ready.
    settled: CancellationToken,
}

impl<'s> Runtime<'s> {
    /// A life in the scope `daemon`, which ends when `signal` is cancelled.
    pub fn new(settings: &'s Resolved, daemon: &'s Daemon, signal: CancellationToken) -> Self {
        Self {
            settings,
            daemon,
            readiness: Readiness::new(daemon.health().clone()),
            servers: Servers::new(daemon),
            ending: Ending::new(signal, daemon),
        }
    }

    /// Starts, serves until a signal or a reason to restart, and stops in order.
    pub async fn run(self, hang_up: &mut watch::Receiver<u64>) -> Result<End> {
        let ready = self.daemon.health().target("runtime");
        let started = tokio::select! {
            biased;
            () = self.ending.signal() => None,
            started = self.daemon.unless_shutdown(self.start()) => started,
        };
        let mut running = match started {
            Some(Ok(running)) => running,
            Some(Err(error)) => {
                let _ = self.daemon.stop().await;
                return Err(error.context("Fatal error from runtime"));
            }
            None => return self.daemon.stop().await.map(|()| End::Stopped),
        };
        let settled = running.settled.clone();
        let initialized = async {
            settled.cancelled().await;
            ready.ready();
            tracing::info!("dapr initialized. Status: Running.");
            std::future::pending::<Infallible>().await
        };
        let restart = tokio::select! {
            never = initialized => match never {},
            () = self.ending.signal() => {
                self.block_shutdown(&running).await;
                false
            }
            () = self.ending.asked() => false,
            _ = hang_up.changed() => true,
            reason = running.restart_reason() => {
                tracing::info!("{reason} has changed");
                true
            }
        };
        if restart {
            // Whoever waits for the sidecar to be ready again is not to take the life that ends for it.
            ready.not_ready();
            self.stop_for_restart(running).await?;
            return Ok(End::Restart);
        }
        self.stop(running).await?;
        Ok(End::Stopped)
    }

    async fn start(&self) -> Result<Running> {
        let mut ground = self.ground().await?;
        let settings = self.settings;
        let spec = &ground.configuration.spec;
        let middleware = Arc::new(Middleware::new(
            ground.registry(&settings.namespace),
            spec.http_pipeline.clone().unwrap_or_default(),
            spec.app_http_pipeline.clone().unwrap_or_default(),
        ));
        let (app, probe) = self.app_channel(&ground, &middleware)?;
        let blocks = self.blocks(&ground, &app)?;
        let (mut intakes, mut owners) = (blocks.intakes(), blocks.owners());
        owners.push(Arc::clone(&middleware) as Arc<dyn Owner>);
        let Blocks {
            secrets,
            state,
            lock,
            configuration,
            pubsub,
            bindings,
            jobs,
            schedulers,
        } = blocks;
        let loader = Arc::new(self.loader(&ground, owners, &secrets));
        let resolver: Arc<ArcSwapOption<Arc<dyn NameResolver>>> = Arc::default();
        let peers = self.peers(&ground, &resolver);
        let invoker = self.invoker(&ground, &app, Arc::clone(&resolver), peers.clone())?;
        let actors = self.actors(&ground, &app, &state, peers)?;
        intakes.push(Arc::new(actors.clone()));
        self.follow_schedulers(schedulers, &actors);
        self.serve_internal(&mut ground, &invoker, &actors);
        self.open_resolver(&ground, &resolver).await;
        let loaded = self.load(&ground, &loader, &pubsub, &middleware).await;
        if let (Err(_), Some(reporter)) = (&loaded, &ground.reporter) {
            reporter.report_once(loader.states()).await;
        }
        loaded?;
        let (actor_state, reminders) = (self.actor_state(&ground, &state), self.reminders(&jobs));
        let workflow = self.workflow(&ground, &actors, &actor_state, &reminders, &state)?;
        workflow.set_access(&ground.desired.access_policies());
        let endpoints = ground.desired.http_endpoints();
        invoker.load_http_endpoints(&loader.http_endpoints(endpoints).await);
        let mcp = self.mcp(&ground, &secrets, workflow.workers());
        let connected = self.connect_mcp(&ground, &mcp);
        // Before anybody can see that this sidecar is up: what happens then is not to be missed.
        let restart = self.watch_resources(&ground, &loader, &pubsub, &workflow, &mcp);
        let inventory = Arc::new(Inventory {
            loader: Arc::clone(&loader),
            pubsub: pubsub.clone(),
            http_endpoints: invoker.http_endpoints(),
            resiliencies: ground.resiliency_names(),
            workflow: workflow.clone(),
            mcp: mcp.clone(),
            enabled_features: ground.compiled.enabled_features.clone(),
            app: inventory::app_connection(settings),
            jobs: jobs.clone(),
        });
        let workers = workflow.workers().clone();
        let completions = self.completions(&ground, &actors, &workers);
        let api = Arc::new(Api::new(api::Options {
            app_id: settings.app.id.clone(),
            namespace: identity::namespace(settings),
            state: state.clone(),
            secrets,
            lock,
            configuration,
            pubsub: pubsub.clone(),
            bindings,
            invoker: invoker.clone(),
            actor_state,
            reminders,
            workflow: workflow.clone(),
            completions: completions.clone(),
            actors: actors.clone(),
            jobs: Arc::new(jobs),
            inventory,
            health: Arc::new(self.readiness.clone()),
            shutdown: self.ending.trigger(),
            max_message: self.max_message(),
            errors: telemetry::ErrorCodes::new(&ground.meter, ground.compiled.record_error_codes),
        }));
        self.serve_api(&ground, &api, &invoker, &middleware).await?;
        connected.await?;
        self.readiness.set_outbound();
        self.spawn("MCP servers", mcp.run(self.daemon.shutdown()));
        self.spawn("actors", actors.run(self.daemon.shutdown()));
        self.spawn("workflow", workflow.run(self.daemon.shutdown()));
        self.spawn("completions", completions.run(self.daemon.shutdown()));
        let settled = self.follow_app(&app, probe, &intakes);
        self.keep_components(&loader);
        self.report_components(&ground, &loader);
        Ok(Running {
            loader,
            intakes,
            resolver,
            restart,
            app,
            workers,
            settled,
        })
    }

    /// Runs a loop that ends with its own token.
    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.daemon.spawn(name, async move {
            task.await;
            Ok(())
        });
    }
}
