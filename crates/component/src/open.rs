//! What a component is opened with: its name, its metadata, and the sidecar it runs in.

use std::{future::Future, pin::Pin, sync::Arc};

use values::{Clock, SystemClock};

use crate::{
    Metadata, Scope,
    outgoing::{HttpClients, Identity, Nothing},
};

/// Runs a component's background loops. The program implements it with the tracker that it drains at shutdown, so that
/// every task has an owner that can stop it.
pub trait Spawn: Send + Sync {
    /// Runs `task` to its end; `name` appears in logs.
    fn spawn(&self, name: &str, task: Pin<Box<dyn Future<Output = ()> + Send>>);

    /// The component is open: loops that begin from now on are those of calls and subscriptions, and end with them.
    fn opened(&self) {}
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
    /// Port of the app; 0 where it has none.
    pub app_port: u16,
    /// Port of the HTTP API.
    pub http_port: u16,
    /// Port of the gRPC API.
    pub grpc_port: u16,
}

/// What the sidecar lends to all components.
#[derive(Clone)]
pub struct Lent {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// HTTP clients.
    pub http: Arc<dyn HttpClients>,
    /// Who the workload is.
    pub identity: Arc<dyn Identity>,
}

/// The time of the machine, and nothing else.
impl Default for Lent {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            http: Arc::new(Nothing),
            identity: Arc::new(Nothing),
        }
    }
}

/// The arguments of a component's constructor.
pub struct Open {
    /// Name of the component resource.
    pub name: String,
    /// Decoded metadata; secrets and templates are resolved.
    pub metadata: Metadata,
    /// The sidecar it runs in.
    pub instance: Arc<Instance>,
    /// Its life: where its background loops run, and with which they end.
    pub scope: Scope,
    /// Where loops run that have a life of their own.
    pub tasks: Arc<dyn Spawn>,
    /// What it may use of the sidecar.
    pub lent: Lent,
}

impl Open {
    /// For the component `name`.
    pub fn new(
        name: &str,
        metadata: Metadata,
        instance: Arc<Instance>,
        tasks: Arc<dyn Spawn>,
        lent: Lent,
    ) -> Self {
        Self {
            name: name.to_owned(),
            metadata,
            instance,
            scope: Scope::new(name, Arc::clone(&tasks)),
            tasks,
            lent,
        }
    }
}
