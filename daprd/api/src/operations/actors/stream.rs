//! Actors hosted over a stream: the app's first message says what it hosts; then questions go out while answers come in.

use ::actors::{Error, Streaming};
use futures::{StreamExt, stream};
use proto::runtime::v1::{
    SubscribeActorEventsRequestAlpha1 as FromApp, SubscribeActorEventsResponseAlpha1 as ToApp,
    SubscribeActorEventsResponseInitialAlpha1, subscribe_actor_events_request_alpha1::RequestType,
    subscribe_actor_events_response_alpha1::ResponseType,
};
use tonic::Status;

use crate::{
    Api, ApiError, CallContext,
    grpc::{Incoming, Outgoing},
};

impl Api {
    /// Hosts actors for as long as the stream lasts; it ends when either side does.
    pub async fn subscribe_actor_events(
        &self,
        _call: &CallContext,
        mut incoming: Incoming<FromApp>,
    ) -> Result<Outgoing<ToApp>, ApiError> {
        let actors = self.options.actors.clone();
        actors.check_stream().map_err(refused)?;
        let first = tokio::select! {
            first = incoming.next() => first.transpose()?,
            // A stream that never says what it hosts must not hold up the shutdown.
            () = actors.closing() => return Err(ended()),
        };
        let Some(RequestType::InitialRequest(initial)) = first.and_then(|it| it.request_type)
        else {
            let text = "first message must be SubscribeActorEventsRequestInitialAlpha1";
            return Err(ApiError::of_status(Status::invalid_argument(text)));
        };
        let hosted = actors.open_stream(initial).map_err(refused)?;
        let hello = ToApp {
            response_type: Some(ResponseType::InitialResponse(
                SubscribeActorEventsResponseInitialAlpha1 {},
            )),
        };
        let rest = stream::unfold(Some((hosted, incoming)), move |both| {
            let actors = actors.clone();
            async move {
                let (mut hosted, mut incoming) = both?;
                let next = tokio::select! {
                    next = next(&mut hosted, &mut incoming) => next,
                    () = actors.closing() => Err(Some(ended())),
                };
                match next {
                    Ok(question) => Some((Ok(question), Some((hosted, incoming)))),
                    Err(Some(error)) => Some((Err(error), None)),
                    Err(None) => None,
                }
            }
        });
        Ok(stream::iter([Ok(hello)]).chain(rest).boxed())
    }
}

/// The next question; answers that come in before it are passed on.
///
/// # Errors
/// The end of the stream, with what is to be said of it.
async fn next(
    hosted: &mut Streaming,
    incoming: &mut Incoming<FromApp>,
) -> Result<ToApp, Option<ApiError>> {
    loop {
        tokio::select! {
            biased;
            message = incoming.next() => match message {
                Some(Ok(message)) => hosted.answered(message),
                None => return Err(None),
                Some(Err(error)) => return Err(Some(error)),
            },
            question = hosted.next() => return question.ok_or(None),
        }
    }
}

fn refused(error: Error) -> ApiError {
    ApiError::of_status(match error {
        Error::NoStream => Status::failed_precondition(error.to_string()),
        other => other.into_status(),
    })
}

fn ended() -> ApiError {
    ApiError::of_status(Status::unavailable("stream closed"))
}
