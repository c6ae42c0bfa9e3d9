//! The operations of the API: the table that drives routing, access lists, metric names, logs and documentation, and the
//! `Api` whose methods they are. The rows of a block stand beside its operations.

pub mod actors;
pub mod bindings;
pub mod configuration;
pub mod health;
pub mod invoke;
pub mod jobs;
pub mod lock;
pub mod metadata;
pub mod pubsub;
pub mod secrets;
pub mod shutdown;
pub mod state;
pub mod subscribe;
pub mod workflow;

use std::sync::Arc;

use telemetry::ErrorCodes;

use crate::{grpc::Serving, http::Codec};

/// What the API is made of: the blocks and engines it calls.
pub struct Options {
    pub app_id: String,
    pub namespace: String,
    pub state: blocks::state::Stores,
    pub secrets: blocks::secrets::Stores,
    pub lock: blocks::lock::Stores,
    pub configuration: ::configuration::Engine,
    pub pubsub: ::pubsub::Engine,
    pub bindings: ::bindings::Engine,
    pub invoker: ::invoke::Invoker,
    pub jobs: Arc<dyn ::jobs::Scheduling>,
    pub actors: ::actors::Engine,
    pub actor_state: ::actors::state::State,
    pub reminders: ::actors::reminders::Reminders,
    pub workflow: ::workflow::Engine,
    pub completions: ::workflow::workers::Completions,
    pub inventory: Arc<dyn metadata::Inventory>,
    pub health: Arc<dyn health::Readiness>,
    pub shutdown: shutdown::Trigger,
    /// Largest gRPC message in bytes, either way.
    pub max_message: usize,
    /// Counts the failures that both front ends answer.
    pub errors: ErrorCodes,
}

/// The operations of the sidecar.
pub struct Api {
    pub(crate) options: Options,
    extended: metadata::Extended,
}

impl Api {
    pub fn new(options: Options) -> Self {
        Self {
            options,
            extended: metadata::Extended::default(),
        }
    }

    pub(crate) fn serving(&self) -> Serving {
        Serving {
            max_message: self.options.max_message,
            errors: self.options.errors.clone(),
        }
    }
}

/// One operation: what it is called, and where it is reached.
pub struct Operation {
    /// Name in logs, metrics and documentation.
    pub name: &'static str,
    /// Name of the access rules that cover it (contract 10.6).
    pub group: &'static str,
    /// RPCs of the `Dapr` service.
    pub rpcs: &'static [Rpc],
    /// HTTP routes.
    pub routes: &'static [Route],
    /// Health checks may be left out of the API log and need no token.
    pub health_check: bool,
    /// Served on the public port too.
    pub public: bool,
}

/// An RPC of an operation.
pub struct Rpc {
    /// Its name in the `Dapr` service.
    pub name: &'static str,
    /// Its path on the wire.
    pub path: &'static str,
    /// The version that access rules name.
    pub version: &'static str,
    pub shape: Shape,
    /// Decodes the request, calls the operation, encodes the reply.
    pub codec: crate::grpc::Codec,
}

/// Which sides of an RPC stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Unary,
    ServerStream,
    Bidirectional,
}

/// The row of an RPC, of the shape that stands before its name; unary without one. The operation takes the context of the call
/// and the message, or the stream of messages; it answers a message, a [`crate::Reply`], or a stream of messages.
macro_rules! rpc {
    (server_stream $name:literal, $version:literal, $operation:ident) => {
        $crate::operations::rpc!(@ ServerStream server_stream $name, $version, $operation)
    };
    (bidirectional $name:literal, $version:literal, $operation:ident) => {
        $crate::operations::rpc!(@ Bidirectional bidirectional $name, $version, $operation)
    };
    ($name:literal, $version:literal, $operation:ident) => {
        $crate::operations::rpc!(@ Unary unary $name, $version, $operation)
    };
    (@ $shape:ident $serve:ident $name:literal, $version:literal, $operation:ident) => {
        $crate::operations::rpc!(
            @ "/dapr.proto.runtime.v1.Dapr/", $shape $serve $name, $version, $operation
        )
    };
    (@ $service:literal, $shape:ident $serve:ident $name:literal, $version:literal, $operation:ident) => {
        $crate::operations::Rpc {
            name: $name,
            path: concat!($service, $name),
            version: $version,
            shape: $crate::operations::Shape::$shape,
            codec: |api, request| {
                Box::pin($crate::grpc::$serve(
                    api.serving(),
                    request,
                    move |call, message| async move { api.$operation(&call, message).await },
                ))
            },
        }
    };
}
pub(crate) use rpc;

/// An HTTP route of an operation.
pub struct Route {
    pub methods: &'static [&'static str],
    /// Path with `{parameters}`; a last `{*parameter}` takes the rest.
    pub path: &'static str,
    /// Decodes the request, calls the operation, encodes the reply.
    pub codec: Codec,
}

impl Route {
    /// The version that access rules name: `v1` for `/v1.0/...`, `v1alpha1` for `/v1.0-alpha1/...`.
    pub fn version(&self) -> &'static str {
        match self.path.split('/').nth(1) {
            Some("v1.0-alpha1") => "v1alpha1",
            Some("v1.0-alpha2") => "v1alpha2",
            Some("v1.0-beta1") => "v1beta1",
            _ => "v1",
        }
    }
}

impl Operation {
    const fn new(
        name: &'static str,
        group: &'static str,
        rpcs: &'static [Rpc],
        routes: &'static [Route],
    ) -> Self {
        Self {
            name,
            group,
            rpcs,
            routes,
            health_check: false,
            public: false,
        }
    }
}

/// Every operation.
pub fn all() -> impl Iterator<Item = &'static Operation> {
    [
        state::ROWS,
        pubsub::ROWS,
        subscribe::ROWS,
        secrets::ROWS,
        bindings::ROWS,
        configuration::ROWS,
        lock::ROWS,
        invoke::ROWS,
        jobs::ROWS,
        actors::ROWS,
        metadata::ROWS,
        health::ROWS,
        shutdown::ROWS,
        workflow::ROWS,
    ]
    .into_iter()
    .flatten()
}

/// Paths of the RPCs that stream, on either side.
pub fn streams() -> impl Iterator<Item = &'static str> {
    let rpcs = all().flat_map(|operation| operation.rpcs);
    rpcs.chain(workflow::task_hub::RPCS)
        .filter(|rpc| rpc.shape != Shape::Unary)
        .map(|rpc| rpc.path)
}

/// RPCs of the `Dapr` service whose block is not built yet: they answer Unimplemented.
pub static PLANNED: &[&str] = &[
    "EncryptAlpha1",
    "DecryptAlpha1",
    "SubtleGetKeyAlpha1",
    "SubtleEncryptAlpha1",
    "SubtleDecryptAlpha1",
    "SubtleWrapKeyAlpha1",
    "SubtleUnwrapKeyAlpha1",
    "SubtleSignAlpha1",
    "SubtleVerifyAlpha1",
    "ConverseAlpha1",
    "ConverseAlpha2",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_rpc_has_one_row() {
        let pool = prost_reflect::DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
        let service = pool
            .get_service_by_name("dapr.proto.runtime.v1.Dapr")
            .unwrap();
        let wire: BTreeSet<String> = service.methods().map(|m| m.name().to_owned()).collect();
        let mut rows: Vec<&str> = all()
            .flat_map(|operation| operation.rpcs.iter().map(|rpc| rpc.name))
            .chain(PLANNED.iter().copied())
            .collect();
        rows.sort_unstable();
        let unique: BTreeSet<String> = rows.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(unique.len(), rows.len(), "an RPC stands in two rows");
        assert_eq!(unique, wire);
        for rpc in all().flat_map(|operation| operation.rpcs) {
            let method = service.methods().find(|method| method.name() == rpc.name);
            let method = method.unwrap();
            let shape = match (method.is_client_streaming(), method.is_server_streaming()) {
                (false, false) => Shape::Unary,
                (false, true) => Shape::ServerStream,
                _ => Shape::Bidirectional,
            };
            assert_eq!(rpc.shape, shape, "{}", rpc.name);
            assert_eq!(rpc.path, format!("/{}/{}", service.full_name(), rpc.name));
        }
    }

    #[test]
    fn every_route_is_found_again() {
        let routes = crate::http::Routes::new(all(), &|_, _| true);
        for operation in all() {
            for route in operation.routes {
                let path = route.path.replace("{*", "{").replace(['{', '}'], "");
                for method in route.methods {
                    let matched = routes.find(method, &path).unwrap();
                    assert_eq!(matched.operation.name, operation.name, "{method} {path}");
                }
            }
        }
    }
}
