//! The product on a real Kubernetes: installed with Helm from `charts/dapr`, with the images that `make images` packs.
//! Which cluster it is, the suite does not know (see `e2e/cluster`); `e2e/cluster/suite` starts one and runs this.
//! Every test has a namespace of its own. Those that restart or remove the control plane run while no other does.

#![allow(
    clippy::print_stderr,
    reason = "a failed test shows what the cluster's pods said"
)]

mod apps;
mod blocks;
mod boot;
mod chart;
mod crds;
mod identity;
mod injection;
mod installation;
mod kube;
mod reach;
mod reload;
mod remembering;
mod render;
mod replacing;
mod restart;
mod rights;
mod running;
mod scheduler;
mod schema;
mod uninstall;
