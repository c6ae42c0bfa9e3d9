//! Limits and retention of workflows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lenient;

/// Limits of workflows. A limit that is left out, zero or negative is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Workflow {
    /// Workflows that one sidecar runs at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrent_workflow_invocations: Option<i32>,
    /// Activities that one sidecar runs at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrent_activity_invocations: Option<i32>,
    /// Workflows that all replicas run at once; kept by the scheduler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_max_concurrent_workflow_invocations: Option<i32>,
    /// Activities that all replicas run at once; kept by the scheduler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_max_concurrent_activity_invocations: Option<i32>,
    /// Limits of single workflows over all replicas; kept by the scheduler.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "lenient::or_default"
    )]
    pub workflow_concurrency_limits: Vec<NamedLimit>,
    /// Limits of single activities over all replicas; kept by the scheduler.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "lenient::or_default"
    )]
    pub activity_concurrency_limits: Vec<NamedLimit>,
    /// When the state of ended instances is deleted; never when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_retention_policy: Option<StateRetention>,
}

/// The limit of one workflow or activity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NamedLimit {
    /// Name of the workflow or activity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How many may run at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrent: Option<i32>,
}

/// How long the state of ended instances is kept, as Go durations: `0s` deletes at once, a state that
/// is left out is kept. The entry of a state goes before `anyTerminal`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct StateRetention {
    /// Instances that ended in any way.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub any_terminal: Option<String>,
    /// Instances that completed.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub completed: Option<String>,
    /// Instances that failed.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub failed: Option<String>,
    /// Instances that were terminated.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub terminated: Option<String>,
}
