//! The actors of a life, what they keep, and the line to the schedulers, which brings their reminders.

use std::sync::Arc;

use ::actors::{
    Engine, Members, Options,
    reminders::{self, Reminders},
    state::{self, State},
};
use anyhow::Result;
use app_channel::AppChannel;
use blocks::state::Stores;
use peers::Pool;
use settings::Mode;
use values::SystemClock;

use super::{Runtime, ground::Ground};
use crate::{identity, tasks::Contained};

/// The feature under which values may expire.
const STATE_TTL: &str = "ActorStateTTL";

impl Runtime<'_> {
    /// The engine; nothing runs yet.
    ///
    /// # Errors
    /// Where placement can have no identity.
    pub(super) fn actors(
        &self,
        ground: &Ground,
        app: &AppChannel,
        state: &Stores,
        peers: Pool,
    ) -> Result<Engine> {
        let (settings, instance) = (self.settings, &ground.instance);
        let host = match instance.host_address.contains(':') {
            true => format!("[{}]", instance.host_address),
            false => instance.host_address.clone(),
        };
        let addresses = addresses(&settings.placement_addresses);
        // Callers are to wait for actors that cannot be found yet.
        let found = (!addresses.is_empty())
            .then(|| self.daemon.health().target("internal-placement-service"));
        Ok(Engine::new(Options {
            app_id: settings.app.id.clone(),
            namespace: identity::namespace(settings),
            address: format!("{host}:{}", instance.internal_port),
            placement: Members {
                addresses,
                lookup: settings.mode == Mode::Kubernetes,
                expect: identity::control_plane(settings, security::PLACEMENT)?,
            },
            disseminate_timeout: settings.actors_disseminate_timeout,
            app: app.clone(),
            ask_config: settings.app.ask_config,
            state: state.clone(),
            peers,
            security: ground.security.clone(),
            policies: Arc::clone(&ground.policies),
            meter: ground.meter.clone(),
            clock: Arc::new(SystemClock),
            spawn: Arc::new(Contained(self.daemon.clone())),
            max_message: self.max_message(),
            connected: Box::new(move || {
                if let Some(found) = &found {
                    found.ready();
                }
            }),
        }))
    }

    /// What actors keep.
    pub(super) fn actor_state(&self, ground: &Ground, stores: &Stores) -> State {
        State::new(state::Options {
            app_id: self.settings.app.id.clone(),
            stores: stores.clone(),
            ttl: ground.configuration.spec.feature_enabled(STATE_TTL),
        })
    }

    /// What actors are reminded of.
    pub(super) fn reminders(&self, jobs: &jobs::Engine) -> Reminders {
        Reminders::new(reminders::Options {
            app_id: self.settings.app.id.clone(),
            namespace: identity::namespace(self.settings),
            scheduling: Arc::new(jobs.clone()),
        })
    }

    /// Follows the schedulers. The sidecar is ready once it knows them, where there are any.
    pub(super) fn follow_schedulers(&self, schedulers: jobs::Run, actors: &Engine) {
        let hosting = jobs::Hosting {
            reminders: Arc::new(actors.clone()),
            types: actors.types(),
        };
        let known = self.daemon.health().target("scheduler-watch-hosts");
        let run = schedulers.run(Some(hosting), move || known.ready(), self.daemon.shutdown());
        self.spawn("schedulers", run);
    }
}

/// Addresses without the quotes that shells and templates leave around them, and around nothing. Q-placement-quotes
fn addresses(given: &[String]) -> Vec<String> {
    let bare = |address: &String| {
        let bare = address.trim_matches(['"', '\'', ' ']);
        (!bare.is_empty()).then(|| bare.to_owned())
    };
    given.iter().filter_map(bare).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_around_nothing_are_nothing() {
        let given = ["''", "'      '", "'\"\"'", "\"\"", " ", "'a:1'", "b:1"];
        assert_eq!(addresses(&given.map(str::to_owned)), ["a:1", "b:1"]);
    }
}
