//! What a history comes to: whether the workflow has begun, ended, is suspended or stalled, and what has been resolved.

use std::collections::HashSet;

use prost_types::Timestamp;
use proto::durabletask::{
    ExecutionCompletedEvent, ExecutionStalledEvent, ExecutionStartedEvent, HistoryEvent,
    OrchestrationStatus as Status, backend::v1::WorkflowMetadata, history_event::EventType,
};

use super::{
    event,
    resolution::{self, Resolution},
};

/// The sum of a history, event by event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fold {
    pub start: Option<ExecutionStartedEvent>,
    pub completed: Option<ExecutionCompletedEvent>,
    pub suspended: bool,
    pub stalled: Option<ExecutionStalledEvent>,
    first_at: Option<Timestamp>,
    created_at: Option<Timestamp>,
    updated_at: Option<Timestamp>,
    completed_at: Option<Timestamp>,
    /// The name of the version that the first turn ran.
    version: Option<String>,
    turns: usize,
    resolved: HashSet<Resolution>,
}

impl Fold {
    pub fn of<'e>(events: impl IntoIterator<Item = &'e HistoryEvent>) -> Self {
        let mut fold = Self::default();
        for event in events {
            fold.add(event);
        }
        fold
    }

    /// Adds an event. False where it says again what has been said, and has no place in the history.
    pub fn add(&mut self, event: &HistoryEvent) -> bool {
        match &event.event_type {
            Some(EventType::ExecutionStarted(start)) => {
                if self.start.is_some() {
                    return false;
                }
                self.start = Some(start.clone());
                self.created_at = event.timestamp;
            }
            Some(EventType::ExecutionCompleted(completed)) => {
                if self.completed.is_some() {
                    return false;
                }
                self.completed = Some(completed.clone());
                self.completed_at = event.timestamp;
            }
            Some(EventType::ExecutionSuspended(_)) => self.suspended = true,
            Some(EventType::ExecutionResumed(_)) => self.suspended = false,
            _ => {}
        }
        if let Some(resolution) = resolution::of(event)
            && !self.resolved.insert(resolution)
        {
            return false;
        }
        self.stalled = match &event.event_type {
            Some(EventType::ExecutionStalled(stalled)) => Some(stalled.clone()),
            _ => None,
        };
        if let Some(started) = event::workflow_started(event) {
            if self.turns == 0 {
                let version = started.version.as_ref();
                self.version = version.and_then(|version| version.name.clone());
            }
            self.turns += 1;
        }
        self.first_at = self.first_at.or(event.timestamp);
        self.updated_at = event.timestamp;
        true
    }

    pub fn is_resolved(&self, resolution: Resolution) -> bool {
        self.resolved.contains(&resolution)
    }

    /// Takes back that something is resolved.
    pub fn forget(&mut self, resolution: Resolution) {
        self.resolved.remove(&resolution);
    }

    pub fn is_completed(&self) -> bool {
        self.completed.is_some()
    }

    /// When it ended.
    pub fn completed_at(&self) -> Option<Timestamp> {
        self.completed_at
    }

    pub fn status(&self) -> Status {
        let completed = self.completed.as_ref();
        match completed.map(|completed| completed.workflow_status()) {
            Some(status) => status,
            None if self.stalled.is_some() => Status::Stalled,
            None if self.start.is_none() => Status::Pending,
            None if self.suspended => Status::Suspended,
            None => Status::Running,
        }
    }

    /// What others are told of the instance. `pending`: its start, where that is not in the history yet.
    pub fn summary(
        &self,
        instance: &str,
        custom_status: Option<&str>,
        pending: Option<&ExecutionStartedEvent>,
    ) -> WorkflowMetadata {
        let start = self.start.as_ref().or(pending);
        let parent = start.and_then(|start| start.parent_instance.as_ref());
        let completed = self.completed.as_ref();
        let parent_app = parent.and_then(|parent| parent.app_id.clone());
        WorkflowMetadata {
            instance_id: instance.to_owned(),
            name: start.map(|start| start.name.clone()).unwrap_or_default(),
            runtime_status: self.status().into(),
            created_at: Some(self.created_at.unwrap_or(NEVER)),
            last_updated_at: Some(
                self.updated_at
                    .filter(|_| self.start.is_some())
                    .unwrap_or(NEVER),
            ),
            input: self.start.as_ref().and_then(|start| start.input.clone()),
            output: completed.and_then(|completed| completed.result.clone()),
            custom_status: custom_status.map(str::to_owned),
            failure_details: completed.and_then(|completed| completed.failure_details.clone()),
            completed_at: Some(self.completed_at.unwrap_or(NEVER)),
            parent_instance_id: parent
                .and_then(|parent| parent.workflow_instance.as_ref())
                .map(|parent| parent.instance_id.clone())
                .unwrap_or_default(),
            version: self.version.clone(),
            parent_app_id: parent_app.filter(|id| !id.is_empty()),
            started_at: self.first_at,
        }
    }
}

/// What stands for a time that has not come: Go's zero time.
const NEVER: Timestamp = Timestamp {
    seconds: -62_135_596_800,
    nanos: 0,
};

/// Whether an instance has ended.
pub fn has_ended(metadata: &WorkflowMetadata) -> bool {
    matches!(
        metadata.runtime_status(),
        Status::Completed | Status::Failed | Status::Terminated | Status::Canceled
    )
}
