//! The loaded stores and the subscriptions on them.

use std::{collections::BTreeMap, sync::Arc};

use app_channel::AppChannel;
use async_trait::async_trait;
use blocks::{
    Declared, Intake, Kind, LoadError, Loaded, Missing, Owner, Registry, Tasks,
    registry::{self, AnyRegistry, Called},
};
use component::{
    Configuration, Spawn,
    configuration::{Items, Request},
};
use parking_lot::Mutex;
use resiliency::ComponentKind;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Error,
    follow::{Followed, Follower},
    push::Push,
};

/// Most subscriptions of an app at a time: each may hold a connection of its store.
pub const MOST_SUBSCRIPTIONS: usize = 1000;

/// What a subscription is looked after for under the name of logs.
pub(crate) const LOG: &str = "dapr.runtime.configuration";

static CONFIGURATION: Kind<dyn Configuration> = Kind {
    prefix: "configuration.",
    calls: Some(Called {
        metrics: Some("configuration"),
        policies: ComponentKind::Configuration,
    }),
    family: |catalog| &catalog.configuration,
};

/// What the engine is made of.
pub struct Options {
    pub registry: registry::Options,
    pub app: AppChannel,
    /// What runs its tasks.
    pub spawn: Arc<dyn Spawn>,
}

/// Configuration stores. Clones share them.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

pub(crate) struct Inner {
    pub registry: Registry<dyn Configuration>,
    pub app: AppChannel,
    subscriptions: Mutex<BTreeMap<String, Subscription>>,
    /// Whether the app takes what is pushed to it.
    active: watch::Sender<bool>,
    tasks: Tasks,
    /// Ends with the sidecar.
    end: CancellationToken,
}

struct Subscription {
    store: String,
    end: CancellationToken,
}

/// Takes its subscription out when it is dropped.
pub(crate) struct Registration {
    inner: Arc<Inner>,
    pub id: String,
    pub end: CancellationToken,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.end.cancel();
        self.inner.subscriptions.lock().remove(&self.id);
    }
}

impl Engine {
    pub fn new(options: Options) -> Self {
        Self(Arc::new(Inner {
            registry: Registry::new(&CONFIGURATION, options.registry),
            app: options.app,
            subscriptions: Mutex::default(),
            active: watch::Sender::new(false),
            tasks: Tasks::new(options.spawn),
            end: CancellationToken::new(),
        }))
    }

    /// Fails where there is no store of that name.
    ///
    /// # Errors
    /// [`Error::NotConfigured`], [`Error::NotFound`].
    pub fn check(&self, store: &str) -> Result<(), Error> {
        self.0.find(store).map(drop)
    }

    /// Reads keys; none asks for all.
    ///
    /// # Errors
    /// As [`Engine::check`]; [`Error::Component`].
    pub async fn get(&self, store: &str, request: &Request) -> Result<Items, Error> {
        let loaded = self.0.find(store)?;
        let get = || loaded.get(request);
        Ok(self.0.registry.call(&loaded, "get", get).await?)
    }

    /// Follows keys for somebody who reads the changes, and ends when that is dropped.
    ///
    /// # Errors
    /// As [`Engine::check`]; [`Error::TooMany`], [`Error::Closed`], [`Error::Component`].
    pub async fn follow(&self, store: &str, request: Request) -> Result<Followed, Error> {
        Ok(Followed::new(self.open(store, request).await?))
    }

    /// Follows keys and tells the app of changes, until it is [ended](Engine::end). Answers the id.
    ///
    /// # Errors
    /// As [`Engine::follow`]; [`Error::NoApp`].
    pub async fn follow_for_app(&self, store: &str, request: Request) -> Result<String, Error> {
        self.check(store)?;
        if !self.0.app.is_configured() {
            return Err(Error::NoApp);
        }
        let follower = self.open(store, request).await?;
        let id = follower.id().to_owned();
        let push = Push::new(follower, self.0.active.subscribe());
        self.0.tasks.spawn(LOG, push.run());
        Ok(id)
    }

    /// Ends a subscription on a store, or on any.
    ///
    /// # Errors
    /// [`Error::NoSubscription`]; with a store as [`Engine::check`].
    pub async fn end(&self, store: Option<&str>, id: &str) -> Result<(), Error> {
        let end = || {
            let subscriptions = self.0.subscriptions.lock();
            let found = subscriptions.get(id);
            let found = found.filter(|it| store.is_none_or(|store| store == it.store));
            let missing = || Error::NoSubscription { id: id.to_owned() };
            found.map(|it| it.end.cancel()).ok_or_else(missing)
        };
        if let Some(store) = store {
            self.check(store)?;
        }
        end()
    }

    async fn open(&self, store: &str, request: Request) -> Result<Follower, Error> {
        let inner = &self.0;
        let loaded = inner.find(store)?;
        let registration = self.register(store)?;
        let subscribe = || loaded.subscribe(&request);
        let updates = inner.registry.call(&loaded, "subscribe", subscribe).await?;
        Ok(Follower::new(
            Arc::clone(inner),
            registration,
            store.to_owned(),
            request,
            updates,
        ))
    }

    fn register(&self, store: &str) -> Result<Registration, Error> {
        let mut subscriptions = self.0.subscriptions.lock();
        if self.0.end.is_cancelled() {
            return Err(Error::Closed);
        }
        if subscriptions.len() >= MOST_SUBSCRIPTIONS {
            let most = MOST_SUBSCRIPTIONS;
            return Err(Error::TooMany { most });
        }
        let id = Uuid::new_v4().to_string();
        let end = self.0.end.child_token();
        let subscription = Subscription {
            store: store.to_owned(),
            end: end.clone(),
        };
        subscriptions.insert(id.clone(), subscription);
        Ok(Registration {
            inner: Arc::clone(&self.0),
            id,
            end,
        })
    }
}

impl Inner {
    pub fn find(&self, store: &str) -> Result<Arc<Loaded<dyn Configuration>>, Error> {
        let found = self.registry.find(store);
        found.map_err(|missing| match missing {
            Missing::NotConfigured => Error::NotConfigured,
            Missing::NotFound => Error::NotFound {
                store: store.to_owned(),
            },
        })
    }
}

/// Streams go on whatever the app's health is: somebody reads them.
#[async_trait]
impl Intake for Engine {
    async fn start(&self) {
        self.0.active.send_replace(true);
    }

    async fn stop(&self) {
        self.0.active.send_replace(false);
    }

    async fn drain(&self) {
        self.0.end.cancel();
        self.0.tasks.ended().await;
    }
}

#[async_trait]
impl Owner for Engine {
    fn registry(&self) -> &dyn AnyRegistry {
        &self.0.registry
    }

    async fn apply(&self, declared: Declared) -> Result<(), LoadError> {
        let store = self.0.registry.open(&declared).await?;
        let listed = declared.listed(Vec::new());
        self.0.registry.replace(listed, store, ()).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
