//! The way of one message from broker to app: delivered until its outcome is final, settled once, dead-lettered where it
//! cannot be delivered.

mod attempt;

use std::{sync::Arc, time::Duration};

use component::pubsub::{Ack, Delivery, Limits, Message, Outcome, PublishRequest, Redelivery};
use http::header;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    brokers::Broker,
    core::{Core, LOG},
    metrics::Process,
    outbox::Turns,
    request::PUBSUB_NAME,
    stream::Session,
    subscription::Subscription,
};

pub use attempt::trace_headers;

/// A subscription with its broker and who takes its events, as deliveries see it.
#[derive(Clone)]
pub struct Subscriber {
    pub core: Arc<Core>,
    pub broker: Arc<Broker>,
    pub subscription: Arc<Subscription>,
    pub target: Target,
    pub mode: watch::Receiver<Mode>,
    /// Cancelled once nobody is to come back to the subscription.
    pub withdrawn: CancellationToken,
    pub opening: Opening,
}

/// What belongs to one time that a subscription is open.
#[derive(Clone, Default)]
pub struct Opening {
    /// Cancelled once the broker has ended it.
    pub over: CancellationToken,
    /// Of the events of an outbox.
    pub turns: Arc<Turns>,
}

/// The order keys of messages that were given back.
pub type GivenBack = Vec<String>;

/// Who takes the events.
#[derive(Clone)]
pub enum Target {
    App,
    Stream(Arc<Session>),
    /// The topic that the stores with an outbox publish to: see [`Subscriber::relay`].
    Outbox,
}

/// What an open subscription is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    Run,
    /// Deliver what the broker has handed over, then end. Where messages wait for one another and come again in their order,
    /// only what is being delivered is: the rest could take as long as it likes.
    Drain,
    /// Finish what is being delivered, give back the rest, end.
    Leave,
    /// Give back everything, end.
    Abandon,
}

/// What comes of a message that is wanted failure.
#[derive(Debug)]
pub enum Retry {
    /// It is delivered again here.
    Again,
    /// The subscription ends: it goes back to the broker without a word.
    GiveBack,
    /// The broker is told.
    Settle(Outcome),
}

impl Subscriber {
    pub fn pubsub(&self) -> &str {
        &self.broker.listed.name
    }

    /// The same, for a time that it is open within these limits.
    pub fn opened(&self, limits: Limits) -> Self {
        let opening = Opening {
            over: CancellationToken::new(),
            turns: Arc::new(Turns::new(limits)),
        };
        Self {
            opening,
            ..self.clone()
        }
    }

    /// Whether nobody is to come back to the subscription.
    pub fn is_withdrawn(&self) -> bool {
        self.withdrawn.is_cancelled()
    }

    /// Whether the subscription is ending: what fails now is given back, neither refused nor dead-lettered.
    pub fn is_ending(&self) -> bool {
        let closed = matches!(&self.target, Target::Stream(session) if session.is_closed());
        closed || self.opening.over.is_cancelled() || *self.mode.borrow() >= Mode::Drain
    }

    /// Delivers one message until its outcome is final, and settles it; without an outcome it goes back to the broker.
    pub async fn handle(&self, delivery: Delivery, redelivery: Redelivery) -> GivenBack {
        let Delivery {
            mut message,
            mut attempt,
            ack,
            order_key,
        } = delivery;
        let given_back = || order_key.into_iter().collect();
        self.label(&mut message);
        let outcome = loop {
            let Some(outcome) = self.outcome(&message).await else {
                return given_back();
            };
            if outcome != Outcome::Retry {
                break outcome;
            }
            match self.retry(&message.topic, redelivery, attempt).await {
                Retry::Again => attempt = attempt.saturating_add(1),
                Retry::GiveBack => return given_back(),
                Retry::Settle(outcome) => break outcome,
            }
        };
        settle(ack, outcome, &message.topic).await;
        GivenBack::new()
    }

    /// What comes of a message, or the rest of a batch, that is wanted again: waits for as long as the broker does not.
    pub async fn retry(&self, topic: &str, redelivery: Redelivery, attempt: u32) -> Retry {
        match redelivery {
            Redelivery::Never => {
                tracing::warn!(target: LOG, "a message of topic {topic} is lost: pubsub {} delivers nothing again", self.pubsub());
                Retry::Settle(Outcome::Retry)
            }
            Redelivery::Reject => {
                tracing::warn!(target: LOG, "a message of topic {topic} is rejected: pubsub {} delivers nothing again that failed", self.pubsub());
                Retry::Settle(Outcome::Retry)
            }
            Redelivery::Broker(backoff) => {
                let pause = backoff.pause_after(attempt).unwrap_or(backoff.longest);
                match self.pause(pause).await {
                    true => Retry::Settle(Outcome::Retry),
                    false => Retry::GiveBack,
                }
            }
            Redelivery::InPlace(backoff) => match backoff.pause_after(attempt) {
                Some(pause) => match self.pause(pause).await {
                    true => Retry::Again,
                    false => Retry::GiveBack,
                },
                None => {
                    tracing::error!(target: LOG, "a message of topic {topic} is given up after {attempt} attempts");
                    Retry::Settle(Outcome::Drop)
                }
            },
        }
    }

    /// Whether the pause has passed; false where the subscription ends before that.
    pub async fn pause(&self, pause: Duration) -> bool {
        if pause.is_zero() {
            return true;
        }
        tokio::select! {
            biased;
            () = self.ending() => false,
            () = tokio::time::sleep(pause) => true,
        }
    }

    /// Until the subscription is ending.
    pub async fn ending(&self) {
        let mut mode = self.mode.clone();
        let closed = async {
            match &self.target {
                Target::Stream(session) => session.closed().await,
                Target::App | Target::Outbox => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = mode.wait_for(|mode| *mode >= Mode::Drain) => {}
            () = self.opening.over.cancelled() => {}
            () = closed => {}
        }
    }

    /// Metadata that every delivered message carries.
    pub fn label(&self, message: &mut Message) {
        if let Some(content_type) = &message.content_type {
            let key = header::CONTENT_TYPE.as_str().to_owned();
            message.metadata.insert(key, content_type.clone());
        }
        let pubsub = self.pubsub().to_owned();
        message.metadata.insert(PUBSUB_NAME.to_owned(), pubsub);
    }

    /// A message nobody is to get again; the dead letter topic takes it where there is one.
    pub async fn drop_message(&self, message: &Message) -> Outcome {
        match self.dead_letter(message).await {
            Some(true) => Outcome::Ok,
            Some(false) => Outcome::Retry,
            None => Outcome::Drop,
        }
    }

    /// A message that could not be delivered: to the dead letter topic, else back to the broker.
    async fn give_up(&self, message: &Message, topic: &str) -> Outcome {
        let taken = self.dead_letter(message).await == Some(true);
        let process = if taken { Process::Drop } else { Process::Retry };
        let metrics = &self.core.metrics;
        metrics.delivered(self.pubsub(), topic, process, process, None);
        if taken { Outcome::Ok } else { Outcome::Retry }
    }

    /// Whether the dead letter topic has taken the message; nothing where there is no such topic.
    pub async fn dead_letter(&self, message: &Message) -> Option<bool> {
        let topic = self.subscription.dead_letter_topic.clone()?;
        let request = PublishRequest {
            topic,
            data: message.data.clone(),
            content_type: message.content_type.clone(),
            metadata: message.metadata.clone(),
        };
        Some(self.core.dead_letter(&self.broker, request).await)
    }
}

/// Tells the broker what became of a message; whether it knows now.
pub async fn settle(ack: Ack, outcome: Outcome, topic: &str) -> bool {
    let settled = ack.settle(outcome).await;
    if let Err(error) = &settled {
        let error = component::error::chain(error);
        tracing::warn!(target: LOG, "a message of topic {topic} is not settled: {error}");
    }
    settled.is_ok()
}
