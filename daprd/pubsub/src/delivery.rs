//! The way of one message from broker to app: read, routed, delivered under the inbound policy, settled once.

use std::{sync::Arc, time::Duration};

use app_channel::event_headers;
use bytes::Bytes;
use component::pubsub::{Ack, Delivery, Message, Outcome, PublishRequest, Redelivery};
use http::{HeaderMap, HeaderValue, header};
use telemetry::trace::{Kind, Span, TRACEPARENT, TraceContext, attribute};
use tokio::sync::watch;

use crate::{
    brokers::Broker,
    cloud_event::{CloudEvent, field},
    content_type,
    core::{Core, LOG},
    metrics::Process,
    outcome::{self, Dropped, Failure, Verdict},
    request::{self, PUBSUB_NAME},
    stream::Session,
    subscription::Subscription,
};

/// A subscription with its broker and who takes its events, as deliveries see it.
pub struct Subscriber {
    pub core: Arc<Core>,
    pub broker: Arc<Broker>,
    pub subscription: Arc<Subscription>,
    pub target: Target,
    pub mode: watch::Receiver<Mode>,
}

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
    /// Take nothing more from the broker for now.
    Pause,
    /// Deliver what the broker has handed over, then end.
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

/// What reading a message gave.
enum Read {
    Ready {
        event: CloudEvent,
        data: Bytes,
        path: String,
    },
    Expired,
    Unrouted,
    Unreadable(String),
}

impl Subscriber {
    pub fn pubsub(&self) -> &str {
        &self.broker.listed.name
    }

    /// Whether the subscription is ending: what fails now is given back, neither refused nor dead-lettered.
    pub fn is_ending(&self) -> bool {
        let over = matches!(&self.target, Target::Stream(session) if session.is_closed());
        over || *self.mode.borrow() >= Mode::Drain
    }

    /// Delivers one message until its outcome is final, and settles it; without an outcome it goes back to the broker.
    pub async fn handle(&self, delivery: Delivery, redelivery: Redelivery) {
        if matches!(self.target, Target::Outbox) {
            return self.relay(delivery, redelivery).await;
        }
        let Delivery {
            mut message,
            mut attempt,
            ack,
            ..
        } = delivery;
        self.label(&mut message);
        let outcome = loop {
            let Some(outcome) = self.outcome(&message).await else {
                return;
            };
            if outcome != Outcome::Retry {
                break outcome;
            }
            match self.retry(&message.topic, redelivery, attempt).await {
                Retry::Again => attempt = attempt.saturating_add(1),
                Retry::GiveBack => return,
                Retry::Settle(outcome) => break outcome,
            }
        };
        settle(ack, outcome, &message.topic).await;
    }

    /// What comes of a message, or the rest of a batch, that is wanted again: waits for as long as the broker does not.
    pub async fn retry(&self, topic: &str, redelivery: Redelivery, attempt: u32) -> Retry {
        match redelivery {
            Redelivery::Never => {
                tracing::warn!(target: LOG, "a message of topic {topic} is lost: pubsub {} delivers nothing again", self.pubsub());
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
        let mut mode = self.mode.clone();
        let over = async {
            match &self.target {
                Target::Stream(session) => session.closed().await,
                Target::App | Target::Outbox => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = mode.wait_for(|mode| *mode >= Mode::Drain) => false,
            () = over => false,
            () = tokio::time::sleep(pause) => true,
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

    async fn outcome(&self, message: &Message) -> Option<Outcome> {
        let topic = self.broker.beside.of_app(&message.topic);
        let process = |process, status| {
            let metrics = &self.core.metrics;
            metrics.delivered(self.pubsub(), topic, process, status, None);
        };
        match self.read(message, topic) {
            Read::Unreadable(problem) => {
                tracing::error!(
                    target: LOG,
                    "error reading a message of pubsub {} and topic {topic}: {problem}",
                    self.pubsub()
                );
                Some(self.give_up(message, topic).await)
            }
            Read::Expired => {
                tracing::warn!(target: LOG, "dropping an expired pub/sub event of topic {topic}");
                process(Process::Drop, Process::Drop);
                Some(self.drop_message(message).await)
            }
            Read::Unrouted => {
                tracing::debug!(target: LOG, "no matching route for an event of topic {topic}; skipping");
                process(Process::Drop, Process::Success);
                Some(self.drop_message(message).await)
            }
            Read::Ready { event, data, path } => {
                self.deliver(message, topic, &event, data, &path).await
            }
        }
    }

    fn read(&self, message: &Message, topic: &str) -> Read {
        let raw = match &self.subscription.raw {
            Ok(raw) => *raw,
            Err(problem) => return Read::Unreadable(problem.clone()),
        };
        let content_type = message
            .metadata
            .get(header::CONTENT_TYPE.as_str())
            .map_or(content_type::JSON, String::as_str);
        let mut data = message.data.clone();
        let event = if raw {
            let event = CloudEvent::raw(&data, self.pubsub(), topic, &message.metadata);
            data = event.to_json().into();
            event
        } else if content_type::is_binary(content_type) {
            CloudEvent::binary(&data, content_type, &message.metadata)
        } else {
            match CloudEvent::parse(&data, &message.metadata) {
                Ok(event) => event,
                Err(problem) => return Read::Unreadable(problem),
            }
        };
        if event.has_expired(self.core.clock.now()) {
            return Read::Expired;
        }
        match self.subscription.route(|| event.to_value()) {
            Ok(Some(path)) => Read::Ready {
                path: path.to_owned(),
                event,
                data,
            },
            Ok(None) => Read::Unrouted,
            Err(problem) => Read::Unreadable(problem),
        }
    }

    async fn deliver(
        &self,
        message: &Message,
        topic: &str,
        event: &CloudEvent,
        data: Bytes,
        path: &str,
    ) -> Option<Outcome> {
        let policy = self.core.brokers.inbound(self.pubsub());
        let attempt = |_| self.attempt(message, topic, event, data.clone(), path);
        let classify = |failure: &Failure| {
            // A subscription that ends makes no further attempt.
            if self.is_ending() {
                resiliency::Outcome::Permanent
            } else {
                failure.outcome
            }
        };
        match policy.run(resiliency::repeatable(attempt), classify).await {
            Ok(Verdict::Success) => Some(Outcome::Ok),
            Ok(Verdict::Drop(Dropped::NoCallback)) => Some(Outcome::Drop),
            Ok(Verdict::Drop(Dropped::ByApp | Dropped::NoPath)) => {
                Some(self.drop_message(message).await)
            }
            Err(_) if self.is_ending() => None,
            Err(_) => Some(self.give_up(message, topic).await),
        }
    }

    /// One attempt, counted, timed and traced.
    async fn attempt(
        &self,
        message: &Message,
        topic: &str,
        event: &CloudEvent,
        data: Bytes,
        path: &str,
    ) -> Result<Verdict, Failure> {
        let mut span = self.span(event, topic);
        let clock = &self.core.clock;
        let began = clock.instant();
        let result = match &self.target {
            Target::Stream(session) => {
                let request = request::single(event, self.pubsub(), topic, path)?;
                session.deliver(request).await.and_then(outcome::of_status)
            }
            // What an outbox publishes is relayed, and does not come here.
            Target::App | Target::Outbox if self.core.options.app.protocol().is_grpc() => {
                let request = request::single(event, self.pubsub(), topic, path)?;
                let mut headers = request::grpc_headers(&message.metadata);
                trace_headers(&mut headers, span.as_ref(), true);
                match self
                    .core
                    .options
                    .app
                    .topic_event_grpc(request, headers)
                    .await
                {
                    Ok(response) => outcome::of_status(response.status),
                    Err(error) => outcome::of_error(&error),
                }
            }
            Target::App | Target::Outbox => {
                let mut headers = event_headers(&message.metadata);
                let content_type = HeaderValue::from_static("application/cloudevents+json");
                headers.insert(header::CONTENT_TYPE, content_type);
                trace_headers(&mut headers, span.as_ref(), false);
                match self
                    .core
                    .options
                    .app
                    .topic_event_http(path, data, headers)
                    .await
                {
                    Ok(response) => outcome::of_http(response.status(), response.body()),
                    Err(error) => outcome::of_error(&error),
                }
            }
        };
        let elapsed = clock.instant() - began;
        let (process, status) = match &result {
            Ok(Verdict::Success) => (Process::Success, Process::Success),
            Ok(Verdict::Drop(Dropped::ByApp)) => (Process::Drop, Process::Success),
            Ok(Verdict::Drop(_)) => (Process::Drop, Process::Drop),
            Err(_) => (Process::Retry, Process::Retry),
        };
        let metrics = &self.core.metrics;
        metrics.delivered(self.pubsub(), topic, process, status, Some(elapsed));
        self.log(event, topic, &result);
        if let (Some(span), Err(failure)) = (&mut span, &result) {
            span.set_status(telemetry::trace::Status::Error(failure.problem.clone()));
        }
        result
    }

    fn log(&self, event: &CloudEvent, topic: &str, result: &Result<Verdict, Failure>) {
        let id = event.text(field::ID).unwrap_or_default();
        match result {
            Ok(Verdict::Success) => {}
            Ok(Verdict::Drop(Dropped::ByApp)) => {
                tracing::warn!(target: LOG, "DROP status returned from app while processing pub/sub event {id}");
            }
            Ok(Verdict::Drop(_)) => {
                tracing::error!(target: LOG, "non-retriable error returned from app while processing pub/sub event {id}");
            }
            Err(failure) => {
                tracing::warn!(
                    target: LOG,
                    "retriable error returned from app while processing pub/sub event {id}, topic: {topic}, {}",
                    failure.problem
                );
            }
        }
    }

    /// The span of a delivery, below the trace that the event carries. Nothing where the event says nothing of a trace.
    pub fn span(&self, event: &CloudEvent, topic: &str) -> Option<Span> {
        let tracer = &self.core.options.tracer;
        if !tracer.is_enabled() {
            return None;
        }
        let name = if event.value(field::TRACE_PARENT).is_some() {
            field::TRACE_PARENT
        } else {
            field::TRACE_ID
        };
        let parent = TraceContext::parse(&event.text(name)?);
        let mut span = tracer.start(format!("pubsub/{topic}"), Kind::Client, parent.as_ref());
        span.set_attribute(attribute::MESSAGING_SYSTEM, "pubsub");
        span.set_attribute(attribute::MESSAGING_DESTINATION, topic);
        Some(span)
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

/// The trace of a delivery, as headers.
pub fn trace_headers(headers: &mut HeaderMap, span: Option<&Span>, grpc: bool) {
    let Some(span) = span else { return };
    match span.context() {
        Some(context) if grpc => context.inject_grpc(headers),
        Some(context) => context.inject(headers),
        None => {
            // Compat: Q-zero-traceparent: an event without a trace reaches the app with a trace of zeros.
            headers.insert(TRACEPARENT, HeaderValue::from_static(NO_TRACE));
        }
    }
}

const NO_TRACE: &str = "00-00000000000000000000000000000000-0000000000000000-00";
