//! Bindings: output bindings are called, input bindings call. A type such as `bindings.rabbitmq` may be both.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{Component, Result};

/// Asks an output binding for one of its operations.
#[derive(Clone, Debug, Default)]
pub struct InvokeRequest {
    /// The operation, such as `create`.
    pub operation: String,
    /// The bytes to work on.
    pub data: Bytes,
    /// Request metadata.
    pub metadata: BTreeMap<String, String>,
}

/// What an operation gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InvokeResponse {
    /// The bytes of the answer; nothing where the operation gives none.
    pub data: Option<Bytes>,
    /// Metadata for the caller, such as `statusCode`.
    pub metadata: BTreeMap<String, String>,
}

/// Something outside that is called.
#[async_trait]
pub trait OutputBinding: Component {
    /// The operations it knows, in the order in which error messages list them.
    fn operations(&self) -> Vec<String>;

    /// Runs an operation.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidRequest`] where the operation or its input is wrong; else the backend's, with
    /// [`crate::Error::metadata`] where there is something to tell the caller all the same.
    async fn invoke(&self, request: &InvokeRequest) -> Result<InvokeResponse>;
}

/// Something outside that calls: a timer, a queue.
#[async_trait]
pub trait InputBinding: Component {
    /// Starts taking events; dropping [`Events`] stops it.
    ///
    /// # Errors
    /// Where it cannot be started at all; later failures are retried inside the component.
    async fn read(&self) -> Result<Events>;
}

/// How an input binding settles an event.
#[async_trait]
pub trait Settle: Send + Sync {
    /// Tells the source what the app said: its answer, or that it failed and the event is to come again.
    ///
    /// # Errors
    /// The source's.
    async fn settle(self: Box<Self>, answer: std::result::Result<Bytes, String>) -> Result<()>;

    /// Gives the event back without a word: it comes again where the source can send it again.
    fn release(self: Box<Self>);
}

/// An event of an input binding. Dropped unsettled, it is given back.
pub struct Event {
    /// The bytes of the event.
    pub data: Bytes,
    /// Content type of `data`, where the source knows it.
    pub content_type: Option<String>,
    /// Metadata for the app.
    pub metadata: BTreeMap<String, String>,
    settle: Option<Box<dyn Settle>>,
}

impl Event {
    /// An event that its source wants to hear about.
    pub fn new(
        data: impl Into<Bytes>,
        metadata: BTreeMap<String, String>,
        settle: impl Settle + 'static,
    ) -> Self {
        let mut event = Self::unsettled(data, metadata);
        event.settle = Some(Box::new(settle));
        event
    }

    /// An event that nobody waits for: a tick of a clock.
    pub fn unsettled(data: impl Into<Bytes>, metadata: BTreeMap<String, String>) -> Self {
        Self {
            data: data.into(),
            content_type: None,
            metadata,
            settle: None,
        }
    }

    /// Tells the source what the app said.
    ///
    /// # Errors
    /// The source's.
    pub async fn settle(mut self, answer: std::result::Result<Bytes, String>) -> Result<()> {
        match self.settle.take() {
            Some(settle) => settle.settle(answer).await,
            None => Ok(()),
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if let Some(settle) = self.settle.take() {
            settle.release();
        }
    }
}

/// The receiving end of an input binding. Dropping it stops the binding.
pub struct Events(mpsc::Receiver<Event>);

/// The source's end of an input binding.
#[derive(Clone)]
pub struct EventSender(mpsc::Sender<Event>);

/// A bounded stream: at most `capacity` events wait between source and runtime.
pub fn events(capacity: usize) -> (EventSender, Events) {
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    (EventSender(sender), Events(receiver))
}

impl Events {
    /// The next event; nothing once the source has ended.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

impl EventSender {
    /// Hands an event over, waiting for room; `false` once nobody takes events any more, and the event is given back.
    pub async fn send(&self, event: Event) -> bool {
        self.0.send(event).await.is_ok()
    }

    /// Until nobody takes events any more.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}
