//! What a component is: one trait per kind that has an implementation, the metadata it is configured with,
//! its errors and capabilities, and the catalog that a program looks types up in.
//!
//! A component crate depends on this crate (and `values`, `tokens`) and on nothing else of the workspace; it exports
//! `pub fn register(catalog: &mut Catalog)`. No sockets and no tasks live here.
#![deny(missing_docs)]

pub mod bindings;
pub mod body;
pub mod capabilities;
pub mod catalog;
pub mod configuration;
pub mod error;
pub mod fields;
pub mod lifecycle;
pub mod lock;
pub mod metadata;
pub mod middleware;
pub mod names;
pub mod open;
pub mod outgoing;
pub mod pubsub;
pub mod query;
pub mod scope;
pub mod secrets;
pub mod state;

pub use bindings::{InputBinding, OutputBinding};
pub use body::{Body, BoxError};
pub use catalog::{Catalog, Family, Registration};
pub use configuration::Configuration;
pub use error::{Error, ErrorKind, Result};
pub use fields::Fields;
pub use lifecycle::Component;
pub use lock::Lock;
pub use metadata::Metadata;
pub use middleware::HttpMiddleware;
pub use names::NameResolver;
pub use open::{Instance, Lent, Open, Spawn};
pub use pubsub::PubSub;
pub use scope::Scope;
pub use secrets::SecretStore;
pub use state::StateStore;
