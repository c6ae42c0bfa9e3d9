//! Configuration stores: keys and values that apps read, and are told of when they change.

use std::collections::BTreeMap;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::{Component, Result};

/// A value of a configuration store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// The value.
    pub value: String,
    /// Its version, where the store has one.
    pub version: String,
    /// Metadata for the caller.
    pub metadata: BTreeMap<String, String>,
}

/// Items by key.
pub type Items = BTreeMap<String, Item>;

/// Asks for keys, once or until it is dropped.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The keys; none asks for all.
    pub keys: Vec<String>,
    /// Request metadata.
    pub metadata: BTreeMap<String, String>,
}

/// A configuration store.
#[async_trait]
pub trait Configuration: Component {
    /// Reads keys; one that is absent is left out.
    ///
    /// # Errors
    /// The backend's.
    async fn get(&self, request: &Request) -> Result<Items>;

    /// Follows keys: what changes after this call has returned is sent. Dropping [`Updates`] ends it.
    ///
    /// # Errors
    /// Where it cannot be followed at all; later failures are retried inside the component.
    async fn subscribe(&self, request: &Request) -> Result<Updates>;
}

/// The receiving end of a followed configuration. Dropping it ends the subscription.
pub struct Updates(mpsc::Receiver<Items>);

/// The store's end of a followed configuration.
#[derive(Clone)]
pub struct UpdateSender(mpsc::Sender<Items>);

/// Room for a change, until it is used or dropped.
pub struct Room<'a>(mpsc::Permit<'a, Items>);

impl Room<'_> {
    /// Hands the change over.
    pub fn send(self, items: Items) {
        self.0.send(items);
    }
}

/// A bounded stream: at most `capacity` updates wait between store and runtime.
pub fn updates(capacity: usize) -> (UpdateSender, Updates) {
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    (UpdateSender(sender), Updates(receiver))
}

impl Updates {
    /// The next change; nothing once the store has ended the subscription.
    pub async fn next(&mut self) -> Option<Items> {
        self.0.recv().await
    }
}

impl UpdateSender {
    /// Hands a change over, waiting for room; `false` once nobody follows any more.
    pub async fn send(&self, items: Items) -> bool {
        self.0.send(items).await.is_ok()
    }

    /// Waits for room without a change to hand over yet, for stores that read what has changed once there is; nothing once
    /// nobody follows any more.
    pub async fn ready(&self) -> Option<Room<'_>> {
        self.0.reserve().await.ok().map(Room)
    }

    /// Until nobody follows any more.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}
