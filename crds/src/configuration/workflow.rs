//! Limits and retention of workflows.

use macro_rules_attribute::apply;

use crate::object::object;

/// Limits of workflows. A limit that is left out, zero or negative is no limit.
#[apply(object)]
pub struct Workflow {
    /// Workflows that one sidecar runs at once.
    pub max_concurrent_workflow_invocations: Option<i32>,
    /// Activities that one sidecar runs at once.
    pub max_concurrent_activity_invocations: Option<i32>,
    /// Workflows that all replicas run at once; kept by the scheduler.
    pub global_max_concurrent_workflow_invocations: Option<i32>,
    /// Activities that all replicas run at once; kept by the scheduler.
    pub global_max_concurrent_activity_invocations: Option<i32>,
    /// Limits of single workflows over all replicas; kept by the scheduler.
    pub workflow_concurrency_limits: Vec<NamedLimit>,
    /// Limits of single activities over all replicas; kept by the scheduler.
    pub activity_concurrency_limits: Vec<NamedLimit>,
    /// When the state of ended instances is deleted; never when left out.
    pub state_retention_policy: Option<StateRetention>,
}

/// The limit of one workflow or activity.
#[apply(object)]
pub struct NamedLimit {
    /// Name of the workflow or activity.
    pub name: Option<String>,
    /// How many may run at once.
    pub max_concurrent: Option<i32>,
}

/// How long the state of ended instances is kept, as Go durations: `0s` deletes at once, a state that
/// is left out is kept. The entry of a state goes before `anyTerminal`.
#[apply(object)]
pub struct StateRetention {
    /// Instances that ended in any way.
    pub any_terminal: Option<String>,
    /// Instances that completed.
    pub completed: Option<String>,
    /// Instances that failed.
    pub failed: Option<String>,
    /// Instances that were terminated.
    pub terminated: Option<String>,
}
