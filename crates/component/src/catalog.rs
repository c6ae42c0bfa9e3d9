//! The catalog: which component types exist, what each can do and is configured with, and how it is opened. Filled by
//! ordinary calls in one visible list. What is asked of it without opening anything is also what tools and documents show.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc};

use crate::{
    Configuration, Error, ErrorKind, HttpMiddleware, InputBinding, Lock, NameResolver, Open,
    OutputBinding, PubSub, Result, SecretStore, StateStore,
    capabilities::{Capability, Set},
    fields::Fields,
};

/// The future of a constructor.
pub type Opening<T> = Pin<Box<dyn Future<Output = Result<Arc<T>>> + Send>>;

/// The version of a type that has only one.
pub const FIRST_VERSION: &str = "v1";

/// Every component type that this program knows.
pub struct Catalog {
    /// `state.*`
    pub state: Family<dyn StateStore>,
    /// `pubsub.*`
    pub pubsub: Family<dyn PubSub>,
    /// `bindings.*` that call; a type may stand here and below.
    pub input_bindings: Family<dyn InputBinding>,
    /// `bindings.*` that are called.
    pub output_bindings: Family<dyn OutputBinding>,
    /// `configuration.*`
    pub configuration: Family<dyn Configuration>,
    /// `lock.*`
    pub lock: Family<dyn Lock>,
    /// `secretstores.*`
    pub secrets: Family<dyn SecretStore>,
    /// Name resolvers, which have no prefix in a Configuration.
    pub names: Family<dyn NameResolver>,
    /// `middleware.http.*`
    pub middleware: Family<dyn HttpMiddleware>,
}

impl Default for Catalog {
    fn default() -> Self {
        Self {
            state: Family::new("state"),
            pubsub: Family::new("pubsub"),
            input_bindings: Family::new("bindings"),
            output_bindings: Family::new("bindings"),
            configuration: Family::new("configuration"),
            lock: Family::new("lock"),
            secrets: Family::new("secretstores"),
            names: Family::new("nameresolution"),
            middleware: Family::new("middleware.http"),
        }
    }
}

impl Catalog {
    /// What is known of every type, kind by kind.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        // Every field, so that none is forgotten here.
        let Self {
            state,
            pubsub,
            input_bindings,
            output_bindings,
            configuration,
            lock,
            secrets,
            names,
            middleware,
        } = self;
        let all = state.entries().chain(pubsub.entries());
        let all = all
            .chain(input_bindings.entries())
            .chain(output_bindings.entries());
        let all = all.chain(configuration.entries()).chain(lock.entries());
        let all = all.chain(secrets.entries()).chain(names.entries());
        all.chain(middleware.entries())
    }
}

/// A type, as a family of components brings it: everything but the constructor.
#[derive(Clone, Debug)]
pub struct Registration {
    family: &'static str,
    names: Vec<String>,
    version: &'static str,
    capabilities: Option<Vec<&'static str>>,
    fields: Fields,
}

impl Registration {
    /// The type `name` without the prefix of its kind (`redis`, `local.env`), brought by a family.
    pub fn new(family: &'static str, name: &str, fields: Fields) -> Self {
        Self {
            family,
            names: vec![name.to_owned()],
            version: FIRST_VERSION,
            capabilities: None,
            fields,
        }
    }

    /// Another name for the same.
    #[must_use]
    pub fn alias(mut self, name: &str) -> Self {
        self.names.push(name.to_owned());
        self
    }

    /// Another version than the first.
    #[must_use]
    pub fn version(mut self, version: &'static str) -> Self {
        self.version = version;
        self
    }

    /// What every component of the type can do, where that is known before one is opened.
    #[must_use]
    pub fn capabilities<C: Capability>(mut self, capabilities: impl Into<Set<C>>) -> Self {
        self.capabilities = Some(capabilities.into().names().collect());
        self
    }
}

/// What is known of a type without opening a component.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The prefix of its kind: `state`, `middleware.http`.
    pub kind: &'static str,
    /// Its name without the prefix, and others for the same.
    pub names: Vec<String>,
    /// Its version.
    pub version: &'static str,
    /// The family that brings it.
    pub family: &'static str,
    /// What its components can do, as the metadata API names it; nothing where that turns out when one is opened.
    pub capabilities: Option<Vec<&'static str>>,
    /// What its components are configured with.
    pub fields: Fields,
}

impl Entry {
    /// The full type: `state.redis`.
    pub fn full_type(&self) -> String {
        format!("{}.{}", self.kind, self.names[0])
    }
}

/// A type that is there already. The one that came first stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("component type {component_type}/{version} of {refused} is brought by {family} already")]
pub struct Taken {
    /// The full type.
    pub component_type: String,
    /// Its version.
    pub version: String,
    /// The family that was first.
    pub family: &'static str,
    /// The family that came too late.
    pub refused: &'static str,
}

type Constructor<T> = Box<dyn Fn(Open) -> Opening<T> + Send + Sync>;

/// All types of one kind.
pub struct Family<T: ?Sized> {
    kind: &'static str,
    types: Vec<(Entry, Constructor<T>)>,
    /// Where a type stands in the list, by [`key`].
    by_key: BTreeMap<String, usize>,
}

impl<T: ?Sized> Family<T> {
    fn new(kind: &'static str) -> Self {
        Self {
            kind,
            types: Vec::new(),
            by_key: BTreeMap::new(),
        }
    }

    /// Adds a type.
    ///
    /// # Errors
    /// Where one of its names is taken in this version; nothing is added then.
    pub fn add<F, Fut>(&mut self, registration: Registration, open: F) -> Result<(), Taken>
    where
        F: Fn(Open) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Arc<T>>> + Send + 'static,
    {
        let Registration {
            family,
            names,
            version,
            capabilities,
            fields,
        } = registration;
        for name in &names {
            if let Some((taken, _)) = self.find(name, version) {
                return Err(Taken {
                    component_type: format!("{}.{name}", self.kind),
                    version: version.to_owned(),
                    family: taken.family,
                    refused: family,
                });
            }
        }
        let index = self.types.len();
        let keys = names.iter().map(|name| (key(name, version), index));
        self.by_key.extend(keys);
        let entry = Entry {
            kind: self.kind,
            names,
            version,
            family,
            capabilities,
            fields,
        };
        let open: Constructor<T> = Box::new(move |arguments| Box::pin(open(arguments)));
        self.types.push((entry, open));
        Ok(())
    }

    /// Whether a type is known.
    pub fn contains(&self, name: &str, version: &str) -> bool {
        self.find(name, version).is_some()
    }

    /// Opens a component of the type `name` (without the kind's prefix). What is odd about its metadata is logged.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where the type or version is unknown; else what the constructor says.
    pub async fn open(&self, name: &str, version: &str, arguments: Open) -> Result<Arc<T>> {
        let Some((entry, open)) = self.find(name, version) else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("no component type {name}/{version} is built into this program"),
            ));
        };
        for warning in entry.fields.warnings(&arguments.metadata) {
            let component = &arguments.name;
            tracing::warn!(target: "dapr.contrib", "component {component}: {warning}");
        }
        open(arguments).await
    }

    /// What is known of the types, in the order in which they were added.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.types.iter().map(|(entry, _)| entry)
    }

    fn find(&self, name: &str, version: &str) -> Option<&(Entry, Constructor<T>)> {
        let index = self.by_key.get(&key(name, version))?;
        self.types.get(*index)
    }
}

/// What a type and version are looked up by: case does not matter; an absent version, `v0` and `v1` are the first version
/// (contract 3.3, 14).
pub fn key(name: &str, version: &str) -> String {
    let version = match version.to_ascii_lowercase().as_str() {
        "" | "v0" => FIRST_VERSION.to_owned(),
        other => other.to_owned(),
    };
    format!("{}/{version}", name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state;

    fn redis(family: &'static str) -> Registration {
        Registration::new(family, "redis", Fields::default())
            .alias("keydb")
            .capabilities([state::Capability::Ttl, state::Capability::Etag])
    }

    async fn nowhere<T: ?Sized>(_: Open) -> Result<Arc<T>> {
        Err(Error::unsupported("opening"))
    }

    #[test]
    fn what_came_first_stays() {
        let mut catalog = Catalog::default();
        catalog.state.add(redis("one"), nowhere).unwrap();
        catalog.pubsub.add(redis("one"), nowhere).unwrap();
        let second = Registration::new("two", "valkey", Fields::default()).alias("KeyDB");
        let error = catalog.state.add(second, nowhere).unwrap_err();
        assert_eq!(
            error.to_string(),
            "component type state.KeyDB/v1 of two is brought by one already"
        );
        assert!(!catalog.state.contains("valkey", "v1"), "nothing is added");
        let other = redis("two").version("v2");
        catalog.state.add(other, nowhere).unwrap();
        assert_eq!(catalog.entries().count(), 3);
    }

    #[test]
    fn types_are_known_without_opening_them() {
        let mut catalog = Catalog::default();
        catalog.state.add(redis("one"), nowhere).unwrap();
        for (name, version) in [("Redis", ""), ("keydb", "v0"), ("redis", "V1")] {
            assert!(catalog.state.contains(name, version), "{name} {version}");
        }
        assert!(!catalog.state.contains("redis", "v2"));
        let entry = catalog.entries().next().unwrap();
        assert_eq!((&*entry.full_type(), entry.family), ("state.redis", "one"));
        let names: &[&str] = &["ETAG", "TTL"];
        assert_eq!(entry.capabilities.as_deref(), Some(names));
    }
}
