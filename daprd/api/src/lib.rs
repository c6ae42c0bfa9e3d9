//! The public API of the sidecar: operations (what is validated, called and answered) and two front ends, HTTP and gRPC,
//! that only decode, call and encode. The internal sidecar-to-sidecar server stands here too.

pub mod context;
pub mod error;
pub mod grpc;
pub mod http;
pub mod layers;
pub mod operations;
pub mod reason;
pub mod reply;

pub use context::{CallContext, Transport};
pub use error::ApiError;
pub use operations::{Api, Options};
pub use reason::Reason;
pub use reply::Reply;
