//! The harness: one type per program, run as the real binary, plus a test app, certificates, and ways to
//! wait and to compare. It panics with what went wrong, because its only callers are tests, and it knows
//! nothing of the product but its wire: the suites stay true if the inside changes.
//!
//! Binaries are looked for beside the test executable (`target/<profile>/`); `DAPR_E2E_DAPRD_PATH` and its
//! like name others. A program that a failing test leaves behind has its logs printed and its folder kept.

#![allow(
    clippy::print_stderr,
    clippy::missing_panics_doc,
    reason = "the harness reports to the test runner, by panicking and on the captured standard error"
)]

pub mod app;
pub mod ca;
pub mod cluster;
pub mod daprd;
pub mod etcd;
pub mod golden;
pub mod http;
pub mod injector;
pub mod mesh;
pub mod operator;
pub mod placement;
pub mod process;
pub mod redis;
pub mod resources;
pub mod scheduler;
pub mod sdk;
pub mod sentry;
pub mod serve;
pub mod service;
pub mod turns;
pub mod wait;
pub mod worker;

pub use app::App;
pub use ca::Ca;
pub use cluster::Cluster;
pub use component_conformance::{ports, proxy};
pub use daprd::Daprd;
pub use etcd::Etcd;
pub use injector::Injector;
pub use operator::Operator;
pub use placement::Placement;
pub use scheduler::Scheduler;
pub use sentry::Sentry;
pub use worker::Worker;
