//! The gRPC front end: the `Dapr` service from the operations table, reflection, and everything unknown proxied to another
//! app. It decides nothing.

mod internal;
mod server;
mod service;

use std::sync::Arc;

use component::Body;
use futures::future::BoxFuture;

use crate::Api;

pub use internal::{ActorCalls, Internal};
pub use server::{Options, Server};
pub use service::{Began, Incoming, Outgoing, Serving, bidirectional, server_stream, unary};

/// The response of a gRPC call, trailers included.
pub type Response = http::Response<tonic::body::Body>;

/// Decodes a request, calls an operation, encodes its reply.
pub type Codec = fn(Arc<Api>, http::Request<Body>) -> BoxFuture<'static, Response>;
