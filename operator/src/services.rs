//! A Service for every app: `<app-id>-dapr`, through which sidecars find each other and metrics are scraped
//! (contract 5.2). The leader keeps them as Deployments, StatefulSets and, if wanted, Argo Rollouts ask for.

mod desired;
mod existing;
mod queue;
mod reconciler;
mod workload;

pub use reconciler::{DEFAULT_RESYNC, Options, run};
