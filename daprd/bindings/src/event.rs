//! One event of an input: the app is called with it under the binding's policy; counted, timed and traced.

use std::time::Instant;

use app_channel::event_headers;
use blocks::Loaded;
use bytes::Bytes;
use component::{InputBinding, bindings::Event};
use futures::FutureExt;
use http::{HeaderValue, StatusCode, header};
use proto::runtime::v1::BindingEventRequest;
use resiliency::{Outcome, repeatable};
use telemetry::trace::{Kind, Span, Status, TraceContext, attribute};

use tokio_util::sync::CancellationToken;

use crate::{
    answer::Answer,
    engine::{Inner, Input, LOG},
};

/// Longest part of an app's answer that an error shows.
const MOST_SHOWN: usize = 1024;

/// Why an event was not taken.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("error invoking app: {0}")]
    App(#[from] app_channel::Error),
    #[error("fails to send binding event to http app channel, status code: {status} body: {body}")]
    Status { status: u16, body: String },
}

impl Refused {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Status { status, .. } => Outcome::Http(*status),
            Self::App(app_channel::Error::Status(status)) => Outcome::Grpc(status.code() as i32),
            Self::App(_) => Outcome::Retryable,
        }
    }
}

impl Inner {
    /// What the app answers, as the source gets it; once it is stopped, no further attempt is made.
    pub async fn deliver(
        &self,
        loaded: &Loaded<dyn InputBinding, Input>,
        event: &Event,
        stop: &CancellationToken,
    ) -> Result<Bytes, String> {
        let name = &loaded.listed.name;
        let began = Instant::now();
        let mut span = self.span(name, event);
        let policy = self.inputs.inbound(name);
        let attempt = repeatable(|_| {
            self.attempt(name, &loaded.beside.route, event, span.as_ref())
                .boxed()
        });
        let classify = |refused: &Refused| match stop.is_cancelled() {
            true => Outcome::Permanent,
            false => refused.outcome(),
        };
        let answer = policy.run(attempt, classify).await;
        self.metrics
            .delivered(name, answer.is_ok(), began.elapsed());
        match answer {
            Ok(answer) => {
                let data = answer.data.clone();
                self.carry_out(name, answer).await;
                Ok(data)
            }
            Err(error) => {
                let problem = component::error::chain(&error);
                if let Some(span) = &mut span {
                    span.set_status(Status::Error(problem.clone()));
                }
                tracing::debug!(target: LOG, "error from app consumer for binding [{name}]: {problem}");
                Err(problem)
            }
        }
    }

    async fn attempt(
        &self,
        name: &str,
        route: &str,
        event: &Event,
        span: Option<&Span>,
    ) -> Result<Answer, Refused> {
        let trace = span.and_then(Span::context);
        let mut headers = event_headers(&event.metadata);
        if self.app.protocol().is_grpc() {
            headers.clear();
            if let Some(trace) = trace {
                trace.inject_grpc(&mut headers);
            }
            let request = BindingEventRequest {
                name: name.to_owned(),
                data: event.data.clone(),
                metadata: event.metadata.clone(),
            };
            let answer = self.app.binding_event_grpc(request, headers).await?;
            return Ok(Answer::from_grpc(answer));
        }
        let content_type = event.content_type.as_deref();
        let content_type = content_type.and_then(|text| HeaderValue::from_str(text).ok());
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, content_type.unwrap_or(json));
        if let Some(trace) = trace {
            trace.inject(&mut headers);
        }
        let data = event.data.clone();
        let answer = self.app.binding_event_http(route, data, headers).await?;
        let (status, body) = (answer.status(), answer.into_body());
        match status {
            status if status.is_success() => Ok(Answer::from_http(body)),
            status => Err(refused(status, &body)),
        }
    }

    /// The span of a delivery, below the trace that the event carries.
    fn span(&self, name: &str, event: &Event) -> Option<Span> {
        if !self.tracer.is_enabled() {
            return None;
        }
        let text = |key: &str| event.metadata.get(key);
        let binary = text("grpc-trace-bin").map(|it| TraceContext::from_binary(it.as_bytes()));
        let parent = binary.unwrap_or_else(|| {
            let parent = TraceContext::parse(text("traceparent")?)?;
            Some(match text("tracestate") {
                Some(state) => parent.with_state(state),
                None => parent,
            })
        });
        let kind = Kind::Client;
        let mut span = self
            .tracer
            .start(format!("bindings/{name}"), kind, parent.as_ref());
        let url = match self.app.protocol().is_grpc() {
            true => "/dapr.proto.runtime.v1.AppCallback/OnBindingEvent".to_owned(),
            false => format!("POST /{name}"),
        };
        span.set_attribute(attribute::DB_NAME, name);
        span.set_attribute(attribute::DB_SYSTEM, "bindings");
        span.set_attribute(attribute::DB_CONNECTION_STRING, url);
        span.set_attribute(attribute::RPC_SERVICE, "Dapr");
        Some(span)
    }
}

fn refused(status: StatusCode, body: &[u8]) -> Refused {
    let shown = body.get(..MOST_SHOWN).unwrap_or(body);
    Refused::Status {
        status: status.as_u16(),
        body: String::from_utf8_lossy(shown).into_owned(),
    }
}
