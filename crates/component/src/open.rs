//! What a component is opened with: its name, its metadata, and the sidecar it runs in.

use std::{future::Future, pin::Pin, sync::Arc};

use crate::Metadata;

/// Runs a component's background loops. The program implements it with the tracker that it drains at shutdown, so that
/// every task has an owner that can stop it.
pub trait Spawn: Send + Sync {
    /// Runs `task` to its end; `name` appears in logs.
    fn spawn(&self, name: &str, task: Pin<Box<dyn Future<Output = ()> + Send>>);
}

/// The sidecar that components run in.
#[derive(Clone, Debug, Default)]
pub struct Instance {
    /// The app id.
    pub app_id: String,
    /// The namespace; empty where none is set.
    pub namespace: String,
    /// The address by which other sidecars reach this one, without a port.
    pub host_address: String,
    /// Port of the internal gRPC server; 0 before it is known.
    pub internal_port: u16,
    /// Port of the HTTP API.
    pub http_port: u16,
    /// Port of the gRPC API.
    pub grpc_port: u16,
}

/// The arguments of a component's constructor.
#[derive(Clone)]
pub struct Open {
    /// Name of the component resource.
    pub name: String,
    /// Decoded metadata; secrets and templates are resolved.
    pub metadata: Metadata,
    /// The sidecar it runs in.
    pub instance: Arc<Instance>,
    /// Where its background loops run.
    pub tasks: Arc<dyn Spawn>,
}
