//! The sidecar's own work: what is named `dapr.internal.` (contract 11.5) is done by the sidecar and never given to the app.

use std::sync::Arc;

use async_trait::async_trait;
use proto::durabletask::{
    ActivityRequest, ActivityResponse, HistoryEvent, WorkflowRequest, WorkflowResponse,
    history_event::EventType,
};

use super::{Lost, Shared, Workers};
use crate::names::PREFIX;

/// Does work in the sidecar itself.
#[async_trait]
pub trait InProcess: Send + Sync {
    /// A turn, with all of its history.
    ///
    /// # Errors
    /// [`Lost`] where the sidecar ends.
    async fn workflow(&self, request: WorkflowRequest) -> Result<WorkflowResponse, Lost>;

    /// An activity.
    ///
    /// # Errors
    /// As [`InProcess::workflow`].
    async fn activity(&self, request: ActivityRequest) -> Result<ActivityResponse, Lost>;
}

impl Workers {
    /// Who does the sidecar's own work: the first one that says so.
    pub fn serve_in_process(&self, worker: Arc<dyn InProcess>) {
        // There is one.
        let _ = self.0.in_process.set(worker);
    }

    /// Whether there is anything that the sidecar does itself.
    pub fn set_in_process(&self, there: bool) {
        self.0.change(|state| state.in_process = there);
    }
}

pub(super) fn worker(shared: &Shared) -> Result<&Arc<dyn InProcess>, Lost> {
    shared.in_process.get().ok_or(Lost)
}

pub(super) fn is_own(name: &str) -> bool {
    name.starts_with(PREFIX)
}

pub(super) fn is_own_turn(request: &WorkflowRequest, past: &[HistoryEvent]) -> bool {
    let mut events = past.iter().chain(&request.new_events);
    let name = events.find_map(|event| match event.event_type.as_ref()? {
        EventType::ExecutionStarted(started) => Some(started.name.as_str()),
        _ => None,
    });
    name.is_some_and(is_own)
}
