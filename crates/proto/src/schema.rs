//! The generated code in the module tree that prost's relative paths expect: one module per package
//! segment, and the messages without a package at the root.

#![allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::disallowed_methods,
    rustdoc::all,
    reason = "generated from the proto files, which carry the documentation"
)]

include!(concat!(env!("OUT_DIR"), "/_.rs"));

macro_rules! packages {
    ($($package:ident = $file:literal),* $(,)?) => {
        $(pub mod $package {
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/", $file, ".rs"));
            }
        })*
    };
}

pub(crate) mod dapr {
    pub mod proto {
        packages! {
            common = "dapr.proto.common.v1",
            components = "dapr.proto.components.v1",
            internals = "dapr.proto.internals.v1",
            operator = "dapr.proto.operator.v1",
            placement = "dapr.proto.placement.v1",
            runtime = "dapr.proto.runtime.v1",
            scheduler = "dapr.proto.scheduler.v1",
            sentry = "dapr.proto.sentry.v1",
            workflows = "dapr.proto.workflows.v1",
        }
    }
}

pub(crate) mod daprrust {
    packages! {
        cron = "daprrust.cron.v1",
        operator = "daprrust.operator.v1",
        placement = "daprrust.placement.v1",
    }
}

pub(crate) mod durabletask {
    pub mod protos {
        packages! {
            backend = "durabletask.protos.backend.v1",
        }
    }
}

pub(crate) mod etcd {
    pub mod mvccpb {
        include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
    }

    pub mod etcdserverpb {
        include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
    }
}
