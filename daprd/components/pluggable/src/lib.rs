//! Pluggable components: processes of their own that serve a component over gRPC on a unix socket (contract 15). The
//! sockets of one folder are looked at once, at start; each becomes a type of the catalog. State stores are known.

mod discovery;
mod failure;
mod socket;
pub mod state;

pub use discovery::discover;
