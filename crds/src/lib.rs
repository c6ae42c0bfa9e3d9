//! The seven Dapr resources (contract 3): one set of types serves cluster objects, the JSON that the
//! operator sends to sidecars, and resource files on disk. The CRD files next to this crate's
//! manifest are printed from the same types, so that a field is written down exactly once.
//!
//! Types parse leniently (unknown fields are ignored, absent required fields get their zero value,
//! `null` means absent); what a value *means* is compiled by the part that uses it.
#![deny(missing_docs)]

mod conform;
mod lenient;
mod object;
mod resource;

pub mod component;
pub mod configuration;
pub mod definitions;
pub mod files;
pub mod http_endpoint;
pub mod mcp_server;
pub mod name_value;
pub mod resiliency;
pub mod schema;
pub mod subscription;
pub mod workflow_access_policy;

pub use component::Component;
pub use configuration::Configuration;
pub use files::Resource;
pub use http_endpoint::HttpEndpoint;
pub use mcp_server::McpServer;
pub use name_value::{DynamicValue, NameValuePair, SecretKeyRef};
pub use resiliency::Resiliency;
pub use resource::{Auth, GROUP, Kind};
pub use subscription::Subscription;
pub use workflow_access_policy::WorkflowAccessPolicy;
