//! `SubscribeTopicEventsAlpha1`: the app's first message says what it subscribes to; then events go out while
//! acknowledgements come in on the same stream.

use std::sync::Arc;

use ::pubsub::{StreamRequest, Streaming};
use component::Body;
use futures::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use proto::runtime::v1::{
    SubscribeTopicEventsRequestAlpha1, SubscribeTopicEventsRequestInitialAlpha1,
    SubscribeTopicEventsResponseAlpha1, SubscribeTopicEventsResponseInitialAlpha1,
    subscribe_topic_events_request_alpha1::SubscribeTopicEventsRequestType as Asked,
    subscribe_topic_events_response_alpha1::SubscribeTopicEventsResponseType as Told,
};
use tonic::{Status, server::StreamingService};
use tonic_prost::ProstCodec;

use super::{Response, context};
use crate::{Api, CallContext, operations::pubsub::About};

/// Serves the RPC; it ends when either side does.
pub async fn serve(api: Arc<Api>, request: http::Request<Body>) -> Response {
    let limit = api.max_message();
    let call = context(&request);
    let codec = ProstCodec::<SubscribeTopicEventsResponseAlpha1, SubscribeTopicEventsRequestAlpha1>::default();
    let mut grpc =
        tonic::server::Grpc::new(codec).apply_max_message_size_config(Some(limit), Some(limit));
    grpc.streaming(Subscribe { api, call }, request).await
}

struct Subscribe {
    api: Arc<Api>,
    call: CallContext,
}

type Incoming = tonic::Streaming<SubscribeTopicEventsRequestAlpha1>;
type Item = Result<SubscribeTopicEventsResponseAlpha1, Status>;

impl StreamingService<SubscribeTopicEventsRequestAlpha1> for Subscribe {
    type Response = SubscribeTopicEventsResponseAlpha1;
    type ResponseStream = BoxStream<'static, Item>;
    type Future = BoxFuture<'static, Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Incoming>) -> Self::Future {
        let (api, call) = (Arc::clone(&self.api), self.call.clone());
        Box::pin(async move {
            let mut incoming = request.into_inner();
            let first = incoming.message().await?;
            let subscription = open(&api, &call, first).await?;
            let hello = Told::InitialResponse(SubscribeTopicEventsResponseInitialAlpha1 {});
            let rest = stream::unfold(Some((subscription, incoming)), |both| async move {
                let (mut subscription, mut incoming) = both?;
                match next(&mut subscription, &mut incoming).await {
                    Ok(event) => Some((tell(event), Some((subscription, incoming)))),
                    // The error is the last thing said; what follows it ends the stream.
                    Err(Some(status)) => Some((Err(status), None)),
                    Err(None) => None,
                }
            });
            let stream = stream::iter([tell(hello)]).chain(rest).boxed();
            Ok(tonic::Response::new(stream))
        })
    }
}

async fn open(
    api: &Api,
    call: &CallContext,
    first: Option<SubscribeTopicEventsRequestAlpha1>,
) -> Result<Streaming, Status> {
    let asked = first.and_then(|first| first.subscribe_topic_events_request_type);
    let Some(Asked::InitialRequest(initial)) = asked else {
        return Err(Status::unknown("initial request is required"));
    };
    let SubscribeTopicEventsRequestInitialAlpha1 {
        pubsub_name,
        topic,
        metadata,
        dead_letter_topic,
    } = initial;
    if pubsub_name.is_empty() {
        return Err(Status::unknown("pubsubName is required"));
    }
    if topic.is_empty() {
        return Err(Status::unknown("topic is required"));
    }
    let about = About::of(&pubsub_name, &topic, &metadata);
    let request = StreamRequest {
        pubsub: pubsub_name.clone(),
        topic,
        metadata,
        dead_letter_topic: dead_letter_topic.unwrap_or_default(),
    };
    api.options.pubsub.stream(request).await.map_err(|error| {
        use ::pubsub::Error;
        match error {
            Error::NotConfigured | Error::NotFound { .. } => {
                // Compat: Q-stream-missing: a stream is told that the component is missing, never that there is none at all.
                let missing = Error::NotFound {
                    pubsub: pubsub_name,
                };
                api.pubsub_error(call, &about, missing).into_status()
            }
            other => Status::unknown(format!(
                "failed to create subscription for {pubsub_name}: {other}"
            )),
        }
    })
}

/// The next event; acknowledgements that come in before it are passed on.
///
/// # Errors
/// The end of the stream, with what is to be said of it.
async fn next(
    subscription: &mut Streaming,
    incoming: &mut Incoming,
) -> Result<Told, Option<Status>> {
    loop {
        tokio::select! {
            biased;
            message = incoming.message() => match message {
                Ok(Some(message)) => match message.subscribe_topic_events_request_type {
                    Some(Asked::EventProcessed(processed)) => {
                        let status = processed.status.map_or(0, |status| status.status);
                        subscription.acknowledge(&processed.id, status);
                    }
                    _ => return Err(Some(Status::unknown("duplicate initial request received"))),
                },
                Ok(None) => return Err(None),
                Err(status) => return Err(Some(status)),
            },
            event = subscription.next() => return match event {
                Some(event) => Ok(Told::EventMessage(event)),
                None => Err(Some(Status::unknown("stream closed"))),
            },
        }
    }
}

fn tell(what: Told) -> Item {
    Ok(SubscribeTopicEventsResponseAlpha1 {
        subscribe_topic_events_response_type: Some(what),
    })
}
