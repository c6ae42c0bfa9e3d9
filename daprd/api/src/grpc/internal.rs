//! The server that other sidecars call. What they ask of the app is service invocation's; what they ask of actors goes to the
//! actor runtime. Who calls is known from the connection.

use std::sync::Arc;

use async_trait::async_trait;
use component::{Body, body};
use futures::{StreamExt, future::BoxFuture};
use proto::internals::v1::{InternalInvokeRequest, InternalInvokeResponse, Reminder};
use tonic::Status;
use transport::Peer;

use super::{Outgoing, Response, Serving, server_stream, unary};
use crate::{ApiError, CallContext};

const CALL_ACTOR: &str = "/dapr.proto.internals.v1.ServiceInvocation/CallActor";
const CALL_ACTOR_STREAM: &str = "/dapr.proto.internals.v1.ServiceInvocation/CallActorStream";
const CALL_ACTOR_REMINDER: &str = "/dapr.proto.internals.v1.ServiceInvocation/CallActorReminder";

/// What other sidecars ask of the actors that are hosted here.
#[async_trait]
pub trait ActorCalls: Send + Sync {
    /// Calls a method.
    async fn call(
        &self,
        call: CallContext,
        request: InternalInvokeRequest,
    ) -> Result<InternalInvokeResponse, ApiError>;

    /// Calls a method whose answer is a stream.
    async fn call_stream(
        &self,
        call: CallContext,
        request: InternalInvokeRequest,
    ) -> Result<Outgoing<InternalInvokeResponse>, ApiError>;

    /// Fires a reminder.
    async fn remind(&self, call: CallContext, reminder: Reminder) -> Result<(), ApiError>;
}

#[async_trait]
impl ActorCalls for actors::Engine {
    async fn call(
        &self,
        call: CallContext,
        request: InternalInvokeRequest,
    ) -> Result<InternalInvokeResponse, ApiError> {
        let answer = self.called(request, caller(self, &call)).await;
        answer.map_err(ApiError::of_status)
    }

    async fn call_stream(
        &self,
        call: CallContext,
        request: InternalInvokeRequest,
    ) -> Result<Outgoing<InternalInvokeResponse>, ApiError> {
        let replies = self.followed(request, caller(self, &call)).await;
        let replies = replies.map_err(ApiError::of_status)?;
        let replies = replies.map(|reply| reply.map_err(ApiError::of_status));
        Ok(replies.boxed())
    }

    async fn remind(&self, call: CallContext, reminder: Reminder) -> Result<(), ApiError> {
        let done = self.reminded(reminder, caller(self, &call)).await;
        done.map_err(ApiError::of_status)
    }
}

/// The app that calls, where its connection proved it to be of this namespace.
fn caller<'c>(engine: &actors::Engine, call: &'c CallContext) -> Option<&'c str> {
    let caller = call.caller.as_ref()?;
    (caller.namespace() == engine.namespace()).then(|| caller.app_id())
}

/// The internal server. Clones share it.
#[derive(Clone)]
pub struct Internal {
    invocation: invoke::Internal,
    actors: Actors,
}

impl Internal {
    pub fn new(
        invocation: invoke::Internal,
        actors: Arc<dyn ActorCalls>,
        serving: Serving,
    ) -> Self {
        Self {
            invocation,
            actors: Actors {
                calls: actors,
                serving,
            },
        }
    }

    /// Answers one request of another sidecar.
    pub async fn handle<B>(self, request: http::Request<B>) -> Response
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<component::BoxError>,
    {
        let request = request.map(body::streamed);
        // Boxed, so that the compiler proves here, and not within the caller's types, that they may change threads.
        let answer: BoxFuture<'static, Response> = if is_about_actors(&request) {
            self.actors.handle(request)
        } else {
            Box::pin(self.invocation.handle(request))
        };
        answer.await
    }
}

fn is_about_actors(request: &http::Request<Body>) -> bool {
    [CALL_ACTOR, CALL_ACTOR_STREAM, CALL_ACTOR_REMINDER].contains(&request.uri().path())
}

/// The actors' part of the server.
#[derive(Clone)]
struct Actors {
    calls: Arc<dyn ActorCalls>,
    serving: Serving,
}

impl Actors {
    fn handle(self, request: http::Request<Body>) -> BoxFuture<'static, Response> {
        let Self { calls, serving } = self;
        let peer = request.extensions().get::<Peer>();
        if let Some(Err(error)) = peer.map(security::peer_id) {
            let problem = component::error::chain(&error);
            let refusal = Status::unauthenticated(problem).into_http();
            return Box::pin(std::future::ready(refusal));
        }
        match request.uri().path() {
            CALL_ACTOR => {
                let operation = move |call, message| one(calls, call, message);
                Box::pin(unary(serving, request, operation))
            }
            CALL_ACTOR_STREAM => {
                let operation = move |call, message| many(calls, call, message);
                Box::pin(server_stream(serving, request, operation))
            }
            _ => {
                let operation = move |call, message| remind(calls, call, message);
                Box::pin(unary(serving, request, operation))
            }
        }
    }
}

// These have names, and futures without lifetimes, because the compiler cannot prove of closures around the trait's methods
// that they may change threads.
type Done<T> = BoxFuture<'static, Result<T, ApiError>>;

fn one(
    calls: Arc<dyn ActorCalls>,
    call: CallContext,
    request: InternalInvokeRequest,
) -> Done<InternalInvokeResponse> {
    Box::pin(async move { calls.call(call, request).await })
}

fn many(
    calls: Arc<dyn ActorCalls>,
    call: CallContext,
    request: InternalInvokeRequest,
) -> Done<Outgoing<InternalInvokeResponse>> {
    Box::pin(async move { calls.call_stream(call, request).await })
}

fn remind(calls: Arc<dyn ActorCalls>, call: CallContext, reminder: Reminder) -> Done<()> {
    Box::pin(async move { calls.remind(call, reminder).await })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::stream;
    use proto::internals::v1::{
        Actor, service_invocation_client::ServiceInvocationClient as Client,
    };
    use telemetry::{ErrorCodes, Meter, MetricOptions};

    use super::*;

    /// Answers with the id of the actor.
    struct Echo;

    fn answer(request: InternalInvokeRequest) -> InternalInvokeResponse {
        InternalInvokeResponse {
            message: Some(proto::common::v1::InvokeResponse {
                content_type: request.actor.unwrap_or_default().actor_id,
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[async_trait]
    impl ActorCalls for Echo {
        async fn call(
            &self,
            _: CallContext,
            request: InternalInvokeRequest,
        ) -> Result<InternalInvokeResponse, ApiError> {
            Ok(answer(request))
        }

        async fn call_stream(
            &self,
            _: CallContext,
            request: InternalInvokeRequest,
        ) -> Result<Outgoing<InternalInvokeResponse>, ApiError> {
            Ok(stream::iter([Ok(answer(request))]).boxed())
        }

        async fn remind(&self, _: CallContext, _: Reminder) -> Result<(), ApiError> {
            Ok(())
        }
    }

    fn client(
        calls: impl ActorCalls + 'static,
    ) -> Client<
        impl tonic::client::GrpcService<
            tonic::body::Body,
            ResponseBody = tonic::body::Body,
            Error: Into<tonic::codegen::StdError>,
        >,
    > {
        let meter = Meter::new(&prometheus::Registry::new(), MetricOptions::default()).unwrap();
        let actors = Actors {
            calls: Arc::new(calls),
            serving: Serving {
                max_message: 1 << 20,
                errors: ErrorCodes::new(&meter, false),
            },
        };
        Client::new(tower::service_fn(
            move |request: http::Request<tonic::body::Body>| {
                let answer = actors.clone().handle(request.map(body::streamed));
                async move { Ok::<_, Infallible>(answer.await) }
            },
        ))
    }

    fn request() -> InternalInvokeRequest {
        InternalInvokeRequest {
            actor: Some(Actor {
                actor_type: "kind".to_owned(),
                actor_id: "1".to_owned(),
            }),
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn calls_of_actors_reach_their_runtime() {
        let mut client = client(Echo);
        let reply = client.call_actor(request()).await.unwrap();
        assert_eq!(reply.into_inner(), answer(request()));
        let reply = client.call_actor_stream(request()).await.unwrap();
        let first = reply.into_inner().message().await.unwrap();
        assert_eq!(first, Some(answer(request())));
        client
            .call_actor_reminder(Reminder::default())
            .await
            .unwrap();
    }
}
