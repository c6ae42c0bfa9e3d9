//! What is read from work items and answers, and what is left out of them.

use prost::Message;
use proto::durabletask::{
    ActivityRequest, ActivityResponse, CachedHistory, OrchestrationStatus, TaskFailureDetails,
    WorkflowRequest, WorkflowResponse, history_event::EventType, work_item::Request,
    workflow_action::WorkflowActionType,
};

use super::warm::Past;

/// The item without the first `cached` events of its past, which its worker has.
pub fn without(mut item: Request, cached: usize) -> Request {
    if let (Request::WorkflowRequest(request), 1..) = (&mut item, cached) {
        let events = cached.min(request.past_events.len());
        request.past_events.drain(..events);
        request.cached_history = Some(CachedHistory {
            event_count: i32::try_from(events).unwrap_or(i32::MAX),
        });
    }
    item
}

/// The past that a turn has, where the run is known that it is of.
pub fn past(request: &WorkflowRequest) -> Option<Past> {
    let said = request.execution_id.clone();
    let events = request.past_events.iter().chain(&request.new_events);
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
        events: request.past_events.len(),
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
