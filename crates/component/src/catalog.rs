//! The catalog: which component types exist, and how each is opened. Filled by ordinary calls in one visible list.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc};

use crate::{
    Configuration, Error, ErrorKind, HttpMiddleware, InputBinding, Lock, NameResolver, Open,
    OutputBinding, PubSub, Result, SecretStore, StateStore,
};

/// The future of a constructor.
pub type Opening<T> = Pin<Box<dyn Future<Output = Result<Arc<T>>> + Send>>;

/// Every component type that this program knows.
#[derive(Default)]
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

/// All types of one kind.
pub struct Family<T: ?Sized> {
    /// Keys are `name/version`, lower case.
    constructors: BTreeMap<String, Arc<dyn Fn(Open) -> Opening<T> + Send + Sync>>,
}

impl<T: ?Sized> Default for Family<T> {
    fn default() -> Self {
        Self {
            constructors: BTreeMap::new(),
        }
    }
}

impl<T: ?Sized> Family<T> {
    /// Adds a type under one or more names (`redis`, or `local.env`), for one version (`v1`).
    pub fn add<F, Fut>(&mut self, names: &[&str], version: &str, open: F)
    where
        F: Fn(Open) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Arc<T>>> + Send + 'static,
    {
        let open: Arc<dyn Fn(Open) -> Opening<T> + Send + Sync> =
            Arc::new(move |arguments| Box::pin(open(arguments)));
        for name in names {
            self.constructors
                .insert(key(name, version), Arc::clone(&open));
        }
    }

    /// Whether a type is known.
    pub fn contains(&self, name: &str, version: &str) -> bool {
        self.constructors.contains_key(&key(name, version))
    }

    /// Opens a component of the type `name` (without the kind's prefix).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where the type or version is unknown; else what the constructor says.
    pub async fn open(&self, name: &str, version: &str, arguments: Open) -> Result<Arc<T>> {
        let Some(open) = self.constructors.get(&key(name, version)) else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("no component type {name}/{version} is built into this program"),
            ));
        };
        open(arguments).await
    }

    /// The known types as `name/version`, in order.
    pub fn types(&self) -> impl Iterator<Item = &str> {
        self.constructors.keys().map(String::as_str)
    }
}

/// Lookup ignores case; an absent version, `v0` and `v1` are the first version (contract 3.3, 14).
fn key(name: &str, version: &str) -> String {
    let version = match version.to_ascii_lowercase().as_str() {
        "" | "v0" | "v1" => "v1".to_owned(),
        other => other.to_owned(),
    };
    format!("{}/{version}", name.to_ascii_lowercase())
}
