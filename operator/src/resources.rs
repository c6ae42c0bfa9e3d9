//! Dapr resources on their way to sidecars: watched once for the whole process, kept as the JSON that is sent.

pub mod entry;
pub mod informer;
pub mod kind;
pub mod queue;
pub mod secrets;

pub use entry::Entry;
pub use informer::{Informer, Subscription};
pub use kind::Kind;
pub use queue::EventType;
