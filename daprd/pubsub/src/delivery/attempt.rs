//! One delivery of one message: read, routed, and given to whoever takes it under the inbound policy, each attempt counted,
//! timed and traced.

use app_channel::event_headers;
use bytes::Bytes;
use component::pubsub::{Message, Outcome};
use http::{HeaderMap, HeaderValue, header};
use telemetry::trace::{Kind, Span, TRACEPARENT, TraceContext, attribute};

use super::{Subscriber, Target};
use crate::{
    cloud_event::{CloudEvent, field},
    content_type,
    core::LOG,
    metrics::Process,
    outcome::{self, Dropped, Failure, Verdict},
    request,
};

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
    /// What becomes of the message; nothing where the subscription ends before that is known.
    pub(super) async fn outcome(&self, message: &Message) -> Option<Outcome> {
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
        // Boxed, because there is room for each way to the app in it.
        let attempt = |_| Box::pin(self.attempt(message, topic, event, data.clone(), path));
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
