//! The gRPC front end: the `Dapr` service from the operations table, reflection, and everything unknown proxied to another
//! app. It decides nothing.

pub mod invoke;
mod server;
pub mod subscribe;

use std::{future::Future, marker::PhantomData, sync::Arc};

use component::Body;
use futures::future::BoxFuture;
use tonic::server::UnaryService;
use tonic_prost::ProstCodec;

use crate::{Api, ApiError, CallContext, Transport};

pub use server::{Options, Server};

/// The response of a gRPC call, trailers included.
pub type Response = http::Response<tonic::body::Body>;

/// Decodes a request, calls an operation, encodes its reply.
pub type Codec = fn(Arc<Api>, http::Request<Body>) -> BoxFuture<'static, Response>;

/// Path prefix of the `Dapr` service.
pub const DAPR_SERVICE: &str = "/dapr.proto.runtime.v1.Dapr/";

/// Serves a unary RPC by an operation.
pub async fn unary<Q, R, F, Fut>(
    api: Arc<Api>,
    request: http::Request<Body>,
    operation: F,
) -> Response
where
    Q: prost::Message + Default + 'static,
    R: prost::Message + Default + 'static,
    F: FnOnce(Arc<Api>, CallContext, Q) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<R, ApiError>> + Send + 'static,
{
    let limit = api.max_message();
    let call = context(&request);
    let service = Unary {
        api,
        call,
        operation,
        message: PhantomData,
    };
    let mut grpc = tonic::server::Grpc::new(ProstCodec::<R, Q>::default())
        .apply_max_message_size_config(Some(limit), Some(limit));
    grpc.unary(service, request).await
}

/// The context of a gRPC call: the layers have left the trace in the extensions.
pub fn context<T>(request: &http::Request<T>) -> CallContext {
    CallContext {
        transport: Transport::Grpc,
        trace: request.extensions().get().cloned(),
    }
}

struct Unary<F, Q> {
    api: Arc<Api>,
    call: CallContext,
    operation: F,
    message: PhantomData<fn(Q)>,
}

impl<Q, R, F, Fut> UnaryService<Q> for Unary<F, Q>
where
    F: FnOnce(Arc<Api>, CallContext, Q) -> Fut + Clone,
    Fut: Future<Output = Result<R, ApiError>> + Send + 'static,
{
    type Response = R;
    type Future = BoxFuture<'static, Result<tonic::Response<R>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<Q>) -> Self::Future {
        let operation = self.operation.clone();
        let reply = operation(
            Arc::clone(&self.api),
            self.call.clone(),
            request.into_inner(),
        );
        Box::pin(async move {
            match reply.await {
                Ok(reply) => Ok(tonic::Response::new(reply)),
                Err(error) => Err(error.into_status()),
            }
        })
    }
}
