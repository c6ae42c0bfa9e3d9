//! WorkflowAccessPolicy: which apps may do what with an app's workflows (contract 3.9).

use macro_rules_attribute::apply;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{lenient, object::object, resource::resource};

resource! {
    /// Rules for access to the workflows and activities of the apps in its scopes.
    WorkflowAccessPolicy: "WorkflowAccessPolicy", "workflowaccesspolicies", "v1alpha1", Spec, [scopes] scopes
}

/// The rules.
#[apply(object)]
pub struct Spec {
    /// Rules; what none of them allows is denied.
    #[schemars(length(max = 100))]
    pub rules: Vec<Rule>,
}

/// What some callers may do.
#[apply(object)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(has(self.workflows) && self.workflows.size() > 0) || (has(self.activities) && self.activities.size() > 0)",
    "message": "name at least one workflow or activity"
}]))]
pub struct Rule {
    /// Apps that the rule is about.
    #[schemars(length(min = 1, max = 100))]
    #[serde_with(skip_apply)]
    #[serde(deserialize_with = "lenient::or_default")]
    pub callers: Vec<Caller>,
    /// Workflows that the callers may use.
    #[schemars(length(max = 100))]
    pub workflows: Vec<WorkflowRule>,
    /// Activities that the callers may schedule.
    #[schemars(length(max = 100))]
    pub activities: Vec<ActivityRule>,
}

/// An app that calls.
#[apply(object)]
pub struct Caller {
    /// App ID of the caller.
    #[schemars(length(min = 1, max = 256))]
    #[serde(rename = "appID")]
    pub app_id: String,
}

/// Operations on workflows.
#[apply(object)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.requires) || self.requires.size() == 0 || (self.operations.size() == 1 && 'schedule' in self.operations)",
    "message": "requires needs schedule as the only operation"
}]))]
pub struct WorkflowRule {
    /// Name of the workflow, or a glob pattern.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// What the callers may do with it.
    #[schemars(length(min = 1, max = 8), extend("x-kubernetes-list-type" = "set"))]
    #[serde_with(skip_apply)]
    #[serde(deserialize_with = "lenient::or_default")]
    pub operations: Vec<Operation>,
    /// Events that must have come before, proven by signed history.
    #[schemars(length(max = 20))]
    pub requires: Vec<RequiredEvent>,
}

/// Activities that may be scheduled.
#[apply(object)]
pub struct ActivityRule {
    /// Name of the activity, or a glob pattern.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// Events that must have come before, proven by signed history.
    #[schemars(length(max = 20))]
    pub requires: Vec<RequiredEvent>,
}

/// An operation on a workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Start an instance.
    Schedule,
    /// End an instance.
    Terminate,
    /// Send an event to an instance.
    Raise,
    /// Suspend an instance.
    Pause,
    /// Go on with a suspended instance.
    Resume,
    /// Delete the state of an instance.
    Purge,
    /// Read the state of an instance.
    Get,
    /// Start again from a point in an instance's history.
    Rerun,
}

/// An event that must be part of the caller's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequiredEvent {
    /// What happened.
    pub event_type: EventType,
    /// Name of the workflow, activity or event.
    #[schemars(length(min = 1, max = 256))]
    #[serde(default)]
    pub name: String,
    /// App in which it happened.
    #[serde(rename = "appID", default)]
    #[schemars(length(min = 1, max = 256))]
    pub app_id: String,
}

/// What happened in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum EventType {
    /// An activity was started.
    #[serde(rename = "activity.started")]
    ActivityStarted,
    /// An activity ended.
    #[serde(rename = "activity.completed")]
    ActivityCompleted,
    /// A workflow was started.
    #[serde(rename = "workflow.started")]
    WorkflowStarted,
    /// A workflow ended.
    #[serde(rename = "workflow.completed")]
    WorkflowCompleted,
    /// An event was raised.
    #[serde(rename = "event.raised")]
    EventRaised,
}
