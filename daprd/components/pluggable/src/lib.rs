//! Pluggable components: processes of their own that serve a component over gRPC on a unix socket (contract 15). The
//! sockets of one folder are looked at once, at start; each becomes a type of the catalog for every kind that it serves.

pub mod bindings;
mod discovery;
mod exchange;
mod failure;
mod handle;
mod held;
pub mod pubsub;
pub mod secrets;
mod service;
mod socket;
pub mod state;

pub use discovery::discover;
