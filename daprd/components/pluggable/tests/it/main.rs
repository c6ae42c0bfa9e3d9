//! Components in servers of their own on sockets, found by reflection and driven through the catalog.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod bindings;
mod discovery;
mod pubsub;
mod queue;
mod secrets;
mod server;
mod source;
mod state;
mod store;
