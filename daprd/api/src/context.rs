//! What an operation knows of the call besides its request.

use telemetry::trace::TraceContext;

/// Which front end the call came through. Operations read it only under a `Compat:` comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Http,
    Grpc,
}

/// The circumstances of a call.
#[derive(Clone, Debug)]
pub struct CallContext {
    pub transport: Transport,
    /// The trace that the call belongs to, if tracing is on or the caller sent one.
    pub trace: Option<TraceContext>,
}
