//! MCP servers as workflows: each MCPServer resource (contract 3.8, 11.5) is connected, its tools are asked for, and workflows that
//! run in the sidecar list them and call them, with the hooks of the resource around.

mod auth;
mod client;
mod endpoint;
mod error;
#[cfg(test)]
mod fake;
mod flow;
mod hooks;
mod names;
mod replay;
mod server;
mod servers;
mod validate;
mod worker;

pub use endpoint::Values;
pub use error::Error;
pub use servers::{Failed, Options, Servers};
