//! Dapr resources on their way to sidecars: watched once for the whole process, kept as the JSON that is sent.

pub mod entry;
pub mod history;
pub mod informer;
pub mod kind;
pub mod queue;
pub mod secrets;

pub use entry::Entry;
pub use informer::{Informer, Subscription};
pub use kind::Kind;
pub use queue::EventType;

use std::net::SocketAddr;

/// Who asks: an app, over a connection.
#[derive(Clone, Debug)]
pub struct Caller {
    pub namespace: String,
    pub app_id: String,
    /// Tells the calls of one sidecar from those of its replicas.
    pub connection: Option<SocketAddr>,
    /// Whether it compares what it is told by the versions of the objects.
    pub versioned: bool,
}
