//! State of actors.

use ::actors::{
    ActorId,
    state::{Error, Step},
};
use component::state::Item;
use proto::runtime::v1::{
    ExecuteActorStateTransactionRequest, GetActorStateRequest, GetActorStateResponse,
    TransactionalActorStateOperation,
};

use super::{actor_error, check_type};
use crate::{
    Api, ApiError, CallContext, Reason,
    reason::{actors as reason, state as state_reason},
};

impl Api {
    /// The value of a key, and when it expires.
    pub async fn actor_state(
        &self,
        _call: &CallContext,
        request: GetActorStateRequest,
    ) -> Result<GetActorStateResponse, ApiError> {
        check_type(&request.actor_type)?;
        self.check_actors()?;
        let actor = ActorId {
            kind: request.actor_type,
            id: request.actor_id,
        };
        let found = self.options.actor_state.get(&actor, &request.key).await;
        let found = found.map_err(|error| {
            state_error(&error, &reason::STATE_GET, "error getting actor state")
        })?;
        let Item {
            value, metadata, ..
        } = found.unwrap_or_default();
        Ok(GetActorStateResponse {
            data: value,
            metadata,
        })
    }

    /// Applies all steps or none.
    pub async fn actor_transaction(
        &self,
        _call: &CallContext,
        request: ExecuteActorStateTransactionRequest,
    ) -> Result<(), ApiError> {
        check_type(&request.actor_type)?;
        self.check_actors()?;
        let steps = request.operations.into_iter().map(step);
        let steps = steps.collect::<Result<_, _>>()?;
        self.transact_actor(request.actor_type, request.actor_id, steps)
            .await
    }

    /// The same with steps that are decoded.
    pub(crate) async fn transact_actor(
        &self,
        kind: String,
        id: String,
        steps: Vec<Step>,
    ) -> Result<(), ApiError> {
        let actor = self.check_actor_here(kind, id).await?;
        let saved = self.options.actor_state.transact(&actor, steps).await;
        saved.map_err(|error| state_error(&error, &reason::STATE_TRANSACTION, NOT_SAVED))
    }

    /// The actor, if it lives here: its state is nobody else's business.
    pub(crate) async fn check_actor_here(
        &self,
        kind: String,
        id: String,
    ) -> Result<ActorId, ApiError> {
        check_type(&kind)?;
        self.check_actors()?;
        let actor = ActorId { kind, id };
        let here = self.options.actors.active_here(&actor).await;
        here.map_err(|error| actor_error(error, not_saved))?;
        Ok(actor)
    }
}

const NOT_SAVED: &str = "error saving actor transaction state";

/// A transaction that has failed.
pub(crate) fn not_saved(problem: &str) -> ApiError {
    ApiError::new(
        &reason::STATE_TRANSACTION,
        format!("{NOT_SAVED}: {problem}"),
    )
}

fn state_error(error: &Error, failed: &'static Reason, what: &str) -> ApiError {
    match error {
        Error::NoStore => ApiError::new(&reason::NO_STORE, error.to_string()),
        _ => ApiError::new(failed, format!("{what}: {error}")),
    }
}

fn step(operation: TransactionalActorStateOperation) -> Result<Step, ApiError> {
    let key = operation.key;
    match operation.operation_type.as_str() {
        "upsert" => Ok(Step::Upsert {
            key,
            value: operation.value.unwrap_or_default().value.into(),
            etag: None,
            metadata: operation.metadata,
        }),
        "delete" => Ok(Step::Delete { key, etag: None }),
        other => Err(ApiError::new(
            &state_reason::UNSUPPORTED_OPERATION,
            format!("operation type {other} not supported"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_upserts_and_deletes() {
        let of = |kind: &str| {
            step(TransactionalActorStateOperation {
                operation_type: kind.to_owned(),
                key: "k".to_owned(),
                ..TransactionalActorStateOperation::default()
            })
        };
        assert!(matches!(of("upsert"), Ok(Step::Upsert { key, .. }) if key == "k"));
        assert!(matches!(of("delete"), Ok(Step::Delete { .. })));
        let refused = of("merge").unwrap_err();
        assert_eq!(refused.reason(), &state_reason::UNSUPPORTED_OPERATION);
    }

    #[test]
    fn a_store_that_is_not_there_has_its_own_reason() {
        let of = |error: &Error| state_error(error, &reason::STATE_GET, "x").reason();
        assert_eq!(of(&Error::NoStore), &reason::NO_STORE);
        assert_eq!(of(&Error::TooManyOperations), &reason::STATE_GET);
    }
}
