//! What is read from work items and answers, and what is left out of them.

use std::sync::Arc;

use prost::Message;
use proto::durabletask::{
    ActivityRequest, ActivityResponse, CachedHistory, HistoryEvent, OrchestrationStatus,
    TaskFailureDetails, WorkflowRequest, WorkflowResponse, history_event::EventType,
    work_item::Request, workflow_action::WorkflowActionType,
};

use super::warm::Past;

/// An item, and the past of a turn, which is long and not copied before a worker wants it.
pub struct Item {
    pub request: Request,
    pub past: Arc<Vec<HistoryEvent>>,
}

/// What a worker is sent that has the first `cached` events of the past.
pub fn without(item: Item, cached: usize) -> Request {
    let Item { mut request, past } = item;
    if let Request::WorkflowRequest(request) = &mut request {
        let events = cached.min(past.len());
        request.past_events = past[events..].to_vec();
        if cached > 0 {
            request.cached_history = Some(CachedHistory {
                event_count: i32::try_from(events).unwrap_or(i32::MAX),
            });
        }
    }
    request
}

/// The past that a turn has, where the run is known that it is of.
pub fn past(request: &WorkflowRequest, past: &[HistoryEvent]) -> Option<Past> {
    let said = request.execution_id.clone();
    let events = past.iter().chain(&request.new_events);
    let begun = || {
        events
            .filter_map(|event| match event.event_type.as_ref()? {
                EventType::ExecutionStarted(started) => started.workflow_instance.as_ref(),
                _ => None,
            })
            .find_map(|instance| instance.execution_id.clone())
    };
    Some(Past {
        execution: said.or_else(begun)?,
        events: past.len(),
    })
}

/// Whether the instance has ended with this turn.
pub fn is_over(response: &WorkflowResponse) -> bool {
    let mut actions = response.actions.iter();
    actions.any(|action| match &action.workflow_action_type {
        Some(WorkflowActionType::CompleteWorkflow(complete)) => {
            complete.workflow_status() != OrchestrationStatus::ContinuedAsNew
        }
        _ => false,
    })
}

/// The answer to an activity that no message has room for.
pub fn too_large(request: &ActivityRequest, size: usize, limit: usize) -> ActivityResponse {
    let instance = request.workflow_instance.as_ref();
    ActivityResponse {
        instance_id: instance
            .map(|it| it.instance_id.clone())
            .unwrap_or_default(),
        task_id: request.task_id,
        failure_details: Some(TaskFailureDetails {
            error_type: "PayloadSizeExceeded".to_owned(),
            error_message: format!(
                "the activity takes {size} bytes with its input and the history it is shown, and no message may be over {limit}"
            ),
            is_non_retriable: true,
            ..TaskFailureDetails::default()
        }),
        ..ActivityResponse::default()
    }
}

/// Bytes of the item that an activity is sent in.
pub fn size(request: &ActivityRequest) -> usize {
    request.encoded_len().saturating_add(ENVELOPE)
}

/// What a work item has around its request, in bytes: the token and the heads of two fields.
const ENVELOPE: usize = 128;
