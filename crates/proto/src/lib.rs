//! The wire types of Dapr, compiled from our own proto files.
//!
//! Modules mirror the packages (contract 1). `bytes` fields are [`bytes::Bytes`], maps are ordered, so
//! that the same message always has the same bytes. Clients and servers come from tonic.

#![deny(missing_docs)]

mod schema;

pub mod json;
pub mod time;

pub use schema::dapr::proto::{
    common, components, internals, operator, placement, runtime, scheduler, sentry, workflows,
};

/// What our programs say to each other beyond what upstream's do; those know no such calls.
pub mod extensions {
    pub use crate::schema::daprrust::{operator, placement};

    /// A sidecar that leaves a stream of jobs gives back what still comes on it. Q-job-leave
    pub mod jobs {
        /// Metadata of a scheduler's answer to `WatchJobs`: it knows [`UNDELIVERED`].
        pub const TAKES_BACK: &str = "dapr-jobs-take-back";

        /// Status of a result: the job was not handed on, and no other comes on this stream. Of the id 0 it is of no job.
        pub const UNDELIVERED: i32 = 1000;
    }
}

/// What the scheduler stores, by upstream's field numbers.
pub use schema::daprrust::cron::v1 as cron;

/// The part of etcd's API that the scheduler serves for its store, or asks of an etcd (contract 8.2).
pub mod etcd {
    pub use crate::schema::etcd::{
        etcdserverpb as rpc,
        mvccpb::{Event, KeyValue, event::EventType},
    };
}

/// The durable-task protocol (contract 11). Its packages differ from their place here: the service and
/// its messages have none, so the path on the wire is `/TaskHubSidecarService/<Method>`.
pub mod durabletask {
    pub use crate::schema::durabletask::protos::backend;
    pub use crate::schema::*;
}

/// Domain of every `google.rpc.ErrorInfo` of Dapr's.
pub const ERROR_DOMAIN: &str = "dapr.io";

/// The encoded `google.protobuf.FileDescriptorSet` of every file of this crate and of the well-known
/// types, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
