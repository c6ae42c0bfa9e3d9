//! What the Dapr API shows of an instance (contract 2.7).

use std::collections::BTreeMap;

use proto::{
    durabletask::{OrchestrationStatus, WorkflowState},
    runtime::v1::GetWorkflowResponse,
};

/// The answer of the Dapr API.
pub fn described(instance_id: String, state: WorkflowState) -> GetWorkflowResponse {
    let runtime_status = status(state.workflow_status()).to_owned();
    let mut properties = BTreeMap::new();
    let mut put = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            properties.insert(format!("dapr.workflow.{key}"), value);
        }
    };
    put("custom_status", state.custom_status);
    put("input", state.input);
    match state.failure_details {
        // The output of an instance that failed is its failure once more.
        None => put("output", state.output),
        Some(failure) => {
            put("failure.error_type", Some(failure.error_type));
            put("failure.error_message", Some(failure.error_message));
            put("failure.stack_trace", failure.stack_trace);
        }
    }
    GetWorkflowResponse {
        instance_id,
        workflow_name: state.name,
        created_at: state.created_timestamp,
        last_updated_at: state.last_updated_timestamp,
        runtime_status,
        properties,
    }
}

/// The state of an instance by its public name; clients know none for a stalled one.
fn status(status: OrchestrationStatus) -> &'static str {
    match status {
        OrchestrationStatus::Stalled => "UNKNOWN",
        known => {
            let name = known.as_str_name();
            name.strip_prefix("ORCHESTRATION_STATUS_").unwrap_or(name)
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::durabletask::TaskFailureDetails;

    use super::*;

    #[test]
    fn what_failed_has_a_failure_and_no_output() {
        let mut state = WorkflowState {
            input: Some("1".to_owned()),
            output: Some("2".to_owned()),
            ..WorkflowState::default()
        };
        let keys = |state: &WorkflowState| -> Vec<String> {
            let described = described("a".to_owned(), state.clone());
            described.properties.into_keys().collect()
        };
        assert_eq!(
            keys(&state),
            ["dapr.workflow.input", "dapr.workflow.output"]
        );
        state.failure_details = Some(TaskFailureDetails::default());
        let failure = [
            "dapr.workflow.failure.error_message",
            "dapr.workflow.failure.error_type",
            "dapr.workflow.input",
        ];
        assert_eq!(keys(&state), failure);
    }

    #[test]
    fn states_have_their_public_names() {
        assert_eq!(
            status(OrchestrationStatus::ContinuedAsNew),
            "CONTINUED_AS_NEW"
        );
        assert_eq!(status(OrchestrationStatus::Stalled), "UNKNOWN");
    }
}
