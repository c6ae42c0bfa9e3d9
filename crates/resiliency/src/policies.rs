//! Which policy rules which target: named targets first, then default policies, most specific first (contract 10.1).

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use telemetry::Meter;

use crate::breaker;
use crate::builtin::Builtin;
use crate::compile::{
    Book, DEFAULT_ACTOR_BREAKERS, DEFAULT_APP_BREAKERS, Error, Names, Origin, Scope, Sourced,
};
use crate::metrics::{Direction, Instruments};
use crate::policy::{Covers, Policy, Retry, Rules};
use crate::target::{Target, Template, Unnamed};

/// The kinds of components that have policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ComponentKind {
    /// Input and output bindings.
    Binding,
    /// Configuration stores.
    Configuration,
    /// Lock stores.
    Lock,
    /// Publish and subscribe.
    Pubsub,
    /// Cryptography providers.
    Crypto,
    /// Conversation providers.
    Conversation,
    /// Secret stores.
    Secretstore,
    /// State stores.
    Statestore,
}

impl ComponentKind {
    const ALL: [Self; 8] = [
        Self::Binding,
        Self::Configuration,
        Self::Lock,
        Self::Pubsub,
        Self::Crypto,
        Self::Conversation,
        Self::Secretstore,
        Self::Statestore,
    ];

    /// The name inside default policies and metrics, e.g. `Statestore`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Binding => "Binding",
            Self::Configuration => "Configuration",
            Self::Lock => "Lock",
            Self::Pubsub => "Pubsub",
            Self::Crypto => "Crypto",
            Self::Conversation => "Conversation",
            Self::Secretstore => "Secretstore",
            Self::Statestore => "Statestore",
        }
    }
}

/// All policies of a sidecar. Immutable but for the state of the circuit breakers: a reload compiles new ones.
/// The default rules nothing but knows the built-in retries.
#[derive(Debug)]
pub struct Policies {
    apps: HashMap<String, Target>,
    other_apps: Option<Unnamed>,
    /// For apps without a policy.
    unreached_apps: Policy,
    actors: HashMap<String, ActorTarget>,
    other_actors: Option<Unnamed>,
    other_actor_turns: Option<Unnamed>,
    components: HashMap<String, ComponentTarget>,
    /// By kind, then inbound and outbound.
    other_components: [[Option<Unnamed>; 2]; ComponentKind::ALL.len()],
    builtins: [Policy; 5],
}

#[derive(Debug)]
struct ActorTarget {
    scope: Scope,
    call: Target,
    turn: Target,
}

/// A component's rules, inbound and outbound.
#[derive(Debug)]
struct ComponentTarget {
    sides: [Side; 2],
}

#[derive(Debug)]
struct Side {
    template: Template,
    /// Made by the first call, which knows the kind that metrics show.
    target: OnceLock<Target>,
}

impl Default for Policies {
    fn default() -> Self {
        Linker {
            book: Book::default(),
            instruments: None,
        }
        .link()
    }
}

impl Policies {
    /// Compiles the resources that are in the app's scope, later ones over earlier ones.
    ///
    /// # Errors
    /// The first [`Error`], which names resource, entry and field.
    pub fn compile(resources: &[crds::Resiliency], meter: Meter) -> Result<Arc<Self>, Error> {
        let (policies, mut errors) = Self::load(resources, meter);
        if errors.is_empty() {
            Ok(policies)
        } else {
            Err(errors.swap_remove(0))
        }
    }

    /// Like [`Policies::compile`], but leaves a bad resource out, whole, and says why. Q-resiliency-whole
    pub fn load(resources: &[crds::Resiliency], meter: Meter) -> (Arc<Self>, Vec<Error>) {
        let instruments = Instruments::new(&meter);
        let mut book = Book::default();
        let mut errors = Vec::new();
        for resource in resources {
            match book.add(resource) {
                Ok(origin) => {
                    tracing::info!("Resiliency {} is loaded", origin.name);
                    instruments.loaded(&origin.name, &origin.namespace);
                }
                Err(error) => errors.push(error),
            }
        }
        let linker = Linker {
            book,
            instruments: Some(instruments),
        };
        (Arc::new(linker.link()), errors)
    }

    /// The policy of calls to an endpoint of an app, e.g. `app:method`; each endpoint has its own circuit breaker. An app
    /// that no resource names has the default policies. Where those retry nothing, calls that do not get through fall under
    /// [`Builtin::ServiceRetries`]. Q-resiliency-default-retries
    pub fn app_endpoint(&self, app_id: &str, endpoint: &str) -> Policy {
        if let Some(target) = self.apps.get(app_id) {
            return target.policy(endpoint);
        }
        match &self.other_apps {
            Some(unnamed) => unnamed.target(app_id).policy(endpoint),
            None => self.unreached_apps.clone(),
        }
    }

    /// The policy of calls to an actor before its lock is taken: retries and circuit breaker.
    pub fn actor(&self, actor_type: &str, actor_id: &str) -> Policy {
        if let Some(target) = self.actors.get(actor_type) {
            return match target.scope {
                Scope::Type => target.call.policy(actor_type),
                Scope::Id => target.call.policy(&format!("{actor_type}-{actor_id}")),
            };
        }
        match &self.other_actors {
            Some(unnamed) => unnamed.target(actor_type).policy(actor_type),
            None => Policy::default(),
        }
    }

    /// The policy of a turn of an actor, under its lock: the timeout.
    pub fn actor_turn(&self, actor_type: &str) -> Policy {
        if let Some(target) = self.actors.get(actor_type) {
            return target.turn.policy(actor_type);
        }
        match &self.other_actor_turns {
            Some(unnamed) => unnamed.target(actor_type).policy(actor_type),
            None => Policy::default(),
        }
    }

    /// The policy of calls from the sidecar to a component.
    pub fn component_outbound(&self, name: &str, kind: ComponentKind) -> Policy {
        self.component(name, kind, OUTBOUND)
    }

    /// The policy of deliveries from a component to the app.
    pub fn component_inbound(&self, name: &str, kind: ComponentKind) -> Policy {
        self.component(name, kind, INBOUND)
    }

    fn component(&self, name: &str, kind: ComponentKind, side: usize) -> Policy {
        if let Some(target) = self.components.get(name) {
            let side = &target.sides[side];
            if side.template.is_empty() {
                return Policy::default();
            }
            let label = || format!("{}_{name}", kind.name());
            return side
                .target
                .get_or_init(|| Target::new(label(), side.template.clone()))
                .policy(name);
        }
        match &self.other_components[kind as usize][side] {
            Some(unnamed) => unnamed.target(name).policy(name),
            None => Policy::default(),
        }
    }

    /// A retry Dapr makes on its own account.
    pub fn builtin(&self, builtin: Builtin) -> Policy {
        self.builtins[builtin as usize].clone()
    }

    /// Whether a resource names the app.
    pub fn names_app(&self, app_id: &str) -> bool {
        self.apps.contains_key(app_id)
    }

    /// Whether a resource names the actor type; if not, transport failures fall under [`Builtin::ActorRetries`].
    pub fn names_actor(&self, actor_type: &str) -> bool {
        self.actors.contains_key(actor_type)
    }

    /// Whether a resource names the component.
    pub fn names_component(&self, name: &str) -> bool {
        self.components.contains_key(name)
    }
}

const INBOUND: usize = 0;
const OUTBOUND: usize = 1;
const DIRECTIONS: [Direction; 2] = [Direction::Inbound, Direction::Outbound];

/// Puts targets and policies together, once all resources are read.
struct Linker {
    book: Book,
    instruments: Option<Arc<Instruments>>,
}

impl Linker {
    fn link(mut self) -> Policies {
        let builtins = Builtin::ALL.map(|builtin| self.builtin(builtin));
        let apps = std::mem::take(&mut self.book.apps)
            .into_iter()
            .map(|(name, target)| {
                let (names, breakers) = &target.value;
                let template = self.named(&name, &target, names, Direction::Outbound, *breakers);
                let target = Target::new(format!("app_{name}"), template);
                (name, target)
            })
            .collect();
        let actors = std::mem::take(&mut self.book.actors)
            .into_iter()
            .map(|(name, target)| {
                let target = self.actor(&name, &target);
                (name, target)
            })
            .collect();
        let components = std::mem::take(&mut self.book.components)
            .into_iter()
            .map(|(name, target)| {
                let target = self.component(&name, &target);
                (name, target)
            })
            .collect();
        let app = self.default_for(&["App"], Direction::Outbound, DEFAULT_APP_BREAKERS);
        let builtin = self.builtin_rules(Builtin::ServiceRetries, Covers::Unreached);
        let app = if app.is_empty() || app.retry.is_some() {
            app
        } else {
            Template {
                retry: builtin.retry.clone(),
                covers: builtin.covers,
                ..app
            }
        };
        let actor = self.default_for(&["Actor"], Direction::Outbound, DEFAULT_ACTOR_BREAKERS);
        let (call, turn) = before_and_under_lock(actor);
        Policies {
            apps,
            other_apps: Unnamed::new("app", app),
            unreached_apps: Policy::new(builtin),
            actors,
            other_actors: Unnamed::new("actor", call),
            other_actor_turns: Unnamed::new("actor", turn),
            components,
            other_components: ComponentKind::ALL
                .map(|kind| [INBOUND, OUTBOUND].map(|side| self.default_component(kind, side))),
            builtins,
        }
    }

    fn builtin(&self, builtin: Builtin) -> Policy {
        Policy::new(self.builtin_rules(builtin, Covers::Failures))
    }

    fn builtin_rules(&self, builtin: Builtin, covers: Covers) -> Rules {
        let name = builtin.name();
        let retry = self.book.retries.get(name).map_or_else(
            || Arc::new(builtin.retry()),
            |retry| Arc::clone(&retry.value),
        );
        Rules {
            name: name.to_owned(),
            timeout: None,
            retry: Some(retry),
            covers,
            breaker: None,
            reporter: None,
        }
    }

    fn actor(&self, name: &str, target: &Sourced<(Names, Scope, usize)>) -> ActorTarget {
        let (names, scope, breakers) = &target.value;
        let template = self.named(name, target, names, Direction::Outbound, *breakers);
        let (call, turn) = before_and_under_lock(template);
        ActorTarget {
            scope: *scope,
            call: Target::new(format!("actor_{name}"), call),
            turn: Target::new(format!("actor_{name}"), turn),
        }
    }

    fn component(&self, name: &str, target: &Sourced<[Names; 2]>) -> ComponentTarget {
        let sides = [INBOUND, OUTBOUND].map(|side| Side {
            template: self.named(name, target, &target.value[side], DIRECTIONS[side], 1),
            target: OnceLock::new(),
        });
        ComponentTarget { sides }
    }

    fn default_component(&self, kind: ComponentKind, side: usize) -> Option<Unnamed> {
        let side_name = if side == INBOUND {
            "Inbound"
        } else {
            "Outbound"
        };
        let levels = [
            format!("{}Component{side_name}", kind.name()),
            format!("Component{side_name}"),
            "Component".to_owned(),
        ];
        let levels = levels.each_ref().map(String::as_str);
        Unnamed::new(kind.name(), self.default_for(&levels, DIRECTIONS[side], 1))
    }

    /// The rules of a target that a resource names. A policy that no resource has is no rule.
    fn named<T>(
        &self,
        target: &str,
        from: &Sourced<T>,
        names: &Names,
        direction: Direction,
        breakers: usize,
    ) -> Template {
        let missing = |kind: &str, name: &Option<String>, found: bool| {
            if let Some(policy) = name
                && !found
            {
                tracing::warn!(resource = %from.origin.name, %target, %policy, "target refers to a {kind} policy that does not exist");
            }
        };
        let timeout = names
            .timeout
            .as_ref()
            .and_then(|name| self.book.timeouts.get(name));
        missing("timeout", &names.timeout, timeout.is_some());
        let retry = names.retry.as_ref().and_then(|name| self.retry(name));
        missing("retry", &names.retry, retry.is_some());
        let breaker = names
            .breaker
            .as_ref()
            .and_then(|name| self.book.breakers.get(name));
        missing("circuit breaker", &names.breaker, breaker.is_some());
        Template {
            timeout: timeout.and_then(|timeout| timeout.value),
            retry,
            covers: Covers::Failures,
            breaker: breaker.map(|breaker| breaker.value.clone()),
            origin: from.origin.clone(),
            direction,
            breakers,
            instruments: self.instruments.clone(),
        }
    }

    /// A retry by name; a target may also name a built-in one.
    fn retry(&self, name: &str) -> Option<Arc<Retry>> {
        self.book.retries.get(name).map_or_else(
            || Builtin::named(name).map(|builtin| Arc::new(builtin.retry())),
            |retry| Some(Arc::clone(&retry.value)),
        )
    }

    /// The rules of targets that no resource names: for each of timeout, retry and circuit breaker, the first
    /// default policy along `levels` that exists, and last the one for everything.
    fn default_for(&self, levels: &[&str], direction: Direction, breakers: usize) -> Template {
        let timeout: Option<&Sourced<Option<Duration>>> =
            first(&self.book.timeouts, levels, "TimeoutPolicy");
        let retry: Option<&Sourced<Arc<Retry>>> = first(&self.book.retries, levels, "RetryPolicy");
        let breaker: Option<&Sourced<breaker::Settings>> =
            first(&self.book.breakers, levels, "CircuitBreakerPolicy");
        let origin = timeout
            .map(|it| &it.origin)
            .or(retry.map(|it| &it.origin))
            .or(breaker.map(|it| &it.origin))
            .cloned()
            .unwrap_or_else(|| Origin {
                name: Arc::from(""),
                namespace: Arc::from(""),
            });
        Template {
            timeout: timeout.and_then(|timeout| timeout.value),
            retry: retry.map(|retry| Arc::clone(&retry.value)),
            covers: Covers::Failures,
            breaker: breaker.map(|breaker| breaker.value.clone()),
            origin,
            direction,
            breakers,
            instruments: self.instruments.clone(),
        }
    }
}

/// Waiting for an actor's lock may take any time, so the timeout applies only once the lock is held.
fn before_and_under_lock(template: Template) -> (Template, Template) {
    let turn = Template {
        retry: None,
        breaker: None,
        ..template.clone()
    };
    let call = Template {
        timeout: None,
        ..template
    };
    (call, turn)
}

fn first<'a, T>(policies: &'a HashMap<String, T>, levels: &[&str], suffix: &str) -> Option<&'a T> {
    levels
        .iter()
        .chain(&[""])
        .find_map(|level| policies.get(&format!("Default{level}{suffix}")))
}
