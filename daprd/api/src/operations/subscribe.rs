//! Streaming subscriptions: the app's first message says what it subscribes to; then events go out while acknowledgements
//! come in on the same stream.

use ::pubsub::{Error, StreamRequest, Streaming};
use futures::{StreamExt, stream};
use proto::runtime::v1::{
    SubscribeTopicEventsRequestAlpha1, SubscribeTopicEventsRequestInitialAlpha1,
    SubscribeTopicEventsResponseAlpha1, SubscribeTopicEventsResponseInitialAlpha1,
    subscribe_topic_events_request_alpha1::SubscribeTopicEventsRequestType as FromApp,
    subscribe_topic_events_response_alpha1::SubscribeTopicEventsResponseType as ToApp,
};
use tonic::Status;

use super::{Api, Operation, pubsub::About, rpc};
use crate::{
    ApiError, CallContext,
    grpc::{Incoming, Outgoing},
};

pub static ROWS: &[Operation] = &[Operation::new(
    "SubscribeTopicEventsAlpha1",
    "subscribe",
    &[rpc!(
        bidirectional "SubscribeTopicEventsAlpha1",
        "v1alpha1",
        subscribe_topic_events
    )],
    &[],
)];

type Request = SubscribeTopicEventsRequestAlpha1;
type Response = SubscribeTopicEventsResponseAlpha1;

impl Api {
    /// Subscribes for as long as the stream lasts; it ends when either side does.
    pub async fn subscribe_topic_events(
        &self,
        call: &CallContext,
        mut incoming: Incoming<Request>,
    ) -> Result<Outgoing<Response>, ApiError> {
        let first = tokio::select! {
            first = incoming.next() => first.transpose()?,
            // A stream that never says what it wants must not hold up the shutdown.
            () = self.options.pubsub.closing() => return Err(unknown("stream closed")),
        };
        let subscription = self.open_stream(call, first).await?;
        let hello = ToApp::InitialResponse(SubscribeTopicEventsResponseInitialAlpha1 {});
        let rest = stream::unfold(Some((subscription, incoming)), |both| async move {
            let (mut subscription, mut incoming) = both?;
            match next(&mut subscription, &mut incoming).await {
                Ok(event) => Some((Ok(response(event)), Some((subscription, incoming)))),
                // The error is the last thing said; what follows it ends the stream.
                Err(Some(error)) => Some((Err(error), None)),
                Err(None) => None,
            }
        });
        Ok(stream::iter([Ok(response(hello))]).chain(rest).boxed())
    }

    async fn open_stream(
        &self,
        call: &CallContext,
        first: Option<Request>,
    ) -> Result<Streaming, ApiError> {
        let first = first.and_then(|first| first.subscribe_topic_events_request_type);
        let Some(FromApp::InitialRequest(initial)) = first else {
            return Err(unknown("initial request is required"));
        };
        let SubscribeTopicEventsRequestInitialAlpha1 {
            pubsub_name,
            topic,
            metadata,
            dead_letter_topic,
        } = initial;
        if pubsub_name.is_empty() {
            return Err(unknown("pubsubName is required"));
        }
        if topic.is_empty() {
            return Err(unknown("topic is required"));
        }
        let about = About::of(&pubsub_name, &topic, &metadata);
        let request = StreamRequest {
            pubsub: pubsub_name.clone(),
            topic,
            metadata,
            dead_letter_topic: dead_letter_topic.unwrap_or_default(),
        };
        let opened = self.options.pubsub.stream(request).await;
        opened.map_err(|error| match error {
            Error::NotConfigured | Error::NotFound { .. } => {
                // Compat: Q-stream-missing: a stream is told that the component is missing, never that there is none at all.
                let missing = Error::NotFound {
                    pubsub: pubsub_name,
                };
                self.pubsub_error(call, &about, missing)
            }
            other => unknown(format!(
                "failed to create subscription for {pubsub_name}: {other}"
            )),
        })
    }
}

/// The next event; acknowledgements that come in before it are passed on.
///
/// # Errors
/// The end of the stream, with what is to be said of it.
async fn next(
    subscription: &mut Streaming,
    incoming: &mut Incoming<Request>,
) -> Result<ToApp, Option<ApiError>> {
    loop {
        tokio::select! {
            biased;
            message = incoming.next() => match message {
                Some(Ok(message)) => match message.subscribe_topic_events_request_type {
                    Some(FromApp::EventProcessed(processed)) => {
                        let status = processed.status.map_or(0, |status| status.status);
                        subscription.acknowledge(&processed.id, status);
                    }
                    _ => return Err(Some(unknown("duplicate initial request received"))),
                },
                None => return Err(None),
                Some(Err(error)) => return Err(Some(error)),
            },
            event = subscription.next() => return match event {
                Some(event) => Ok(ToApp::EventMessage(event)),
                None => Err(Some(unknown("stream closed"))),
            },
        }
    }
}

fn response(what: ToApp) -> Response {
    Response {
        subscribe_topic_events_response_type: Some(what),
    }
}

/// Upstream gives these errors no code.
fn unknown(message: impl Into<String>) -> ApiError {
    ApiError::of_status(Status::unknown(message))
}
