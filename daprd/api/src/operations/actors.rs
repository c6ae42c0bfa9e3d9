//! Actor operations. There is no actor runtime yet, and they answer as one that has no placement service.

use proto::runtime::v1::{InvokeActorRequest, InvokeActorResponse, UnregisterActorTimerRequest};

use super::{Api, Operation, Route, rpc};
use crate::{ApiError, CallContext, http::actors as codec, reason::actors as reason};

pub static ROWS: &[Operation] = &[
    Operation::new(
        "InvokeActor",
        "actors",
        &[rpc!("InvokeActor", "v1", invoke_actor)],
        &[Route {
            methods: &["GET", "POST", "PUT", "DELETE"],
            path: "/v1.0/actors/{type}/{id}/method/{method}",
            codec: |api, call| Box::pin(codec::invoke(api, call)),
        }],
    ),
    Operation::new(
        "UnregisterActorTimer",
        "actors",
        &[rpc!("UnregisterActorTimer", "v1", unregister_actor_timer)],
        &[Route {
            methods: &["DELETE"],
            path: "/v1.0/actors/{type}/{id}/timers/{name}",
            codec: |api, call| Box::pin(codec::unregister_timer(api, call)),
        }],
    ),
];

/// Actor types of the runtime itself, which no caller may touch (contract 1.2).
const RESERVED: &str = "dapr.internal.";

impl Api {
    /// Calls a method of an actor, wherever its host is.
    pub async fn invoke_actor(
        &self,
        _call: &CallContext,
        _request: InvokeActorRequest,
    ) -> Result<InvokeActorResponse, ApiError> {
        Err(no_placement())
    }

    /// Takes a timer away; one that is not there is fine.
    pub async fn unregister_actor_timer(
        &self,
        _call: &CallContext,
        request: UnregisterActorTimerRequest,
    ) -> Result<(), ApiError> {
        check_type(&request.actor_type)?;
        Err(no_placement())
    }
}

/// No placement service is known, so no actor has a host.
pub(crate) fn no_placement() -> ApiError {
    ApiError::new(&reason::NO_PLACEMENT, "placement service is not configured")
}

fn check_type(actor_type: &str) -> Result<(), ApiError> {
    if !actor_type.starts_with(RESERVED) {
        return Ok(());
    }
    Err(ApiError::new(
        &reason::TYPE_RESERVED,
        format!(
            "actor type {actor_type:?} is reserved for the Dapr workflow runtime; direct actor API access is not permitted"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_the_runtime_are_reserved() {
        assert!(check_type("Account").is_ok());
        let error = check_type("dapr.internal.default.app.workflow").unwrap_err();
        assert_eq!(error.reason(), &reason::TYPE_RESERVED);
    }
}
