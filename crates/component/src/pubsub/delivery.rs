//! A received message and its acknowledgement.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;

use super::deliveries::Permit;
use crate::Result;

/// A received message.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// The topic it came on.
    pub topic: String,
    /// The bytes as published.
    pub data: Bytes,
    /// Content type, where the broker carries one.
    pub content_type: Option<String>,
    /// Metadata of the message.
    pub metadata: BTreeMap<String, String>,
}

impl Message {
    /// What the message weighs against a byte budget.
    pub fn size(&self) -> usize {
        let metadata = self.metadata.iter();
        let metadata: usize = metadata.map(|(key, value)| key.len() + value.len()).sum();
        self.topic.len() + self.data.len() + metadata
    }
}

/// What a subscriber says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done; never deliver it again.
    Ok,
    /// Deliver it again. Never said where the runtime delivers in place, see [`super::Redelivery`].
    Retry,
    /// Give it up; never deliver it again. The broker may dead-letter it.
    Drop,
}

/// How a broker settles a message.
#[async_trait]
pub trait Acknowledge: Send {
    /// Tells the broker.
    ///
    /// # Errors
    /// The broker's; the message may then be delivered again.
    async fn settle(self: Box<Self>, outcome: Outcome) -> Result<()>;

    /// Gives the message back without a word: it is delivered again, to this subscriber or another. It is neither counted
    /// as refused nor dead-lettered.
    fn release(self: Box<Self>);
}

/// The acknowledgement of one message, used once. Dropping it releases the message. Either way the message then leaves the
/// limits of its subscription.
pub struct Ack {
    acknowledge: Option<Box<dyn Acknowledge>>,
    pub(super) permit: Option<Permit>,
}

impl Ack {
    /// Wraps a broker's way to settle.
    pub fn new(acknowledge: impl Acknowledge + 'static) -> Self {
        Self {
            acknowledge: Some(Box::new(acknowledge)),
            permit: None,
        }
    }

    /// An acknowledgement nobody waits for: brokers without redelivery.
    pub fn none() -> Self {
        Self {
            acknowledge: None,
            permit: None,
        }
    }

    /// Tells the broker what became of the message.
    ///
    /// # Errors
    /// The broker's.
    pub async fn settle(mut self, outcome: Outcome) -> Result<()> {
        match self.acknowledge.take() {
            Some(acknowledge) => acknowledge.settle(outcome).await,
            None => Ok(()),
        }
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        if let Some(acknowledge) = self.acknowledge.take() {
            acknowledge.release();
        }
    }
}

/// A message with its acknowledgement.
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// Deliveries with the same key are handled in order: the next one begins when the outcome of the one before is final.
    /// Without a key they may overlap.
    pub order_key: Option<String>,
    /// Which delivery of this message it is, from 1, where the broker counts them; else 1.
    pub attempt: u32,
    /// Consumed once.
    pub ack: Ack,
}

impl Delivery {
    /// A first delivery, in no particular order.
    pub fn new(message: Message, ack: Ack) -> Self {
        Self {
            message,
            order_key: None,
            attempt: 1,
            ack,
        }
    }

    /// The same, in order with others of the key.
    #[must_use]
    pub fn in_order_of(mut self, key: impl Into<String>) -> Self {
        self.order_key = Some(key.into());
        self
    }
}
