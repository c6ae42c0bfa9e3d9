//! What the control plane stands on in a cluster, beside `kube`, which does the protocol: configuration, TLS, requests,
//! lists in pages, watches that go on where they broke off. What `kube` leaves open is here:
//!
//! - **Deadlines** ([`client`]): its client waits for an answer without end, and for the rest of one.
//! - **What is known** ([`Reflector`], [`Store`]): its watcher says neither that a broken watch is established again nor
//!   that a kind is unknown or refused; it asks on with a version that is gone if the refusal is a status instead of an
//!   event, or that a restored server has not reached yet; it opens a watch that ends at once again without a pause;
//!   and its store takes an old event for a new one.
//! - **Leadership** ([`leadership`]) by the rules of client-go, and **registrations** ([`registration`]) that stay as they
//!   should be.
//! - **Whose a field is** ([`apply`]): what is taken over from others is said.
#![deny(missing_docs)]

mod apply;
pub mod client;
mod cluster;
mod deadline;
pub mod elector;
mod eviction;
mod excerpt;
pub mod leadership;
pub mod owner;
mod reflector;
pub mod registration;
pub mod resolver;
mod store;

pub use apply::apply;
pub use client::connect;
pub use cluster::Cluster;
pub use eviction::evict;
pub use reflector::{Reflector, Signal};
pub use store::{Change, Key, State, Store};
pub use values::is_object_name as is_name;
