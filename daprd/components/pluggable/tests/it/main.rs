//! Components in servers of their own on sockets, found by reflection and driven through the catalog.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod discovery;
mod pubsub;
mod queue;
mod server;
mod state;
mod store;
