//! Lock operations.

use std::time::Duration;

use blocks::lock::Error;
use component::lock::Unlocked;
use proto::runtime::v1::{
    TryLockRequest, TryLockResponse, UnlockRequest, UnlockResponse, unlock_response::Status,
};

use super::{Api, Operation, Route, rpc};
use crate::{
    ApiError, CallContext, Reason,
    http::{self, lock as codec},
    reason::lock as reason,
};

pub static ROWS: &[Operation] = &[
    Operation::new(
        "TryLock",
        "lock",
        &[rpc!("TryLockAlpha1", "v1alpha1", try_lock)],
        &[Route {
            methods: &["POST"],
            path: "/v1.0-alpha1/lock/{store}",
            codec: |api, call| {
                Box::pin(http::by_proto(
                    call,
                    |call, request: &mut TryLockRequest| {
                        request.store_name = call.param("store").to_owned();
                    },
                    move |call, request| async move { api.try_lock(&call, request).await },
                ))
            },
        }],
    ),
    Operation::new(
        "Unlock",
        "unlock",
        &[rpc!("UnlockAlpha1", "v1alpha1", unlock)],
        &[Route {
            methods: &["POST"],
            path: "/v1.0-alpha1/unlock/{store}",
            codec: |api, call| Box::pin(codec::unlock(api, call)),
        }],
    ),
];

impl Api {
    /// Takes a resource if it is free.
    pub async fn try_lock(
        &self,
        _call: &CallContext,
        request: TryLockRequest,
    ) -> Result<TryLockResponse, ApiError> {
        let TryLockRequest {
            store_name: store,
            resource_id: resource,
            lock_owner: owner,
            expiry_in_seconds: expiry,
        } = request;
        let Some(expiry) = u64::try_from(expiry).ok().filter(|it| *it > 0) else {
            let message = format!("ExpiryInSeconds is not positive in lock store {store}");
            return Err(ApiError::new(&reason::MALFORMED, message));
        };
        self.check_lock(&store, &resource, &owner)?;
        let expiry = Duration::from_secs(expiry);
        let locks = &self.options.lock;
        let success = locks
            .try_lock(&store, &resource, &owner, expiry)
            .await
            .map_err(|error| {
                lock_error(error, &reason::TRY_LOCK, "failed to try acquiring lock")
            })?;
        Ok(TryLockResponse { success })
    }

    /// Gives a resource back.
    pub async fn unlock(
        &self,
        _call: &CallContext,
        request: UnlockRequest,
    ) -> Result<UnlockResponse, ApiError> {
        let UnlockRequest {
            store_name: store,
            resource_id: resource,
            lock_owner: owner,
        } = request;
        self.check_lock(&store, &resource, &owner)?;
        let unlocked = self.options.lock.unlock(&store, &resource, &owner).await;
        let unlocked = unlocked
            .map_err(|error| lock_error(error, &reason::UNLOCK, "failed to release lock"))?;
        let status = match unlocked {
            Unlocked::Success => Status::Success,
            Unlocked::DoesNotExist => Status::LockDoesNotExist,
            Unlocked::BelongsToOthers => Status::LockBelongsToOthers,
        };
        Ok(UnlockResponse {
            status: status.into(),
        })
    }

    /// What is said before the store is looked for, unless there is none at all.
    fn check_lock(&self, store: &str, resource: &str, owner: &str) -> Result<(), ApiError> {
        if self.options.lock.is_empty() {
            let text = Error::NotConfigured.to_string();
            return Err(ApiError::new(&reason::NOT_CONFIGURED, text));
        }
        for (field, value) in [("ResourceId", resource), ("LockOwner", owner)] {
            if value.is_empty() {
                let message = format!("{field} is empty in lock store {store}");
                return Err(ApiError::new(&reason::MALFORMED, message));
            }
        }
        Ok(())
    }
}

fn lock_error(error: Error, failed: &'static Reason, what: &str) -> ApiError {
    let text = error.to_string();
    match error {
        Error::NotConfigured => ApiError::new(&reason::NOT_CONFIGURED, text),
        Error::NotFound { .. } => ApiError::new(&reason::NOT_FOUND, text),
        Error::IllegalKey { .. } | Error::Component(_) => {
            ApiError::new(failed, format!("{what}: {text}"))
        }
    }
}
