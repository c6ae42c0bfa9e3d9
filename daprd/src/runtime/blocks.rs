//! The building blocks and engines that components belong to, and what they are to the rest: owners of components, and intakes
//! of events. A new one is a field here, and stands in both lists that it belongs to.

use std::sync::Arc;

use ::blocks::{Intake, Owner, lock, secrets, state};
use anyhow::Result;
use app_channel::AppChannel;
use transport::{ChannelOptions, Connector};

use super::{Runtime, ground::Ground};
use crate::{identity, tasks::Contained};

/// Every block of a life.
pub struct Blocks {
    pub secrets: secrets::Stores,
    pub state: state::Stores,
    pub lock: lock::Stores,
    pub configuration: configuration::Engine,
    pub pubsub: pubsub::Engine,
    pub bindings: bindings::Engine,
    pub jobs: jobs::Engine,
    /// What keeps the line to the schedulers.
    pub schedulers: jobs::Run,
}

impl Blocks {
    /// Those that take events in for the app.
    pub fn intakes(&self) -> Vec<Arc<dyn Intake>> {
        vec![
            Arc::new(self.pubsub.clone()),
            Arc::new(self.configuration.clone()),
            Arc::new(self.bindings.clone()),
            Arc::new(self.jobs.clone()),
        ]
    }

    /// Those that own components, in the order of their metadata; they are closed in the reverse one.
    pub fn owners(&self) -> Vec<Arc<dyn Owner>> {
        vec![
            Arc::new(self.secrets.clone()),
            Arc::new(self.state.clone()),
            Arc::new(self.lock.clone()),
            Arc::new(self.configuration.clone()),
            Arc::new(self.pubsub.clone()),
            Arc::new(self.bindings.clone()),
        ]
    }
}

impl Runtime<'_> {
    /// Makes the blocks; nothing is loaded yet.
    ///
    /// # Errors
    /// Where the scheduler can have no identity.
    pub(super) fn blocks(&self, ground: &Ground, app: &AppChannel) -> Result<Blocks> {
        let settings = self.settings;
        let registry = ground.registry(&settings.namespace);
        let app_id = &settings.app.id;
        let spawn: Arc<dyn component::Spawn> = Arc::new(Contained(self.daemon.clone()));
        let scopes = ground.compiled.secret_scopes.clone();
        let actors = !settings.placement_addresses.is_empty();
        let state = state::Stores::new(registry.clone(), app_id.clone(), actors);
        let (pubsub, run) = pubsub::Engine::with_settings(
            pubsub::Options {
                registry: registry.clone(),
                app_id: app_id.clone(),
                tracer: ground.tracer.clone(),
                app: app.clone(),
                state: state.clone(),
                spawn: Arc::clone(&spawn),
            },
            pubsub::Settings {
                programmatic: settings.app.ask_subscriptions,
                ..pubsub::Settings::default()
            },
        );
        self.spawn("pubsub", run.run(self.ending.intake_end()));
        let (jobs, schedulers) = jobs::Engine::new(jobs::Options {
            addresses: settings.scheduler_addresses.clone(),
            streams: settings.scheduler_job_streams,
            app_id: app_id.clone(),
            namespace: identity::namespace(settings),
            label: settings.namespace.clone(),
            limits: self.global_limits(ground),
            app: app.clone(),
            dial: self.schedulers(ground)?,
            meter: ground.meter.clone(),
            spawn: Arc::clone(&spawn),
        });
        Ok(Blocks {
            secrets: secrets::Stores::new(registry.clone(), scopes),
            lock: lock::Stores::new(registry.clone(), app_id.clone()),
            configuration: configuration::Engine::new(configuration::Options {
                registry: registry.clone(),
                app: app.clone(),
                spawn: Arc::clone(&spawn),
            }),
            bindings: bindings::Engine::new(bindings::Options {
                registry,
                app: app.clone(),
                state: state.clone(),
                tracer: ground.tracer.clone(),
                options_timeout: settings.app.binding_options_timeout,
                spawn,
            }),
            state,
            pubsub,
            jobs,
            schedulers,
        })
    }

    /// How a scheduler is dialled.
    fn schedulers(&self, ground: &Ground) -> Result<jobs::Dial> {
        let expect = identity::control_plane(self.settings, security::SCHEDULER)?;
        let connector = Connector::maybe_tls(ground.security.client(expect));
        let options = ChannelOptions::control_plane();
        Ok(Arc::new(move |address| {
            let uri = format!("http://{address}").parse().ok()?;
            Some(transport::channel(uri, connector.clone(), options.clone()))
        }))
    }
}
