//! `InvokeService`: metadata of the caller go to the app, and those of its answer back, of an error too.

use std::sync::Arc;

use component::Body;
use futures::future::BoxFuture;
use proto::{common::v1::InvokeResponse, runtime::v1::InvokeServiceRequest};
use tonic::{Status, metadata::MetadataMap, server::UnaryService};
use tonic_prost::ProstCodec;

use super::{Response, context};
use crate::{Api, CallContext};

/// Serves the RPC.
pub async fn serve(api: Arc<Api>, request: http::Request<Body>) -> Response {
    let limit = api.max_message();
    let call = context(&request);
    let codec = ProstCodec::<InvokeResponse, InvokeServiceRequest>::default();
    let mut grpc =
        tonic::server::Grpc::new(codec).apply_max_message_size_config(Some(limit), Some(limit));
    grpc.unary(Invoke { api, call }, request).await
}

struct Invoke {
    api: Arc<Api>,
    call: CallContext,
}

impl UnaryService<InvokeServiceRequest> for Invoke {
    type Response = InvokeResponse;
    type Future = BoxFuture<'static, Result<tonic::Response<InvokeResponse>, Status>>;

    fn call(&mut self, request: tonic::Request<InvokeServiceRequest>) -> Self::Future {
        let (api, call) = (Arc::clone(&self.api), self.call.clone());
        Box::pin(async move {
            let (metadata, _, message) = request.into_parts();
            let reply = api
                .invoke_service(&call, message, metadata.into_headers())
                .await;
            let reply = reply.map_err(crate::ApiError::into_status)?;
            let metadata = MetadataMap::from_headers(reply.metadata);
            match reply.result {
                Ok(message) => Ok(tonic::Response::from_parts(
                    metadata,
                    message,
                    tonic::Extensions::default(),
                )),
                Err(mut status) => {
                    *status.metadata_mut() = metadata;
                    Err(status)
                }
            }
        })
    }
}
