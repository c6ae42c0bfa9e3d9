//! One subscription: what its store tells, through every component that has the store's name in turn.

use std::{sync::Arc, time::Duration};

use component::configuration::{Items, Request, Updates};
use tokio::time::sleep;
use values::Pauses;

use crate::engine::{Inner, LOG, Registration};

/// Pauses after failures, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A subscription for somebody who reads it. Dropping it ends it.
pub struct Followed(Follower);

impl Followed {
    pub(crate) fn new(follower: Follower) -> Self {
        Self(follower)
    }

    /// What it is called.
    pub fn id(&self) -> &str {
        self.0.id()
    }

    /// The next change; nothing once it has been ended.
    pub async fn next(&mut self) -> Option<Items> {
        self.0.next().await
    }
}

pub(crate) struct Follower {
    inner: Arc<Inner>,
    registration: Registration,
    store: String,
    request: Request,
    /// Nothing once the component has ended it.
    updates: Option<Updates>,
}

impl Follower {
    pub fn new(
        inner: Arc<Inner>,
        registration: Registration,
        store: String,
        request: Request,
        updates: Updates,
    ) -> Self {
        Self {
            inner,
            registration,
            store,
            request,
            updates: Some(updates),
        }
    }

    pub fn id(&self) -> &str {
        &self.registration.id
    }

    pub fn store(&self) -> &str {
        &self.store
    }

    pub fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Whether it has been ended.
    pub fn has_ended(&self) -> bool {
        self.registration.end.is_cancelled()
    }

    /// Until it is ended.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        self.registration.end.clone().cancelled_owned()
    }

    /// The next change; nothing once it has been ended. It may be dropped and called again.
    pub async fn next(&mut self) -> Option<Items> {
        let end = self.registration.end.clone();
        end.run_until_cancelled(self.advance()).await
    }

    async fn advance(&mut self) -> Items {
        loop {
            if let Some(updates) = &mut self.updates {
                if let Some(items) = updates.next().await {
                    return items;
                }
                self.updates = None;
                tracing::debug!(
                    target: LOG,
                    "configuration store {} has ended subscription {}: it is opened anew",
                    self.store,
                    self.id()
                );
            }
            if let Some(items) = self.reopen().await {
                return items;
            }
        }
    }

    /// Subscribes with whichever component has the name now. What may have changed meanwhile is told.
    async fn reopen(&mut self) -> Option<Items> {
        let mut changes = self.inner.registry.changes();
        let mut pauses = Pauses::doubling(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            match self.attempt().await {
                Ok((updates, items)) => {
                    self.updates = Some(updates);
                    return Some(items).filter(|items| !items.is_empty());
                }
                Err(problem) => tracing::warn!(
                    target: LOG,
                    "subscription {} is not open on configuration store {}: {problem}",
                    self.id(),
                    self.store
                ),
            }
            tokio::select! {
                _ = changes.changed() => pauses.reset(),
                () = sleep(pauses.pause()) => {}
            }
        }
    }

    async fn attempt(&self) -> Result<(Updates, Items), crate::Error> {
        let loaded = self.inner.find(&self.store)?;
        let registry = &self.inner.registry;
        let subscribe = || loaded.subscribe(&self.request);
        let updates = registry.call(&loaded, "subscribe", subscribe).await?;
        let get = || loaded.get(&self.request);
        let items = registry.call(&loaded, "get", get).await?;
        Ok((updates, items))
    }
}
